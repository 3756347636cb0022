// What who can't see the page would miss in it.

const lacks = [];
const expect = (holds, text) => { if (!holds) lacks.push(text); };
const all = (selector) => [...document.querySelectorAll(selector)];
const seen = (element) => element.checkVisibility();

expect(document.documentElement.lang === "en", "the page has no language");
expect(document.title.endsWith("DataMesh") && document.title.length > "DataMesh".length, `its title is ${document.title}`);
for (const landmark of ["header", "nav[aria-label]", "main", "footer"]) {
  expect(all(landmark).filter(seen).length >= 1, `there is no ${landmark}`);
}
expect(all("main").length === 1, "there is more than one main part");
expect(all("h1").filter(seen).length === 1, `there are ${all("h1").length} first headings`);
let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6").filter(seen)) {
  const own = Number(heading.tagName[1]);
  expect(own <= level + 1, `heading ${heading.textContent} leaves out a level`);
  level = own;
}
for (const image of all("img")) expect(image.hasAttribute("alt"), `an image has no text: ${image.src}`);
for (const drawing of all("svg, [role=img]").filter(seen)) {
  expect(drawing.getAttribute("aria-label") || drawing.closest("[aria-hidden=true]"), `a drawing has no text: ${drawing.outerHTML.slice(0, 80)}`);
}
const ids = all("[id]").map((element) => element.id);
expect(new Set(ids).size === ids.length, `an id is there twice: ${ids}`);
for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
  for (const element of all(`[${attribute}]`).filter(seen)) {
    expect(document.getElementById(element.getAttribute(attribute)), `${attribute} names what is not there: ${element.getAttribute(attribute)}`);
  }
}
for (const cell of all("th").filter(seen)) expect(cell.scope, `a heading of a table is of no row or column: ${cell.textContent}`);
for (const element of all("[tabindex]")) expect(element.tabIndex <= 0, "the order of tabs is another than that of reading");
expect(all("[aria-live=polite]").length >= 1 && all("[role=status]").length >= 1, "what changes is not said");
return lacks;
