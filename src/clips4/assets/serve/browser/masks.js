// Predictions as files: label PNGs, one COCO document, labelme JSON; the same as those of `clips4 segment`.

import { classColors } from "../colors.js";
import { labelPng, zip } from "./files.js";
import { polygonOf } from "./polygons.js";

/** @typedef {{name: string, width: number, height: number, labels: Int16Array, scores: Float32Array}} Mask */
/** @typedef {{label: number, top: number, left: number, width: number, height: number, pixels: number, score: number, number: number}} Part */

export const UNKNOWN_COLOR = [150, 150, 150];
const MIN_SHARE = 0.0002; // smaller connected parts are left out of COCO and labelme
const LABELME = "5.5.0";

/**
 * @param {AsyncIterable<Mask>} masks of one query, one in memory at a time
 * @param {string} format
 * @param {string[]} names of the classes
 * @param {string} version of clips4
 * @returns {Promise<{name: string, data: Blob}>} a ZIP where there are several files
 */
export async function exported(masks, format, names, version) {
  /** @type {Map<string, Uint8Array<ArrayBuffer>>} */
  const files = new Map();
  const coco = emptyDocument(names, version);
  for await (const mask of masks) {
    if (format === "png") files.set(unused(files, mask.name, "png"), await labelPng(mask.labels, mask.width, classColors(names), UNKNOWN_COLOR));
    else if (format === "labelme") files.set(unused(files, mask.name, "json"), json(labelmeDocument(mask, names)));
    else addImage(coco, mask);
  }
  if (format === "coco") files.set("coco.json", json(coco));
  if (files.size > 1) return { name: `clips4-${format}.zip`, data: new Blob([zip(files)], { type: "application/zip" }) };
  const [[name, content]] = files;
  return { name, data: new Blob([content], { type: format === "png" ? "image/png" : "application/json" }) };
}

/** @param {unknown} document */
const json = (document) => new TextEncoder().encode(`${JSON.stringify(document)}\n`);

/**
 * The name of an image's file with another suffix, numbered where it is taken.
 * @param {Map<string, unknown>} files
 * @param {string} name
 * @param {string} suffix
 */
function unused(files, name, suffix) {
  const stem = name.replace(/\.[^.]*$/, "") || "image";
  let found = `${stem}.${suffix}`;
  for (let number = 2; files.has(found); number++) found = `${stem}-${number}.${suffix}`;
  return found;
}

/**
 * The connected parts (8 neighbors) of every class: by label, then from top to bottom and left to right.
 * @param {Mask} mask
 * @returns {{numbered: Int32Array, parts: Part[]}} numbers of parts from 1 on, 0 for unknown
 */
export function connectedParts({ width, height, labels, scores }) {
  const numbered = new Int32Array(labels.length), stack = new Int32Array(labels.length);
  /** @type {Part[]} */
  const parts = [];
  let count = 0;
  for (let start = 0; start < labels.length; start++) {
    if (labels[start] < 0 || numbered[start]) continue;
    numbered[start] = ++count;
    let top = height, left = width, bottom = 0, right = 0, score = 0, filled = 0;
    stack[filled++] = start;
    for (let next = 0; next < filled; next++) {
      const i = stack[next], y = Math.floor(i / width), x = i % width;
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
      left = Math.min(left, x);
      right = Math.max(right, x);
      score += scores[i];
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
          const other = row * width + column;
          if (numbered[other] || labels[other] !== labels[start]) continue;
          numbered[other] = count;
          stack[filled++] = other;
        }
      }
    }
    if (filled < MIN_SHARE * labels.length) continue;
    const size = { width: right - left + 1, height: bottom - top + 1 };
    parts.push({ label: labels[start], top, left, ...size, pixels: filled, score: score / filled, number: count });
  }
  return { numbered, parts: parts.sort((a, b) => a.label - b.label || a.top - b.top || a.left - b.left) };
}

/**
 * @param {string[]} names
 * @param {string} version
 */
function emptyDocument(names, version) {
  const colors = classColors(names);
  return {
    info: { description: `segmented by clips4 ${version}; ids are places of the asked classes from 1 on` },
    licenses: [],
    images: /** @type {object[]} */ ([]),
    annotations: /** @type {object[]} */ ([]),
    categories: names.map((name, index) => ({ id: index + 1, name, supercategory: "", isthing: 0, color: colors[index] })),
  };
}

/**
 * @param {ReturnType<typeof emptyDocument>} document changed in place
 * @param {Mask} mask
 */
function addImage(document, mask) {
  const { name, width, height } = mask, { numbered, parts } = connectedParts(mask);
  document.images.push({ id: document.images.length + 1, file_name: name, width, height });
  for (const part of parts) {
    document.annotations.push({
      id: document.annotations.length + 1,
      image_id: document.images.length,
      category_id: part.label + 1,
      segmentation: { size: [height, width], counts: countsText(countsOf(numbered, part, width, height)) },
      area: part.pixels,
      bbox: [part.left, part.top, part.width, part.height],
      iscrowd: 0,
      score: Math.round(part.score * 1e4) / 1e4,
    });
  }
}

/**
 * Lengths of the runs outside and inside a part in turn, column by column.
 * @param {Int32Array} numbered
 * @param {Part} part
 * @param {number} width
 * @param {number} height
 */
function countsOf(numbered, part, width, height) {
  /** @type {number[]} */
  const edges = [];
  let inside = false;
  for (let x = part.left; x < part.left + part.width; x++) {
    for (let y = 0; y < height; y++) {
      const here = numbered[y * width + x] === part.number;
      if (here !== inside) edges.push(x * height + y);
      inside = here;
    }
  }
  const end = width * height, last = (part.left + part.width) * height;
  if (inside && last < end) edges.push(last);
  const counts = edges.map((edge, i) => edge - (edges[i - 1] ?? 0));
  return edges.length && edges[edges.length - 1] === end ? counts : [...counts, end - (edges[edges.length - 1] ?? 0)];
}

/**
 * Counts in COCO's characters; see clips4.outputs.rle.
 * @param {number[]} counts
 */
function countsText(counts) {
  let text = "";
  for (const [index, count] of counts.entries()) {
    let value = index > 2 ? count - counts[index - 2] : count;
    for (let last = false; !last; ) {
      const group = value & 31;
      value >>= 5;
      last = value === (group & 16 ? -1 : 0);
      text += String.fromCharCode(48 + (last ? group : group | 32));
    }
  }
  return text;
}

/**
 * @param {Mask} mask
 * @param {string[]} names
 */
function labelmeDocument(mask, names) {
  const { numbered, parts } = connectedParts(mask);
  const rounded = (/** @type {number} */ value) => Math.round(value * 100) / 100;
  return {
    version: LABELME,
    flags: {},
    shapes: parts.map((part) => {
      const { top, left, width, height, number } = part;
      const inside = (/** @type {number} */ y, /** @type {number} */ x) =>
        y >= 0 && x >= 0 && y < height && x < width && numbered[(y + top) * mask.width + x + left] === number;
      const points = polygonOf(inside, height, width).map(([x, y]) => [rounded(x + left), rounded(y + top)]);
      return { label: names[part.label], points, group_id: null, description: "", shape_type: "polygon", flags: {} };
    }),
    imagePath: mask.name,
    imageData: null,
    imageHeight: mask.height,
    imageWidth: mask.width,
  };
}
