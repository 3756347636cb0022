// One node, and one object.

import { Problem, get } from "./api.js";
import { bar, brief, bytes, card, duration, el, fill, instant, none, number, percent, readable } from "./dom.js";
import { stateOf } from "./map.js";

function facts(pairs) {
  return el("dl.facts", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export const failed = (error) =>
  el("section.card.problem", { role: "alert" }, el("h2", {}, error.status === 404 ? "There is no such thing" : "That did not work"),
    el("p", {}, error instanceof Problem ? error.message : String(error)), error.hint ? el("p.dim", {}, error.hint) : null);

/** Asks for what is to be drawn; says so if nothing is there yet. Gives null if what is there tells the same. */
async function asked(parent, path, words, lasting) {
  if (!parent.hasChildNodes()) fill(parent, el("p.none.wait", { role: "status" }, words));
  const told = await get(path);
  const text = JSON.stringify(lasting(told));
  if (parent.dataset.drawn === text) return null;
  parent.dataset.drawn = text;
  return told;
}

export async function drawNode(parent, id, back) {
  const lasting = (peer) => ({ ...peer, latency_s: 0, uptime_s: 0, write_us: 0 });
  const peer = await asked(parent, `/api/v1/peers/${encodeURIComponent(id)}`, "The node is being asked…", lasting);
  if (!peer) return;
  const state = stateOf(peer);
  const load = peer.capacity > 0 && peer.used !== null ? peer.used / peer.capacity : 0;
  fill(
    parent,
    back,
    el("div.title", {}, el("h1", {}, `Node ${brief(peer.peer_id)}`), el(`span.badge.${state.kind}`, {}, `${state.sign} ${state.word}`)),
    el("p.id.whole", {}, peer.peer_id),
    peer.error ? el("p.problem-text", { role: "alert" }, peer.error) : null,
    el("div.columns", {},
      card("Disk", el("p.big", {}, percent(load)), bar(load, `${percent(load)} used`, peer.full ? "warn" : ""),
        facts([["Used", bytes(peer.used)], ["Offers", bytes(peer.capacity)], ["Items", peer.item_count === null ? null : number(peer.item_count)],
          ["An item is written in", peer.write_us === null ? null : duration(peer.write_us / 1e6)], ["Takes more", peer.full === null ? null : peer.full ? "no" : "yes"]])),
      card("Place", facts([["Region", peer.region], ["Site", peer.site], ["Host", peer.host], ["Role", peer.role],
        ["Placement groups led", peer.groups_led === null ? null : number(peer.groups_led)], ["Software", peer.software],
        ["Up for", peer.uptime_s === null ? null : duration(peer.uptime_s)], ["Answers in", peer.latency_s === null ? null : duration(peer.latency_s)]])),
      card("With this gateway", facts([["Sent to it", bytes(peer.sent)], ["Got from it", bytes(peer.received)]]),
        el("h3.behind", {}, "Addresses"), peer.addresses.length ? el("ul.plain", {}, peer.addresses.map((address) => el("li.id", {}, address))) : none("It has no address: it is in this process.")),
    ),
    card("Alerts about it", peer.alerts.length
      ? el("ul.rows", {}, peer.alerts.map((alert) => el(`li.alert.${alert.level === "WARNING" ? "warn" : "bad"}`, {}, el("span.badge", {}, alert.level), el("div.grow", {}, el("p", { title: alert.message }, readable(alert.message)), el("p.dim", {}, alert.advice)))))
      : none("None.")),
  );
}

const LEVELS = { WARNING: "warn", CRITICAL: "bad", LOST: "bad" };

/** The shards of a stripe as squares: there, or not. */
function stripeRow(stripe, data) {
  const squares = stripe.shards.map((shard, index) =>
    el(`a.shard.${shard.node ? "good" : "bad"}${index < data ? "" : ".parity"}`,
      { href: shard.node ? `#/node/${shard.node}` : null, "data-key": `shard ${stripe.index} ${index}`, "aria-label": `${index < data ? "data" : "parity"} shard ${index}: ${shard.node ? `on ${brief(shard.node)}` : "missing"}`, title: shard.node ? brief(shard.node) : "missing" },
      shard.node ? "" : "✕"));
  return el("tr", {}, el("th", { scope: "row" }, number(stripe.index)), el("td.right", {}, bytes(stripe.sealed_size)), el("td", {}, el("span.shards", {}, squares)), el("td.dim", {}, stripe.survives));
}

export async function drawObject(parent, id, back) {
  const path = `/api/v1/objects/${encodeURIComponent(id)}/info?limit=200`;
  const info = await asked(parent, path, "Its shards are being looked up…", (told) => told);
  if (!info) return;
  const data = Number(info.scheme.split("+")[0]);
  const head = ["Stripe", "Size", "Shards", "Survives"].map((text, index) => el(index === 1 ? "th.right" : "th", { scope: "col" }, text));
  const on = Object.entries(info.shards_on).sort((one, other) => other[1] - one[1]);
  fill(
    parent,
    back,
    el("div.title", {}, el("h1", {}, info.name || "Object"), el(`span.badge.${LEVELS[info.alert] ?? "good"}`, {}, info.alert ?? "● whole")),
    el("p.id.whole", {}, info.object),
    el("p.words", {}, `It ${/^survives/.test(info.survives) ? info.survives : `survives: ${info.survives}`}.`, info.advice ? ` To do: ${info.advice}.` : ""),
    el("div.columns", {},
      card("What it is", facts([["Size", info.size === null ? null : bytes(info.size)], ["Type", info.media_type], ["Put", instant(info.created)], ["Mode", info.mode], ["Scheme", info.scheme],
        ...Object.entries(info.metadata)])),
      card("How it stands", el("p.big", {}, info.score.toFixed(2)), bar(info.score, `score ${info.score}`, info.score < 0.5 ? "bad" : info.score < 1 ? "warn" : "good"),
        facts([["Stripes", number(info.stripe_count)], ["Shards", `${number(info.shards_found)} of ${number(info.shards_expected)}`], ["Manifest replicas", `${info.replicas_found} of ${info.replicas_expected}`]])),
      card("Where it is", on.length ? el("ul.rows", {}, on.map(([node, count]) => el("li", {}, el("a.id.grow", { href: `#/node/${node}`, "data-key": node }, brief(node)), el("span", {}, `${number(count)} shards`)))) : none("Inside its manifest: it is small.")),
    ),
    info.stripes.length
      ? card("Stripes", el("div.scroll", {}, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, info.stripes.map((stripe) => stripeRow(stripe, data))))),
        info.left_out ? el("p.dim", {}, `${number(info.left_out)} more are not listed.`) : null)
      : null,
    card("Manifest blocks", el("ul.rows", {}, info.manifest.map((block) => el("li", {}, el("span.id.grow.clip", {}, block.block), el("span.dim", {}, `${block.nodes.length} replicas`))))),
  );
}

export function drawFind(parent) {
  const input = el("input", { name: "id", required: true, autocomplete: "off", spellcheck: "false", placeholder: "bafyr4i…", "aria-label": "Object id" });
  fill(parent, el("h1", {}, "Find an object"), el("p.dim", {}, "By its id: where each of its shards is, and what it survives."),
    el("form.find", { onsubmit: (event) => { event.preventDefault(); location.hash = `#/object/${input.value.trim()}`; } }, input, el("button.main", { type: "submit" }, "Look")));
  input.focus();
}
