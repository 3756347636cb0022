// Why it is not seen where the focus is; null if it is.

const element = document.activeElement;
// What is chosen by a label of its own shows the focus there.
const shown = element.classList.contains("visually-hidden") ? document.querySelector(`label[for="${element.id}"]`) : element;
if (shown === document.body) return null;
const style = getComputedStyle(shown);
const box = shown.getBoundingClientRect();
const name = shown.outerHTML.slice(0, 120);
if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return `no outline: ${name}`;
if (box.bottom <= 0 || box.top >= innerHeight || box.width === 0) return `not on the screen: ${name}`;
const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
if (!shown.contains(top) && !top?.contains(shown)) return `behind something: ${name}`;
return null;
