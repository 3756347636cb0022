// Elements, and numbers as people read them.

const PREFIXES = ["", "K", "M", "G", "T", "P", "E"];

/** An element: its tag and classes as `tag.class`, its properties, what is in it. Text is never read as HTML. */
export function el(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts these in the place of all that is in an element, and keeps the focus where it was if that is still there. */
export function fill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  if (focused) parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

export function bytes(count) {
  if (count === null || count === undefined) return "?";
  let power = 0;
  let scaled = count;
  while (scaled >= 999.5 && power < PREFIXES.length - 1) {
    scaled /= 1000;
    power += 1;
  }
  const digits = power === 0 || scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${PREFIXES[power]}B`;
}

export const rate = (perSecond) => `${bytes(perSecond)}/s`;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
}

/** A share; one that is neither nothing nor all is never shown as if it were. */
export function percent(share) {
  const hundredths = share * 100;
  if (share > 0 && hundredths < 0.1) return "< 0.1 %";
  if (share < 1 && hundredths > 99.9) return "> 99.9 %";
  return `${hundredths.toFixed((share > 0 && share < 0.1) || (share > 0.99 && share < 1) ? 1 : 0)} %`;
}
export const number = (count) => count.toLocaleString("en");
/** An id short enough for a box. Those of nodes all begin alike. */
export const brief = (id) => (id.startsWith("12D3KooW") ? `…${id.slice(-8)}` : id.length > 18 ? `${id.slice(0, 8)}…${id.slice(-8)}` : id);
/** A text in which the ids of nodes are short. */
export const readable = (text) => text.replace(/12D3KooW\w{44}/g, brief);

/** An instant as the reader's own clock has it. */
export function instant(text) {
  if (!text) return "";
  const date = new Date(text);
  return el("time", { datetime: text, title: text }, date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
}

/** Says something to who can't see it change. */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  if (announcer.textContent !== text) announcer.textContent = text;
}

/** A bar that is full to a share, with what it means in words. */
export function bar(share, label, kind = "") {
  const inner = el("span");
  inner.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
  return el(`div.bar${kind ? `.${kind}` : ""}`, { role: "img", "aria-label": label }, inner);
}

/** The last values of something as a line. */
export function spark(values, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 120 28");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const most = Math.max(1, ...values);
  const step = 120 / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(26 - (value / most) * 24).toFixed(1)}`);
  for (const [name, list] of [["polygon", ["0,28", ...points, "120,28"]], ["polyline", points]]) {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    shape.setAttribute("points", list.join(" "));
    svg.append(shape);
  }
  return svg;
}

export function card(title, ...children) {
  return el("section.card", { "aria-label": title }, el("h2", {}, title), ...children);
}

export const none = (text) => el("p.none", {}, text);
