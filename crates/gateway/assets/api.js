// The API: asked with the token that this tab keeps, and listened to.

const KEY = "datamesh-token";

export const token = () => sessionStorage.getItem(KEY);
export const keep = (text) => sessionStorage.setItem(KEY, text);
export const forget = () => sessionStorage.removeItem(KEY);

/** Why a request was not met. */
export class Problem extends Error {
  constructor(status, kind, message, hint) {
    super(message);
    Object.assign(this, { status, kind, hint });
  }
}

export async function problemOf(response) {
  const text = await response.text();
  try {
    const { kind, message, hint } = JSON.parse(text).error;
    return new Problem(response.status, kind, message, hint);
  } catch {
    return new Problem(response.status, "failed", text || `the gateway answered ${response.status}`);
  }
}

/** Asks the gateway. A token that is not taken any more is forgotten. */
export async function ask(method, path, options = {}) {
  const headers = { Authorization: `Bearer ${token()}`, ...options.headers };
  let response;
  try {
    response = await fetch(path, { ...options, method, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "the gateway does not answer");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

export const get = async (path, options) => (await ask("GET", path, options)).json();

export const inBucket = (bucket, key = "") =>
  `/api/v1/buckets/${encodeURIComponent(bucket)}/keys${key === "" ? "" : `/${key.split("/").map(encodeURIComponent).join("/")}`}`;

/** Hears events until it is stopped, and begins anew when the connection breaks. A browser's own EventSource can't show a token. */
export function listen({ onEvent, onState }) {
  const stopper = new AbortController();
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  (async () => {
    let wait = 1000;
    while (!stopper.signal.aborted) {
      try {
        const response = await ask("GET", "/api/v1/events", { signal: stopper.signal });
        onState("live");
        wait = 1000;
        await read(response.body, onEvent);
      } catch (error) {
        if (stopper.signal.aborted) return;
        if (error.status === 401 || error.status === 403) return onState("denied", error);
      }
      if (stopper.signal.aborted) return;
      onState("waiting");
      await pause(wait);
      wait = Math.min(wait * 2, 15000);
    }
  })();
  return () => stopper.abort();
}

async function read(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      const data = field("data");
      if (data) onEvent(field("event"), JSON.parse(data));
    }
  }
}

/** Uploads a file as tus has it: what breaks off goes on where it was. */
export async function upload(bucket, key, file, onProgress, signal) {
  const query = new URLSearchParams({ size: file.size, bucket, key });
  if (file.type) query.set("type", file.type);
  const begun = await ask("POST", `/api/v1/uploads?${query}`, { signal });
  const place = begun.headers.get("Location");
  let offset = Number(begun.headers.get("Upload-Offset"));
  for (let failures = 0; offset < file.size; ) {
    try {
      offset = await patch(place, file, offset, onProgress, signal);
      failures = 0;
    } catch (error) {
      failures += 1;
      if (signal.aborted || failures > 6 || (error.status >= 400 && error.status < 500 && ![408, 409, 423].includes(error.status))) {
        if (signal.aborted) await ask("DELETE", place).catch(() => {});
        throw error;
      }
      await new Promise((done) => setTimeout(done, 500 * 2 ** failures));
      const head = await ask("HEAD", place, { signal }).catch(() => null);
      if (head) offset = Number(head.headers.get("Upload-Offset"));
    }
  }
  onProgress(file.size);
}

/** One request of an upload. Only XMLHttpRequest tells how much of a body has been sent. */
function patch(place, file, offset, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PATCH", place);
    for (const [name, value] of [
      ["Authorization", `Bearer ${token()}`],
      ["Content-Type", "application/offset+octet-stream"],
      ["Upload-Offset", String(offset)],
      ["Tus-Resumable", "1.0.0"],
    ]) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(offset + event.loaded);
    request.onload = async () => {
      if (request.status < 300) return resolve(Number(request.getResponseHeader("Upload-Offset")));
      reject(await problemOf(new Response(request.responseText, { status: request.status })));
    };
    request.onerror = () => reject(new Problem(0, "unreachable", "the connection broke"));
    request.onabort = () => reject(new Problem(0, "interrupted", "it was given up"));
    signal.addEventListener("abort", () => request.abort());
    request.send(offset === 0 ? file : file.slice(offset));
  });
}

/** Saves what an address gives under a name: straight to the disk where the browser can do that, else through memory. */
export async function download(path, name, onProgress) {
  const picked = window.showSaveFilePicker ? await window.showSaveFilePicker({ suggestedName: name }) : null;
  const response = await ask("GET", path);
  let done = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      done += chunk.byteLength;
      onProgress(done);
      controller.enqueue(chunk);
    },
  });
  const body = response.body.pipeThrough(counted);
  if (picked) return body.pipeTo(await picked.createWritable());
  const url = URL.createObjectURL(await new Response(body).blob());
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
