// The page: who looks, at what, in which colours.

import { forget, get, keep, listen, token } from "./api.js";
import { drawBucket, drawBuckets } from "./browse.js";
import { drawFind, drawNode, drawObject, failed } from "./details.js";
import { announce, el, fill } from "./dom.js";
import { drawOverview, remember } from "./overview.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
const state = { mesh: null, traffic: null, transfers: [], denied: null };
let stop = null;
let view = null;

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
  stop = null;
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
      begin();
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
    if (before !== undefined && before !== now) announce(now ? `Alerts: ${data.health.alerts[0].message}` : "There are no alerts any more");
  } else if (event === "transfers") {
    Object.assign(state, data);
  }
  drawLive();
}

function drawLive() {
  if (view !== "overview" || state.denied || !token()) return;
  drawOverview(main, state);
  entitle();
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

async function route() {
  if (!token()) return signIn();
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const [name, first, ...rest] = parts;
  view = name === "" ? "overview" : ["files", "object", "find", "node"].includes(name) ? name : "overview";
  const shown = { node: "overview", object: "find" }[view] ?? view;
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    if (view === "overview") {
      fill(main);
      if (state.denied) fill(main, failed(state.denied));
      else drawOverview(main, state);
    } else if (view === "files" && first) await drawBucket(main, first, rest.join("/"));
    else if (view === "files") await drawBuckets(main);
    else if (view === "node") await drawNode(main, first);
    else if (view === "object") await drawObject(main, first);
    else drawFind(main);
  } catch (error) {
    if (error.status === 401) {
      forget();
      return signIn(error.message);
    }
    fill(main, failed(error));
  }
  entitle();
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
window.addEventListener("hashchange", async () => { await route(); if (token()) main.focus({ preventScroll: true }); window.scrollTo(0, 0); });
setInterval(() => { if (state.traffic) { remember(state.traffic); drawLive(); } }, 1000);
if (token()) begin();
else signIn();
