// The engine of a page without a server: a model that runs in this browser, in a thread of its own. Nothing is sent anywhere.

import { framesOf } from "./video_file.js";

/** @typedef {import("../types.js").Engine} Engine */

/** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
const waiting = new Map();
let calls = 0;
const worker = controlled().then(() => {
  const started = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  started.addEventListener("message", ({ data: { id, result, error } }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new Error(error));
  });
  started.addEventListener("error", (event) => {
    for (const call of waiting.values()) call.reject(new Error(event.message || "the page's files cannot be loaded"));
  });
  return started;
});

/**
 * Wait until the service worker keeps what is fetched, so that the page opens without a network next time. Browsers
 * allow one at https addresses and on the own machine; elsewhere the page works as long as it is open.
 */
async function controlled() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  try {
    await serviceWorker.register(new URL("../service_worker.js", import.meta.url));
  } catch {
    return; // forbidden by the browser's settings
  }
  await serviceWorker.ready;
  if (serviceWorker.controller) return;
  await new Promise((resolve) => {
    serviceWorker.addEventListener("controllerchange", resolve, { once: true });
    setTimeout(resolve, 3000); // after a forced reload no service worker controls the page
  });
}

/**
 * @param {"session" | "sets" | "video"} part
 * @param {string} method
 * @param {unknown[]} args
 * @returns {Promise<any>}
 */
async function send(part, method, args) {
  const started = await worker, id = ++calls;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    started.postMessage({ id, part, method, args });
  });
}

/** @type {(method: string, ...args: unknown[]) => Promise<any>} */
const call = (method, ...args) => send("session", method, args);
/** @type {(method: string, ...args: unknown[]) => Promise<any>} */
const callSets = (method, ...args) => send("sets", method, args);
/** @type {(method: string, ...args: unknown[]) => Promise<any>} */
const callVideo = (method, ...args) => send("video", method, args);

/** @type {Engine} */
export const browserEngine = {
  about: () => call("about"),
  names: () => call("names"),
  images: () => call("images"),
  open: (file, name) => call("open", file, name),
  openListed: (number) => call("openListed", number),
  view: (id) => call("view", id),
  close: (id) => call("close", id),
  segments: (id) => call("segments", id),
  labels: (id, query) => call("labels", id, query),
  why: (id, query, x, y) => call("why", id, query, x, y),
  similar: (id, x, y) => call("similar", id, x, y),
  addExample: (id, segments, name, negative, query) => call("addExample", id, segments, name, negative, query),
  undoExample: () => call("undoExample"),
  edit: (id, segments, name) => call("edit", id, segments, name),
  undoEdit: (id) => call("undoEdit", id),
  exportMasks: (ids, format, query) => call("exportMasks", ids, format, query),
  use: (network) => call("use", network),
  sets: {
    save: (name, query) => callSets("save", name, query),
    load: (name) => callSets("load", name),
    open: (file, name) => callSets("open", file, name),
  },
  invite: null,
  video: {
    async open(file, name) {
      const { rate, frames } = await framesOf(file, name);
      return callVideo("openFrames", frames, rate, name);
    },
    openImages: (ids) => callVideo("openImages", ids),
    facts: (id) => callVideo("facts", id),
    frame: (id, number) => callVideo("frame", id, number),
    frameImage: (id, number) => callVideo("frameImage", id, number),
    mask: (id, number) => callVideo("mask", id, number),
    track: (id, frame, runs) => callVideo("track", id, frame, runs),
    stop: (id) => callVideo("stop", id),
    exportMasks: (id) => callVideo("exportMasks", id),
  },
};
