// What the command line says of the mesh and the page does not, in the page's own way to write numbers.

const [health, peers] = [...arguments].map((text) => JSON.parse(text));
return (async () => {
  const { brief, bytes, number, percent, readable } = await import("/assets/dom.js");
  const missing = [];
  const says = (where, element, text) => {
    if (!element?.innerText.includes(text)) missing.push(`${where}: ${text}`);
  };
  const at = (selector) => document.querySelector(selector);
  const stored = 'section[aria-label="Stored, by what it survives"]';
  const stat = (name) => [...document.querySelectorAll(".stat")].find((one) => one.innerText.startsWith(name));
  says("state", at(".hero"), health.standing.words.slice(1));
  says("state", at(".hero"), `spread as ${health.scheme} over ${health.failure_domains} failure domains`);
  says("nodes", stat("Nodes"), `${health.nodes_reachable} of ${health.nodes_known}`);
  says("used", stat("Used"), percent(health.used / health.capacity));
  says("used", stat("Used"), `${bytes(health.used)} of ${bytes(health.capacity)}`);
  for (const { parts, subjects } of health.standing.survive.filter((one) => one.subjects > 0)) {
    const text = parts === 0 ? "at risk" : `survive the loss of ${parts} more`;
    const row = [...at(stored).querySelectorAll("li")].find((one) => one.innerText.includes(text));
    says("stored", row ?? at(stored), number(subjects));
  }
  says("stored", at(stored), `${number(health.standing.subjects)} stripes and blocks, ${number(health.standing.whole)} of them whole`);
  for (const alert of health.alerts) {
    for (const text of [alert.level, readable(alert.message), alert.advice]) says("alerts", at('section[aria-label="Alerts"]'), text);
  }
  if (document.querySelectorAll(".alert").length !== health.alerts.length) missing.push(`${health.alerts.length} alerts`);
  for (const peer of peers) {
    const tile = at(`.tile[href="#/node/${peer.peer_id}"]`);
    const label = tile?.getAttribute("aria-label") ?? "";
    const state = peer.reachable ? peer.state : "silent";
    for (const text of [brief(peer.peer_id), peer.role, state]) if (!label.includes(text)) missing.push(`node ${label}: ${text}`);
    const boxes = [".region", ".site", ".host"].map((box) => tile?.closest(box)?.firstElementChild.innerText);
    if (boxes.join("/") !== peer.domain) missing.push(`node ${label}: ${peer.domain} and not ${boxes.join("/")}`);
    if (peer.reachable) {
      says(label, tile, `${bytes(peer.used)} of ${bytes(peer.capacity)}`);
      if (!label.includes(percent(peer.used / peer.capacity))) missing.push(`${label}: ${peer.used}`);
    }
  }
  return missing;
})();
