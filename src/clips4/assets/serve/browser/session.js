// What the page asks of a model, without a server: images, labels, why, similar places, examples. Runs in a worker.

import { classColors } from "../colors.js";
import { checkName, read, written } from "./class_sets.js";
import { clipsOf } from "./clips.js";
import { exported, UNKNOWN_COLOR } from "./masks.js";
import { Model } from "./model.js";
import { cosinesOf, embeddingAt, joined, predict, products } from "./predict.js";
import { reduceTo } from "./resize.js";
import { normalize, segmentMap, segmentsAt } from "./segments.js";

/** @typedef {import("../types.js").Engine} Engine */
/** @typedef {import("../types.js").LegendEntry} LegendEntry */
/** @typedef {import("../types.js").Query} Request */
/** @typedef {import("./model.js").Examples} Examples */
/** @typedef {import("./resize.js").Rgba} Rgba */
/**
 * @typedef {object} OpenImage
 * @property {import("../types.js").ImageFacts} facts
 * @property {Blob} file
 * @property {Rgba} view
 * @property {import("./predict.js").Encoded} encoded
 * @property {import("./segments.js").SegmentMap | null} segments made when they are first needed
 * @property {{segments: number[], name: string | null}[]} edits
 */

const VIEW_SIDE = 1600; // larger images are shown reduced to it; exports have the image's own size
const MAX_PIXELS = 64 * 2 ** 20; // of an image, as clips4.utils.image_file has it
const PNG = 0x89504e47; // its first four bytes
const BEST = 3, NEAREST = 12;

const model = await Model.load();
/** @type {Map<string, OpenImage>} */
const images = new Map();
/** @type {Examples[]} */
const examples = [];
let opened = 0;

/** @param {string} id */
function image(id) {
  const found = images.get(id);
  if (!found) throw new Error("no such image");
  return found;
}

/** Frames of open images, and their masks. */
export const video = clipsOf(
  image,
  (frame) => {
    const facts = { ...frame.facts, id: String(++opened) };
    images.set(facts.id, { ...frame, facts, edits: [] });
    return facts;
  },
  encodedImage,
);

/** @param {OpenImage} open */
const segmentsOf = (open) => (open.segments ??= segmentMap(open.view, open.encoded));

/**
 * @param {string} name
 * @param {number} width
 * @param {number} height
 */
function checkPixels(name, width, height) {
  if (width * height > MAX_PIXELS) throw new Error(`${name}: ${width} x ${height} pixels are too many`);
}

/**
 * The pixels of a file as they are displayed, transparent ones over white.
 * @param {Blob} file
 * @param {string} name
 * @returns {Promise<Rgba>}
 */
async function decoded(file, name) {
  const head = new DataView(await file.slice(0, 24).arrayBuffer());
  // a PNG says its size before any pixel is decoded, and a few kilobytes of it may hold gigabytes
  if (head.byteLength === 24 && head.getUint32(0) === PNG) checkPixels(name, head.getUint32(16), head.getUint32(20));
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => null);
  if (!bitmap) throw new Error(`${name}: no image that this browser can read`);
  const { width, height } = bitmap;
  checkPixels(name, width, height);
  const drawn = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!drawn) throw new Error("this browser has no canvas");
  drawn.fillStyle = "white";
  drawn.fillRect(0, 0, width, height);
  drawn.drawImage(bitmap, 0, 0);
  bitmap.close();
  return drawn.getImageData(0, 0, width, height);
}

/**
 * @param {Blob} file
 * @param {string} name
 * @returns {Promise<OpenImage>} not yet among the open images
 */
async function encodedImage(file, name) {
  const pixels = await decoded(file, name);
  const encoded = await model.encode(pixels), view = reduceTo(pixels, VIEW_SIDE);
  const facts = { id: String(++opened), name, width: pixels.width, height: pixels.height, view: [view.width, view.height] };
  return { facts, file, view, encoded, segments: null, edits: [] };
}

/**
 * @param {OpenImage} open
 * @param {Request} request
 * @param {{width: number, height: number}} size
 */
function predicted(open, request, size) {
  const query = model.query(request.classes, examples);
  const { labels, scores } = predict(open.encoded, query, model.unknownOf(query, request.unknown), model.facts.rules, size);
  const edits = open.edits.filter(({ name }) => name === null || query.names.includes(name));
  if (edits.length) {
    const given = new Map(edits.flatMap(({ segments, name }) => segments.map((each) => [each, name === null ? -1 : query.names.indexOf(name)])));
    const at = segmentsAt(segmentsOf(open), size.width, size.height);
    for (let i = 0; i < labels.length; i++) labels[i] = given.get(at[i]) ?? labels[i];
  }
  return { query, labels, scores };
}

/**
 * Name, label, color, share and source of each class, then those of the unknown classes that occur, largest first.
 * @param {string[]} names
 * @param {string[]} sources
 * @param {Int16Array} labels
 * @returns {LegendEntry[]}
 */
function legendOf(names, sources, labels) {
  const { unknown, suggested } = model.facts, counts = new Int32Array(2 + unknown + names.length);
  for (const label of labels) counts[label + 1 + unknown]++;
  const share = (/** @type {number} */ label) => counts[label + 1 + unknown] / labels.length;
  const colors = classColors(names);
  const found = names.map((name, label) => ({ name, label, color: colors[label], share: share(label), source: sources[label] }));
  const others = Array.from({ length: unknown }, (_, u) => ({ label: -2 - u, name: `unknown ${u}`, suggested: suggested[u] ?? [] }));
  const gray = [...others.sort((a, b) => share(b.label) - share(a.label)), { label: -1, name: "unknown", suggested: [] }]
    .filter(({ label }) => share(label) > 0)
    .map((each) => ({ ...each, color: UNKNOWN_COLOR, share: share(each.label), source: "unknown" }));
  return [...found, ...gray];
}

/** @param {Examples[]} given */
const withoutVectors = (given) => given.map(({ name, image, segments, negative_of }) => ({ name, image, segments, negative_of }));

/** Class sets that were saved or opened since the page was. @type {Map<string, import("./class_sets.js").ClassSet>} */
const kept = new Map();

/** Sets of classes and their examples, as files. @type {Required<import("../types.js").ClassSets>} */
export const sets = {
  async save(name, request) {
    checkName(name);
    const query = model.query(request.classes, examples), missing = query.names.find((_, index) => !query.owner.includes(index));
    if (missing !== undefined) throw new Error(`${missing}: has neither a name to look for nor an example; click one, or drop it`);
    const found = {
      classes: request.classes, sources: query.sources, vectors: query.vectors, owner: query.owner,
      examples: query.owner.map((_, row) => row >= query.named),
    };
    kept.set(name, found);
    const file = { name: `${name}.safetensors`, data: new Blob([written(found, model.facts.digest)]) };
    return { sets: [...kept.keys()], command: `clips4 segment RUN IMAGES --classes "${file.name}" --out DIR`, file };
  },
  async load(name) {
    const found = kept.get(name), { dims } = model.facts;
    if (!found) throw new Error(`no class set ${name}`);
    examples.length = 0;
    for (const [index, { name: each }] of found.classes.entries()) {
      const rows = found.owner.flatMap((owner, row) => (owner === index && found.examples[row] ? [row] : []));
      const vectors = joined(...rows.map((row) => found.vectors.slice(row * dims, (row + 1) * dims)));
      if (rows.length) examples.push({ name: each, image: "", segments: [], vectors, negative_of: null });
    }
    return found.classes;
  },
  async open(file, name) {
    const called = name.replace(/\.safetensors$/i, "");
    kept.set(called, read(await file.arrayBuffer(), name, model.facts.digest));
    return { name: called, sets: [...kept.keys()] };
  },
};

/** @type {Omit<Engine, "video" | "invite" | "sets" | "use"> & {use: NonNullable<Engine["use"]>}} */
export const session = {
  async about() {
    const { title, classes, unknown, networks } = model.facts;
    return { title, classes, teacher: false, sets: [], unknown, networks };
  },
  names: async () => model.facts.names,
  images: async () => ({ images: [], listed: [] }),
  async open(file, name) {
    const open = await encodedImage(file, name);
    images.set(open.facts.id, open);
    return open.facts;
  },
  openListed() {
    throw new Error("this page has no images of its own");
  },
  view(id) {
    const { data, width, height } = image(id).view;
    return createImageBitmap(new ImageData(new Uint8ClampedArray(data), width, height), { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  },
  async close(id) {
    images.delete(id);
  },
  async segments(id) {
    const { width, height, labels, regions } = segmentsOf(image(id));
    return { width, height, labels, regions };
  },
  async labels(id, request) {
    const open = image(id), { width, height } = open.view;
    const { query, labels } = predicted(open, request, open.view);
    return { width, height, labels, legend: legendOf(query.names, query.sources, labels) };
  },
  async why(id, request, x, y) {
    const open = image(id), query = model.query(request.classes, examples), unknown = model.unknownOf(query, request.unknown);
    const there = products(embeddingAt(open.encoded, open.view, x, y), joined(query.vectors, unknown));
    /** @type {Map<string, number>} */
    const best = new Map();
    for (const [row, cosine] of there.entries()) {
      const name = row < query.owner.length ? query.names[query.owner[row]] : `unknown ${row - query.owner.length + 1}`;
      best.set(name, Math.max(best.get(name) ?? -1, cosine));
    }
    const order = [...best].sort((a, b) => b[1] - a[1]).slice(0, BEST);
    const map = segmentsOf(open), segment = segmentAt(open, x, y);
    return { best: order.map(([name, cosine]) => ({ name, cosine })), segment, region: map.regions[segment] };
  },
  async similar(id, x, y) {
    const open = image(id), { z, dims, rows, columns } = open.encoded, { width, height } = open.view;
    const place = Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
    const pixel = Float32Array.from({ length: dims }, (_, d) => z[d * rows * columns + place]);
    const segment = segmentAt(open, x, y), v = segmentsOf(open).vectors.subarray(segment * dims, (segment + 1) * dims);
    const maps = [], near = [];
    for (const [other, its] of images) {
      const values = Uint8Array.from(cosinesOf(its.encoded, pixel), (cosine) => Math.min(Math.max(Math.round((cosine + 1) * 127.5), 0), 255));
      maps.push({ image: other, width: its.encoded.columns, height: its.encoded.rows, values });
      for (const [number, cosine] of products(v, segmentsOf(its).vectors).entries()) {
        if (other !== id || number !== segment) near.push({ image: other, segment: number, cosine });
      }
    }
    return { maps, nearest: near.sort((a, b) => b.cosine - a.cosine).slice(0, NEAREST) };
  },
  async addExample(id, segments, name, negative, request) {
    const { dims } = model.facts, map = segmentsOf(image(id));
    const vectors = joined(...segments.map((each) => map.vectors.slice(each * dims, (each + 1) * dims)));
    const given = { name, image: id, segments, vectors, negative_of: /** @type {string | null} */ (null) };
    if (negative) {
      const query = model.query(request.classes, examples), mean = new Float32Array(dims);
      for (let i = 0; i < vectors.length; i++) mean[i % dims] += vectors[i];
      normalize(mean);
      const others = [...products(mean, query.vectors).entries()].filter(([row]) => query.names[query.owner[row]] !== name);
      if (!others.length) throw new Error(`${name} is the only class; add the one that it is instead`);
      const [nearest] = others.reduce((best, each) => (each[1] > best[1] ? each : best));
      given.name = query.names[query.owner[nearest]];
      given.negative_of = name;
    }
    examples.push(given);
    return withoutVectors(examples);
  },
  async undoExample() {
    examples.pop();
    return withoutVectors(examples);
  },
  async edit(id, segments, name) {
    image(id).edits.push({ segments, name });
  },
  async undoEdit(id) {
    image(id).edits.pop();
  },
  exportMasks(ids, format, request) {
    async function* masks() {
      for (const open of ids.map(image)) {
        const { labels, scores } = predicted(open, request, open.facts);
        yield { name: open.facts.name, width: open.facts.width, height: open.facts.height, labels, scores };
      }
    }
    return exported(masks(), format, request.classes.map((each) => each.name), model.facts.version);
  },
  async use(network) {
    await model.use(network);
    for (const open of images.values()) {
      open.encoded = await model.encode(await decoded(open.file, open.facts.name));
      open.segments = null;
      open.edits = [];
    }
  },
};

/**
 * @param {OpenImage} open
 * @param {number} x
 * @param {number} y
 */
function segmentAt(open, x, y) {
  const map = segmentsOf(open);
  return map.labels[Math.floor((y * map.height) / open.view.height) * map.width + Math.floor((x * map.width) / open.view.width)];
}
