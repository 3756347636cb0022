// The description of the API, browsable: made from openapi.json alone.

import { el, fill } from "./dom.js";

const main = document.getElementById("main");

/** A schema as people read it: names and kinds, nested where types are. */
function outline(schema, schemas, depth = 0, seen = []) {
  if (!schema || schema === true) return "anything";
  const pad = "  ".repeat(depth + 1);
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return seen.includes(name) ? name : outline(schemas[name], schemas, depth, [...seen, name]);
  }
  const among = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (among) return among.map((one) => outline(one, schemas, depth, seen)).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${outline(schema.items, schemas, depth, seen)}]`;
  if (schema.properties) {
    const lines = Object.entries(schema.properties).map(([name, inner]) => {
      const note = inner.description ? `  // ${inner.description.replaceAll("\n", " ")}` : "";
      return `${pad}${name}: ${outline(inner, schemas, depth + 1, seen)}${note}`;
    });
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  if (schema.additionalProperties) return `{ name: ${outline(schema.additionalProperties, schemas, depth + 1, seen)} }`;
  return [schema.type].flat().filter(Boolean).join(" | ") || "anything";
}

function route(path, method, operation, schemas) {
  const parameters = operation.parameters.map((one) =>
    el("tr", {}, el("th", { scope: "row" }, el("code", {}, one.name)), el("td.dim", {}, one.in), el("td", {}, one.description ?? "")));
  const answers = Object.entries(operation.responses).map(([status, answer]) => {
    const [type, content] = Object.entries(answer.content ?? {})[0] ?? [];
    const shown = content && type === "application/json" ? el("pre", { tabindex: "0" }, outline(content.schema, schemas)) : null;
    return el("div", {}, el("p", {}, el("strong", {}, status), ` ${answer.description}`, type ? el("span.dim", {}, ` · ${type}`) : ""), status === "default" ? null : shown);
  });
  return el("details.route", {},
    el("summary", {}, el(`span.method.${method}`, {}, method.toUpperCase()), el("code", {}, path), el("span.dim", {}, operation.summary)),
    el("div.inside", {}, el("p", {}, operation.description), parameters.length ? el("div.scroll", {}, el("table", {}, el("tbody", {}, parameters))) : null,
      operation.requestBody ? el("p", {}, "Takes ", el("code", {}, Object.keys(operation.requestBody.content)[0]), ".") : null, answers));
}

async function draw() {
  const document = await (await fetch("/api/v1/openapi.json")).json();
  const groups = new Map();
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const [tag] = operation.tags;
      groups.set(tag, [...(groups.get(tag) ?? []), route(path, method, operation, document.components.schemas)]);
    }
  }
  fill(main, el("h1", {}, document.info.title), el("p.dim", {}, document.info.description),
    [...groups].map(([tag, routes]) => el("section", { "aria-label": tag }, el("h2.group", {}, tag), routes)));
}

draw().catch((error) => fill(main, el("p.problem-text", { role: "alert" }, `openapi.json can't be read: ${error.message}`)));
