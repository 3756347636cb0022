// The page: who looks, at what, in which colours.

import { forget, get, keep, listen, token } from "./api.js";
import { drawBucket, drawBuckets } from "./browse.js";
import { drawFind, drawNode, drawObject, failed } from "./details.js";
import { announce, el, fill, readable } from "./dom.js";
import { drawOverview, remember } from "./overview.js";

/** Between two looks at one node or object, at the least: each asks nodes. */
const LOOK_AGAIN_MS = 3000;

const main = document.getElementById("main");
const live = document.getElementById("live");
const state = { mesh: null, traffic: null, transfers: [], denied: null };
/** What had the focus when a view was left, by the view's address. */
const left = new Map();
let stop = null;
let view = null;
/** Whether a finger or a button of the mouse is down: what it is on must be there when it goes up. */
let pressed = false;
/** What the view is drawn in. An answer that comes after the reader has gone on falls into one that is not shown any more. */
let page = main;
/** Draws the node or object anew that is shown, if one is. */
let look = null;
let lookingAgain = null;
/** The addresses from the last view that is not about one node or object to the one that is shown: there leads the way back. */
let trail = ["#/"];

function theme(choice) {
  document.documentElement.dataset.theme = choice;
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[choice];
  button.setAttribute("aria-label", `Colours: ${choice}. Change`);
  button.title = `Colours: ${choice}`;
}

function setUpTheme() {
  const choices = ["auto", "light", "dark"];
  const kept = localStorage.getItem("datamesh-theme");
  theme(choices.includes(kept) ? kept : "auto");
  document.getElementById("theme").addEventListener("click", () => {
    const next = choices[(choices.indexOf(document.documentElement.dataset.theme) + 1) % choices.length];
    localStorage.setItem("datamesh-theme", next);
    theme(next);
  });
}

function signIn(why) {
  stop?.();
  stop = look = null;
  document.getElementById("views").hidden = true;
  document.getElementById("leave").hidden = true;
  live.textContent = "";
  const input = el("input", { type: "password", name: "token", required: true, autocomplete: "current-password", spellcheck: "false", "aria-describedby": "token-help", id: "token" });
  const trouble = el("p.problem-text", { role: "alert" }, why ?? "");
  const enter = async (event) => {
    event.preventDefault();
    keep(input.value.trim());
    try {
      await get("/api/v1/buckets");
      await begin();
      if (document.activeElement === document.body) main.focus({ preventScroll: true });
    } catch (error) {
      forget();
      trouble.textContent = error.message;
      input.select();
    }
  };
  fill(main, el("form.card.sign-in", { onsubmit: enter }, el("img", { src: "/assets/icon.svg", alt: "", width: "48", height: "48" }), el("h1", {}, "Look at the mesh"),
    el("label", { for: "token" }, "Token"), input, el("p.dim", { id: "token-help" }, "An access key of this gateway, as ID.SECRET. This tab keeps it and forgets it when it is closed."), trouble, el("button.main", { type: "submit" }, "Enter")));
  input.focus();
}

function began(event, data) {
  if (event === "mesh") {
    const before = state.mesh?.health.alerts.map((alert) => alert.message).join();
    state.mesh = data;
    const now = data.health.alerts.map((alert) => alert.message).join();
    if (before !== undefined && before !== now) announce(now ? `Alerts: ${readable(data.health.alerts[0].message)}` : "There are no alerts any more");
  } else if (event === "transfers") {
    Object.assign(state, data);
  }
  drawLive();
  if (event === "mesh") lookAgain();
}

function drawLive() {
  if (view !== "overview" || state.denied || pressed || !token()) return;
  drawOverview(page, state);
  entitle();
}

/** The mesh has changed: so may have the node or object that is shown. */
function lookAgain() {
  if (!look || lookingAgain) return;
  lookingAgain = setTimeout(async () => {
    lookingAgain = null;
    if (pressed) return lookAgain();
    const [shown, badge] = [page, page.querySelector(".title .badge")?.textContent];
    // That the gateway does not answer is said above: what it said last is worth more than that.
    await look?.().catch((error) => { if (error.status !== 0) fill(shown, failed(error)); });
    const now = shown.querySelector(".title .badge")?.textContent;
    if (shown === page && badge && now && badge !== now) announce(`${shown.querySelector("h1").textContent}: ${now}`);
  }, LOOK_AGAIN_MS);
}

function entitle() {
  document.title = `${main.querySelector("h1")?.textContent ?? "Overview"} · DataMesh`;
}

function onState(now, error) {
  const texts = { live: "● live", waiting: "○ connecting…", denied: "" };
  live.textContent = texts[now];
  live.className = `live ${now}`;
  if (now !== "denied") return;
  if (error.status === 401) {
    forget();
    return signIn(error.message);
  }
  state.denied = error;
  if (view === "overview") location.hash = "#/files";
}

/** The address of a view. */
const addressOf = ({ hash }) => hash || "#/";

async function route() {
  if (!token()) return signIn();
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const [name, first, ...rest] = parts;
  view = ["files", "object", "find", "node"].includes(name) ? name : "overview";
  const drawn = el("div.view");
  page = drawn;
  fill(main, drawn);
  look = { node: () => drawNode(page, first, back()), object: () => drawObject(page, first, back()) }[view] ?? null;
  const known = trail.indexOf(addressOf(location));
  if (!look) trail = [addressOf(location)];
  else trail = known < 0 ? [...trail, addressOf(location)] : trail.slice(0, known + 1);
  const shown = { node: "overview", object: "find" }[view] ?? view;
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    if (look) await look();
    else if (view === "files" && first) await drawBucket(page, first, rest.join("/"));
    else if (view === "files") await drawBuckets(page);
    else if (view === "find") drawFind(page);
    else if (state.denied) fill(page, failed(state.denied));
    else drawOverview(page, state);
  } catch (error) {
    if (error.status === 401) {
      forget();
      return signIn(error.message);
    }
    fill(drawn, failed(error));
  }
  entitle();
}

/** The way back from one node or object. */
function back() {
  const to = trail.at(-2) ?? "#/";
  const name = { files: "Files", find: "Find object", node: "Node", object: "Object" }[to.split("/")[1]] ?? "Overview";
  return el("p.back", {}, el("a", { href: to, "data-key": "back" }, `← ${name}`));
}

/** Another view: who comes back to one finds the focus where it was. */
async function turn(event) {
  const key = document.activeElement?.dataset.key;
  if (key && main.contains(document.activeElement)) left.set(addressOf(new URL(event.oldURL)), key);
  await route();
  if (!token()) return;
  window.scrollTo(0, 0);
  const known = left.get(addressOf(location));
  left.delete(addressOf(location));
  const element = known ? main.querySelector(`[data-key="${CSS.escape(known)}"]`) : null;
  if (element) element.focus();
  else if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
}

async function begin() {
  document.getElementById("views").hidden = false;
  document.getElementById("leave").hidden = false;
  Object.assign(state, { mesh: null, traffic: null, transfers: [], denied: null });
  fetch("/readyz").then((response) => response.json()).then(({ mesh }) => { document.getElementById("mesh-name").textContent = mesh; }).catch(() => {});
  stop?.();
  stop = listen({ onEvent: began, onState });
  await route();
}

setUpTheme();
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); main.scrollIntoView(); });
document.getElementById("leave").addEventListener("click", () => { forget(); signIn("You have signed out."); });
// Dropped beside the place for it, a file must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
for (const name of ["pointerdown", "pointerup", "pointercancel"]) window.addEventListener(name, (event) => { pressed = event.type === "pointerdown"; }, true);
window.addEventListener("hashchange", turn);
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) main.querySelector(".back a")?.click();
});
setInterval(() => { if (state.traffic) { remember(state.traffic); drawLive(); } }, 1000);
if (token()) begin();
else signIn();
