// The nodes on a map of what fails together: region, site and host as boxes in boxes.

import { bytes, brief, el, fill, percent } from "./dom.js";

/** More nodes than this are drawn small. */
const LARGE_MAX = 48;

/** What is the matter with a node: a word, a sign that needs no colour, and how bad it is. */
export function stateOf(peer) {
  if (!peer.reachable) return { word: "silent", sign: "✕", kind: "bad" };
  if (peer.state === "gone") return { word: "gone", sign: "○", kind: "bad" };
  if (peer.full) return { word: "full", sign: "▲", kind: "warn" };
  if (peer.state === "draining") return { word: "draining", sign: "▽", kind: "warn" };
  if (peer.state === "joining") return { word: "joining", sign: "＋", kind: "idle" };
  return { word: "active", sign: "●", kind: "good" };
}

const loadOf = (peer) => (peer.capacity > 0 && peer.used !== null ? peer.used / peer.capacity : 0);

function grouped(peers, label) {
  const groups = new Map();
  for (const peer of peers) {
    const name = label(peer);
    groups.set(name, [...(groups.get(name) ?? []), peer]);
  }
  return [...groups].sort(([one], [other]) => one.localeCompare(other));
}

function tile(peer, small) {
  const state = stateOf(peer);
  const load = loadOf(peer);
  const label = `node ${brief(peer.peer_id)} on ${peer.host}, ${peer.role}, ${state.word}, ${percent(load)} of ${bytes(peer.capacity)} used`;
  const gauge = el("span.gauge", {}, el("span"));
  gauge.firstChild.style.height = `${Math.max(load * 100, load > 0 ? 2 : 0)}%`;
  const text = el(
    "span.tile-text",
    {},
    el("span.tile-name", {}, brief(peer.peer_id)),
    el("span.tile-more", {}, [peer.role !== "storage" && peer.role, state.word !== "active" && state.word, peer.used !== null && `${bytes(peer.used)} of ${bytes(peer.capacity)}`].filter(Boolean).join(" · ")),
  );
  return el(
    `a.tile.${state.kind}${small ? ".small" : ""}`,
    { href: `#/node/${peer.peer_id}`, "aria-label": label, title: small ? label : undefined, "data-key": peer.peer_id },
    gauge,
    small ? null : text,
    el("span.sign", { "aria-hidden": "true" }, state.sign),
  );
}

function host(name, peers, small) {
  const tiles = peers.map((peer) => tile(peer, small));
  if (small) return el("div.host.plain", {}, tiles);
  return el("div.host", {}, el("h5", {}, name === "-" ? "unnamed host" : name), el("div.tiles", {}, tiles));
}

function site(name, peers, small) {
  const hosts = grouped(peers, (peer) => peer.host).map(([label, some]) => host(label, some, small));
  const inside = el("div.hosts", {}, hosts);
  return name === "-" ? inside : el("div.site", {}, el("h4", {}, name), inside);
}

/** Draws the map. */
export function drawMap(parent, peers) {
  const small = peers.length > LARGE_MAX;
  const regions = grouped(peers, (peer) => peer.region).map(([name, some]) => {
    const sites = grouped(some, (peer) => peer.site).map(([label, few]) => site(label, few, small));
    const inside = el("div.sites", {}, sites);
    return name === "-" ? inside : el("div.region", {}, el("h3", {}, name), inside);
  });
  const signs = [["good", "●", "active"], ["warn", "▲", "full or ▽ draining"], ["bad", "✕", "silent"]];
  const legend = el(
    "ul.legend",
    {},
    signs.map(([kind, sign, word]) => el("li", {}, el(`span.${kind}`, { "aria-hidden": "true" }, sign), ` ${word}`)),
    el("li", {}, "the bar in a box is how full it is"),
  );
  fill(parent, el("div.map", {}, regions), legend);
}
