// The texts on the page that can't be read well: each with its contrast and what that should be (WCAG 2.2, 1.4.3).

const numbers = (colour) => {
  const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
  return { red, green, blue, alpha };
};
const over = (upper, lower) => {
  const mixed = (name) => upper[name] * upper.alpha + lower[name] * (1 - upper.alpha);
  return { red: mixed("red"), green: mixed("green"), blue: mixed("blue"), alpha: 1 };
};
const light = ({ red, green, blue }) => {
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
};
const behind = (element) => {
  const layers = [];
  for (let one = element; one; one = one.parentElement) layers.push(numbers(getComputedStyle(one).backgroundColor));
  return layers.reverse().reduce((lower, upper) => over(upper, lower), { red: 255, green: 255, blue: 255, alpha: 1 });
};
const poor = [];
let looked = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const seen = element.checkVisibility() && !element.closest(".visually-hidden, .skip, noscript") && box.width > 1;
  if (!seen || !walker.currentNode.data.trim()) continue;
  looked += 1;
  const ground = behind(element);
  const [one, other] = [light(over(numbers(style.color), ground)), light(ground)];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const least = large ? 3 : 4.5;
  if (contrast < least) poor.push(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)} of ${least}`);
}
const ground = getComputedStyle(document.documentElement).backgroundColor;
return { looked, poor, ground: light(numbers(ground)) };
