// Buckets and what is in them: browsed, put by dropping files, and saved.

import { Problem, ask, download, get, inBucket, upload } from "./api.js";
import { announce, bar, bytes, card, el, fill, instant, none, percent, rate } from "./dom.js";

const place = (bucket, prefix = "") => `#/files/${encodeURIComponent(bucket)}${prefix ? `/${prefix.split("/").map(encodeURIComponent).join("/")}` : ""}`;
/** Uploads under way and done in this tab, the latest first. */
const uploads = [];
/** Files that are sent at once. */
const SENT_AT_ONCE = 2;

let redraw = () => {};

export async function drawBuckets(parent) {
  const buckets = await get("/api/v1/buckets");
  const list = buckets.map(({ bucket, versioning }) =>
    el("li", {}, el("a.bucket", { href: place(bucket), "data-key": bucket }, el("span", { "aria-hidden": "true" }, "▤"), el("span.grow", {}, bucket), el("span.dim", {}, versioning === "off" ? "" : `versions ${versioning}`))));
  const input = el("input", { name: "bucket", required: true, minlength: "3", maxlength: "63", pattern: "[a-z0-9][a-z0-9.\\-]*[a-z0-9]", autocomplete: "off", spellcheck: "false", placeholder: "a-new-bucket", "aria-label": "Name of a new bucket" });
  const trouble = el("p.problem-text", { role: "alert" });
  const make = async (event) => {
    event.preventDefault();
    try {
      await ask("PUT", `/api/v1/buckets/${encodeURIComponent(input.value)}`);
      location.hash = place(input.value);
    } catch (error) {
      trouble.textContent = error.message;
    }
  };
  fill(parent, el("h1", {}, "Files"), card("Buckets", list.length ? el("ul.rows.buckets", {}, list) : none("There are no buckets yet.")),
    card("New bucket", el("form.find", { onsubmit: make }, input, el("button.main", { type: "submit" }, "Make it")), trouble));
}

function crumbs(bucket, prefix) {
  const parts = prefix.split("/").filter(Boolean);
  const links = parts.map((part, index) => el("li", {}, el("a", { href: place(bucket, `${parts.slice(0, index + 1).join("/")}/`) }, part)));
  return el("nav.crumbs", { "aria-label": "Where this is" }, el("ol", {}, el("li", {}, el("a", { href: "#/files" }, "Files")), el("li", {}, el("a", { href: place(bucket) }, bucket)), links));
}

function keyRow(bucket, prefix, { key, size, modified }, say) {
  const name = key.slice(prefix.length) || key;
  const path = inBucket(bucket, key);
  const save = async (event) => {
    const button = event.currentTarget;
    try {
      await download(path, name.split("/").pop(), (done) => { button.textContent = size ? percent(done / size) : "…"; });
      announce(`${name} is saved`);
    } catch (error) {
      if (error.name !== "AbortError") say(error);
    }
    button.textContent = "Save";
  };
  const remove = async () => {
    if (!(await confirmed(`Delete ${name}?`, "Its space is given back after a minute.", "Delete"))) return;
    await ask("DELETE", path).catch(say);
    redraw();
  };
  const look = async () => {
    try {
      const info = await get(`${path}?info=1`);
      if (info.object) location.hash = `#/object/${info.object}`;
      else say(new Problem(0, "", `It is made of ${info.objects.length} objects: ${info.objects.join(", ")}`));
    } catch (error) {
      say(error);
    }
  };
  const button = (text, act, label) => el("button.quiet", { type: "button", onclick: act, "aria-label": `${label} ${name}`, "data-key": `${text} ${key}` }, text);
  return el("tr", {}, el("th.name", { scope: "row" }, el("span.clip", {}, name)), el("td.right", {}, bytes(size)), el("td.when.dim", {}, instant(modified)),
    el("td.actions", {}, button("Save", save, "Save"), button("Info", look, "Where are the shards of"), button("Delete", remove, "Delete")));
}

export async function drawBucket(parent, bucket, prefix, after = null) {
  const query = new URLSearchParams({ prefix, delimiter: "/", limit: "200" });
  if (after) query.set("after", after);
  const page = await get(`${inBucket(bucket)}?${query}`);
  redraw = () => drawBucket(parent, bucket, prefix, after).catch(() => {});
  const trouble = el("p.problem-text", { role: "alert" });
  const say = (error) => { trouble.textContent = error.message; };
  const folders = page.prefixes.map((name) =>
    el("tr", {}, el("th.name", { scope: "row" }, el("a", { href: place(bucket, name), "data-key": name }, el("span", { "aria-hidden": "true" }, "▸ "), name.slice(prefix.length))), el("td"), el("td.when"), el("td")));
  const rows = page.keys.map((key) => keyRow(bucket, prefix, key, say));
  const head = el("tr", {}, el("th", { scope: "col" }, "Name"), el("th.right", { scope: "col" }, "Size"), el("th.when", { scope: "col" }, "Put"), el("th", { scope: "col" }, el("span.visually-hidden", {}, "Actions")));
  const table = el("div.scroll", {}, el("table.files", {}, el("thead", {}, head), el("tbody", {}, folders, rows)));
  const more = page.next ? el("button.quiet", { type: "button", onclick: () => drawBucket(parent, bucket, prefix, page.next).catch(say) }, "Next page") : null;
  const first = after ? el("button.quiet", { type: "button", onclick: () => drawBucket(parent, bucket, prefix).catch(say) }, "First page") : null;
  const title = el("h1.visually-hidden", {}, prefix.split("/").filter(Boolean).at(-1) ?? bucket);
  fill(parent, title, crumbs(bucket, prefix), dropZone(bucket, prefix), el("div.uploads", { id: "uploads" }), trouble,
    rows.length + folders.length ? table : none("Nothing is here yet."), el("p.pages", {}, first, more));
  drawUploads();
}

/** Asks whether something is meant. */
function confirmed(title, text, yes) {
  const dialog = document.getElementById("ask");
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.returnValue = "";
    fill(dialog, el("form", { method: "dialog" }, el("h2", { id: "ask-title" }, title), el("p", {}, text),
      el("div.buttons", {}, el("button.quiet", { value: "no", autofocus: true }, "Keep it"), el("button.danger", { value: "yes" }, yes))));
    dialog.showModal();
  });
}

function dropZone(bucket, prefix) {
  const input = el("input.visually-hidden", { type: "file", multiple: true, id: "pick", onchange: () => { enqueue(bucket, prefix, [...input.files]); input.value = ""; } });
  const zone = el("div.drop", {}, input, el("label.main", { for: "pick" }, "Choose files"), el("span", {}, `or drop them here, into ${bucket}/${prefix}`));
  const over = (event) => {
    event.preventDefault();
    zone.classList.toggle("over", event.type === "dragover");
  };
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", over);
  zone.addEventListener("drop", (event) => {
    over(event);
    enqueue(bucket, prefix, [...event.dataTransfer.files]);
  });
  return zone;
}

function enqueue(bucket, prefix, files) {
  for (const file of files) {
    uploads.unshift({ bucket, key: prefix + file.name, file, done: 0, phase: "waiting", began: 0, error: "", stopper: new AbortController() });
  }
  if (files.length) announce(`${files.length} files are put`);
  drawUploads();
  pump();
}

function pump() {
  const running = uploads.filter((one) => one.phase === "running").length;
  const next = uploads.findLast((one) => one.phase === "waiting");
  if (running >= SENT_AT_ONCE || !next) return;
  Object.assign(next, { phase: "running", began: performance.now() });
  upload(next.bucket, next.key, next.file, (done) => { next.done = done; drawUploads(); }, next.stopper.signal)
    .then(() => { next.phase = "done"; announce(`${next.key} is put`); redraw(); })
    .catch((error) => { Object.assign(next, { phase: "broken", error: error.message }); announce(`${next.key} was not put: ${error.message}`); })
    .finally(() => { drawUploads(); pump(); });
  pump();
}

function drawUploads() {
  const parent = document.getElementById("uploads");
  if (!parent) return;
  const row = (one) => {
    const share = one.file.size ? one.done / one.file.size : one.phase === "done" ? 1 : 0;
    const seconds = (performance.now() - one.began) / 1000;
    const told = { waiting: "waits", running: `${percent(share)} · ${rate(one.done / Math.max(seconds, 0.5))}`, done: "done", broken: one.error }[one.phase];
    const stop = one.phase === "running" || one.phase === "waiting"
      ? el("button.quiet", { type: "button", "data-key": `stop ${one.key}`, onclick: () => { one.stopper.abort(); if (one.phase === "waiting") Object.assign(one, { phase: "broken", error: "it was given up" }); drawUploads(); } }, "Stop")
      : null;
    return el(`li.transfer.${one.phase}`, {}, el("div.grow", {}, el("p.clip", {}, one.key), bar(share, `${percent(share)} sent`, one.phase === "broken" ? "bad" : one.phase === "done" ? "good" : "")), el("span.dim.right", {}, told), stop);
  };
  fill(parent, uploads.length ? card("Put from here", el("ul.rows", {}, uploads.slice(0, 8).map(row))) : null);
}
