// What does not fit on the screen: the page where it is wider, and what can be used but can't be reached or hit.

// On a phone the inner width grows with a page that is too wide, and the client's does not.
const width = document.documentElement.clientWidth;
const wrong = [];
if (document.documentElement.scrollWidth > width) wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
for (const element of document.querySelectorAll("a[href], button, label.main, input:not(.visually-hidden)")) {
  if (!element.checkVisibility() || element.classList.contains("skip")) continue;
  const box = element.getBoundingClientRect();
  const name = element.textContent.trim() || element.getAttribute("aria-label") || element.id;
  const scrolls = element.closest(".scroll");
  if (!scrolls && (box.left < 0 || box.right > width + 0.5)) wrong.push(`${name} sticks out: ${box.left} to ${box.right} of ${width}`);
  // WCAG 2.2, 2.5.8; links in a run of text are excepted there.
  const inText = getComputedStyle(element).display === "inline";
  if (!inText && (box.width < 24 || box.height < 24)) wrong.push(`${name} is ${box.width} by ${box.height}`);
}
return wrong;
