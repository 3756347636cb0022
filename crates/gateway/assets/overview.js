// The mesh at a glance: what survives what, who is there, what moves, and what somebody should look at.

import { bar, brief, bytes, card, duration, el, fill, instant, none, number, percent, rate, readable, spark } from "./dom.js";
import { drawMap } from "./map.js";

const GROUPS = 16384;
/** Seconds of traffic that the lines show. */
const REMEMBERED = 90;

const history = { up: [], down: [] };

/** Remembers what moves, a second at a time. */
export function remember(traffic) {
  for (const [line, value] of [[history.up, traffic.up_bytes_per_second], [history.down, traffic.down_bytes_per_second]]) {
    line.push(value);
    if (line.length > REMEMBERED) line.shift();
  }
}

/** How bad it is, all in all, and in words. */
function verdict(health) {
  const { standing, alerts } = health;
  const worst = alerts[0]?.level;
  const blind = standing.groups_unknown >= GROUPS;
  const words = blind && standing.subjects === 0
    ? "No node has told yet how what is stored stands"
    : standing.words.charAt(0).toUpperCase() + standing.words.slice(1);
  if (standing.lost > 0 || worst === "LOST") return { kind: "bad", sign: "✕", title: "Something can't be read", words };
  if (worst === "CRITICAL") return { kind: "bad", sign: "■", title: "Look at this now", words };
  if (worst === "WARNING") return { kind: "warn", sign: "▲", title: "Safe, and worth a look", words };
  if (blind) return { kind: "idle", sign: "○", title: "All nodes answer", words };
  return { kind: "good", sign: "✓", title: "All is well", words };
}

function hero({ health }) {
  const { kind, sign, title, words } = verdict(health);
  const { standing } = health;
  const notes = [];
  if (health.scheme) notes.push(`What is put now is spread as ${health.scheme} over ${health.failure_domains} failure domains.`);
  if (standing.groups_unknown >= GROUPS) notes.push("Nodes of this mesh lead no placement groups, or have not looked yet: look at single objects to see where they are.");
  else if (standing.groups_unknown > 0) notes.push(`Of ${number(standing.groups_unknown)} of ${number(GROUPS)} placement groups nothing is known.`);
  if (standing.doubtful > 0) notes.push(`${number(standing.doubtful)} may have further parts at nodes that are silent.`);
  return el(
    `section.hero.${kind}`,
    { "aria-label": "State of the mesh" },
    el("span.hero-sign", { "aria-hidden": "true" }, sign),
    el("div", {}, el("h1", {}, title), el("p.words", {}, `${words}.`), el("p.notes", {}, notes.join(" "))),
  );
}

function stat(name, value, ...more) {
  return el("div.stat", {}, el("span.stat-name", {}, name), el("span.stat-value", {}, value), more);
}

function stats({ health, traffic }) {
  const used = health.capacity > 0 ? health.used / health.capacity : 0;
  const line = (values, way) => spark(values.length > 1 ? values : [0, 0], `${way} over the last ${values.length} seconds`);
  return el(
    "section.stats",
    { "aria-label": "Figures" },
    stat("Nodes", `${health.nodes_reachable} of ${health.nodes_known}`, el("span.stat-more", {}, health.nodes_full ? `answer; ${health.nodes_full} full` : "answer")),
    stat("Used", percent(used), bar(used, `${percent(used)} of the capacity is used`, used > 0.9 ? "warn" : ""), el("span.stat-more", {}, `${bytes(health.used)} of ${bytes(health.capacity)}`)),
    stat("Into the mesh", rate(traffic?.up_bytes_per_second ?? 0), line(history.up, "bytes sent"), el("span.stat-more", {}, `${bytes(traffic?.sent ?? 0)} since the start`)),
    stat("Out of the mesh", rate(traffic?.down_bytes_per_second ?? 0), line(history.down, "bytes received"), el("span.stat-more", {}, `${bytes(traffic?.received ?? 0)} since the start`)),
  );
}

/** Stripes and blocks by what they survive, the worst first. */
function byHealth({ health }) {
  const { standing } = health;
  if (standing.subjects === 0) return card("Stored, by what it survives", none("Nothing is known to be stored."));
  const most = Math.max(0, ...standing.survive.map((one) => one.parts));
  const kinds = [
    ["bad", "✕", "can't be read", standing.lost],
    ...standing.survive.map(({ parts, subjects }) =>
      parts === 0 ? ["bad", "■", "at risk: survive no further loss", subjects]
        : [parts === most ? "good" : "warn", parts === most ? "●" : "▲", `survive the loss of ${parts} more`, subjects]),
  ].filter(([, , , count]) => count > 0);
  const strip = el("div.strip", { role: "img", "aria-label": kinds.map(([, , text, count]) => `${count} ${text}`).join(", ") });
  for (const [kind, , , count] of kinds) {
    const part = el(`span.${kind}`);
    part.style.flexGrow = String(count);
    strip.append(part);
  }
  const rows = kinds.map(([kind, sign, text, count]) =>
    el("li", {}, el(`span.${kind}`, { "aria-hidden": "true" }, sign), el("span.grow", {}, text), el("strong", {}, number(count)), el("span.dim", {}, percent(count / standing.subjects))));
  return card(
    "Stored, by what it survives",
    strip,
    el("ul.rows", {}, rows),
    el("p.dim", {}, `${number(standing.subjects)} stripes and blocks, ${number(standing.whole)} of them whole; looked at ${standing.age_s ? `${duration(standing.age_s)} ago at most` : "just now"}.`),
  );
}

function alerts({ health }) {
  const rows = health.alerts.map((alert) =>
    el(
      `li.alert.${alert.level === "WARNING" ? "warn" : "bad"}`,
      {},
      el("span.badge", {}, alert.level),
      el("div.grow", {}, el("p", { title: alert.message }, readable(alert.message)), el("p.dim", {}, alert.advice, alert.since ? " · since " : "", instant(alert.since)),
        el("p.dim", {}, alert.nodes.length ? "told by" : null, alert.nodes.slice(0, 4).map((node) => el("a.id", { href: `#/node/${node}`, "data-key": `${alert.cause} ${node}` }, brief(node))))),
    ));
  return card("Alerts", rows.length ? el("ul.rows", {}, rows) : none("Nothing that somebody should look at."));
}

function repairs({ repairs }) {
  const busy = repairs.filter((one) => one.short + one.lost + one.misplaced + one.repaired + one.failed > 0);
  if (!busy.length) return card("Repairs", none("Nothing is to be made again, as far as nodes tell."));
  const head = ["Node", "Short", "Misplaced", "Made again", "Failed"].map((text, index) => el(index ? "th.right" : "th", { scope: "col" }, text));
  const rows = busy.map((one) =>
    el("tr", {}, el("th", { scope: "row" }, el("a.id", { href: `#/node/${one.peer_id}` }, brief(one.peer_id))),
      [one.short, one.misplaced, one.repaired, one.failed].map((count) => el("td.right", {}, number(count)))));
  return card("Repairs", el("div.scroll", {}, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))));
}

export function transferRow(one) {
  const share = one.bytes_expected ? one.bytes_done / one.bytes_expected : one.phase === "completed" ? 1 : 0;
  const way = one.way === "put" ? "↑ in" : "↓ out";
  const running = one.phase === "running";
  const told = running
    ? `${rate(one.bytes_per_second)}${one.seconds_left === null ? "" : ` · ${duration(one.seconds_left)} left`}`
    : one.phase === "completed" ? "done" : `broke off: ${one.error}`;
  return el(
    `li.transfer.${one.phase}`,
    {},
    el("span.way", {}, way),
    el("div.grow", {}, el("p.clip", {}, one.name || "without a name"), bar(share, `${percent(share)} done`, one.phase === "broken" ? "bad" : running ? "" : "good")),
    el("span.dim.right", {}, `${bytes(one.bytes_done)}${one.bytes_expected ? ` of ${bytes(one.bytes_expected)}` : ""}`, el("br"), told),
  );
}

function transfers({ transfers }) {
  const shown = transfers.slice(0, 12);
  return card("Transfers", shown.length ? el("ul.rows", {}, shown.map(transferRow)) : none("Nothing has moved through this gateway's pages and API yet."));
}

/** Draws the overview of what is known so far. */
export function drawOverview(parent, state) {
  if (!state.mesh) return fill(parent, el("p.none.wait", { role: "status" }, "The nodes are being asked…"));
  if (!parent.querySelector(".overview")) {
    const part = (name) => el(`div.${name}`);
    fill(parent, el("div.overview", {}, part("at-hero"), part("at-stats"), part("at-map"), part("at-side"), part("at-more")));
  }
  const at = (name) => parent.querySelector(`.at-${name}`);
  const known = { ...state.mesh, traffic: state.traffic, transfers: state.transfers };
  // Only what has changed is drawn anew, so that whoever reads or tabs through the rest is not disturbed.
  const draw = (name, value, make) => {
    const text = JSON.stringify(value);
    if (at(name).dataset.drawn === text) return;
    at(name).dataset.drawn = text;
    fill(at(name), make());
  };
  draw("hero", known.health, () => hero(known));
  draw("stats", [known.health, known.traffic, history.up.length], () => stats(known));
  draw("map", known.peers.map((peer) => ({ ...peer, latency_s: 0, uptime_s: 0 })), () => {
    const box = el("div");
    drawMap(box, known.peers);
    return card("Nodes by what fails together", box);
  });
  draw("side", [known.health, known.repairs], () => [alerts(known), byHealth(known), repairs(known)]);
  draw("more", known.transfers, () => transfers(known));
}
