// The engine on a server: each method is one request of the JSON API.

import { fromRuns } from "./runs.js";

/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").VideoEngine} VideoEngine */

/**
 * @param {string} method
 * @param {string} path
 * @param {object | Blob} [body]
 * @returns {Promise<Response>}
 */
async function request(method, path, body) {
  const options = { method, body: body === undefined || body instanceof Blob ? body : JSON.stringify(body) };
  let response = await fetch(path, options);
  for (let wait = 200; response.status === 503 && wait < 4000; wait *= 2) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    response = await fetch(path, options);
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ error: `the server returned ${response.status}` }));
    throw new Error(problem.error);
  }
  return response;
}

/** @type {(method: string, path: string, body?: object | Blob) => Promise<any>} */
const json = async (method, path, body) => (await request(method, path, body)).json();
/** @type {(path: string) => Promise<Blob>} */
const blob = async (path) => (await request("GET", path)).blob();

/** @type {VideoEngine} */
const video = {
  open: (file, name) => json("POST", `/api/videos?name=${encodeURIComponent(name)}`, file),
  openImages: (images) => json("POST", "/api/clips", { images }),
  facts: (id) => json("GET", `/api/videos/${id}`),
  frame: (id, number) => blob(`/api/videos/${id}/frames/${number}`),
  frameImage: (id, number) => json("POST", `/api/videos/${id}/images/${number}`),
  async mask(id, number) {
    const found = await json("GET", `/api/videos/${id}/masks/${number}`);
    return fromRuns(found.runs, new Int32Array(found.width * found.height));
  },
  track: (id, frame, runs) => json("POST", `/api/videos/${id}/track`, { frame, runs }),
  stop: (id) => json("DELETE", `/api/videos/${id}/track`),
  exportMasks: (id) => blob(`/api/videos/${id}/export`),
};

/** @type {Engine} */
export const serverEngine = {
  about: () => json("GET", "/api/about"),
  names: async () => (await json("GET", "/api/names")).names,
  images: () => json("GET", "/api/images"),
  open: (file, name) => json("POST", `/api/images?name=${encodeURIComponent(name)}`, file),
  openListed: (number) => json("POST", `/api/listed/${number}`),
  view: async (id) =>
    createImageBitmap(await blob(`/api/images/${id}`), { colorSpaceConversion: "none", imageOrientation: "none" }),
  close: (id) => json("DELETE", `/api/images/${id}`),
  async segments(id) {
    const found = await json("GET", `/api/images/${id}/segments`);
    const { width, height, regions, runs } = found;
    return { width, height, regions, labels: fromRuns(runs, new Int32Array(width * height)) };
  },
  async labels(id, query) {
    const { width, height, legend, runs } = await json("POST", `/api/images/${id}/labels`, query);
    return { width, height, legend, labels: fromRuns(runs, new Int16Array(width * height)) };
  },
  why: (id, query, x, y) => json("POST", `/api/images/${id}/pixel`, { ...query, x, y }),
  similar: (id, x, y) => json("POST", `/api/images/${id}/similar`, { x, y }),
  addExample: async (image, segments, name, negative, query) =>
    (await json("POST", "/api/examples", { ...query, image, segments, name, negative })).examples,
  undoExample: async () => (await json("DELETE", "/api/examples")).examples,
  edit: (id, segments, name) => json("POST", `/api/images/${id}/edits`, { segments, name }),
  undoEdit: (id) => json("DELETE", `/api/images/${id}/edits`),
  async exportMasks(images, format, query) {
    const response = await request("POST", "/api/export", { ...query, images, format });
    const name = /filename\*=UTF-8''(.+)/.exec(response.headers.get("Content-Disposition") ?? "");
    return { name: name ? decodeURIComponent(name[1]) : "masks", data: await response.blob() };
  },
  sets: {
    save: (name, query) => json("POST", "/api/sets", { ...query, name }),
    load: async (name) => (await json("POST", `/api/sets/${encodeURIComponent(name)}`)).classes,
  },
  use: null,
  invite: async () => (await json("POST", "/api/invitations")).address,
  video,
};
