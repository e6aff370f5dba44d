// The segments of an image for clicking: spherical k-means of its embeddings, cut by superpixels; as clips4.serve has them.

import { superpixels } from "./superpixels.js";
import { reduceTo } from "./resize.js";

/** @typedef {import("./predict.js").Encoded} Encoded */
/** @typedef {import("../types.js").Segments & {vectors: Float32Array}} SegmentMap vectors are (S, D) unit rows */

const SIDE = 512, REGIONS = 48, GRID = 4, ITERATIONS = 6, LOCATION_WEIGHT = 0.5;
const SMALLEST = 0.001; // share of the image; smaller segments join the largest of their region

/**
 * @param {import("./resize.js").Rgba} image
 * @param {Encoded} encoded
 * @returns {SegmentMap}
 */
export function segmentMap(image, encoded) {
  const small = reduceTo(image, SIDE), { width, height } = small;
  const regions = superpixels(small, REGIONS), clusters = sphericalKmeans(encoded);
  const place = positionsOf(encoded, width, height);
  /** @type {Map<number, number>} cluster and region -> segment */
  const numbers = new Map();
  const labels = new Int32Array(width * height);
  for (let i = 0; i < labels.length; i++) {
    const key = regions[i] * GRID * GRID + clusters[place[i]];
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    labels[i] = /** @type {number} */ (numbers.get(key));
  }
  const region = [...numbers.keys()].map((key) => Math.floor(key / (GRID * GRID)));
  const kept = withoutSmall(labels, region);
  return { width, height, labels, regions: kept, vectors: pooled(encoded, labels, place, kept.length) };
}

/**
 * Small segments become part of the largest one of their region, in place; the regions of those that are left.
 * @param {Int32Array} labels
 * @param {number[]} region of each segment
 */
function withoutSmall(labels, region) {
  const sizes = new Int32Array(region.length);
  for (const label of labels) sizes[label]++;
  /** @type {number[]} */
  const largest = [];
  for (let s = 0; s < region.length; s++) if (!(sizes[largest[region[s]]] >= sizes[s])) largest[region[s]] = s;
  const target = region.map((r, s) => (sizes[s] < SMALLEST * labels.length ? largest[r] : s));
  const kept = [...new Set(target)].sort((a, b) => a - b);
  const number = new Map(kept.map((old, index) => [old, index]));
  for (let i = 0; i < labels.length; i++) labels[i] = /** @type {number} */ (number.get(target[labels[i]]));
  return kept.map((old) => region[old]);
}

/**
 * The position of the map that each pixel lies in.
 * @param {Encoded} encoded
 * @param {number} width
 * @param {number} height
 */
function positionsOf({ rows, columns }, width, height) {
  const place = new Int32Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) place[i] = Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
  }
  return place;
}

/**
 * v_s: the normalized sum of the embeddings of each segment's pixels.
 * @param {Encoded} encoded
 * @param {Int32Array} labels
 * @param {Int32Array} place
 * @param {number} count S
 * @returns {Float32Array} (S, D)
 */
function pooled({ z, dims, rows, columns }, labels, place, count) {
  const positions = rows * columns;
  /** @type {Map<number, number>} segment and position -> pixels */
  const times = new Map();
  for (let i = 0; i < labels.length; i++) {
    const pair = labels[i] * positions + place[i];
    times.set(pair, (times.get(pair) ?? 0) + 1);
  }
  const vectors = new Float32Array(count * dims);
  for (const [pair, pixels] of times) {
    const segment = Math.floor(pair / positions), position = pair % positions;
    for (let d = 0; d < dims; d++) vectors[segment * dims + d] += pixels * z[d * positions + position];
  }
  for (let s = 0; s < count; s++) normalize(vectors.subarray(s * dims, (s + 1) * dims));
  return vectors;
}

/**
 * Scale a vector to length 1, in place.
 * @param {Float32Array} vector
 */
export function normalize(vector) {
  const length = Math.max(Math.hypot(...vector), 1e-12);
  for (let d = 0; d < vector.length; d++) vector[d] /= length;
}

/**
 * Clusters of a map, as clips4.method.segments finds them.
 * @param {Encoded} encoded
 * @returns {Int32Array} (rows * columns,) 0..15
 */
export function sphericalKmeans({ z, dims, rows, columns }) {
  const positions = rows * columns, count = GRID * GRID, size = dims + 2;
  const labels = new Int32Array(positions), weights = new Float32Array(positions);
  const places = [new Float32Array(positions), new Float32Array(positions)];
  for (let p = 0; p < positions; p++) {
    const y = Math.floor(p / columns), x = p % columns;
    labels[p] = Math.floor((y * GRID) / rows) * GRID + Math.floor((x * GRID) / columns);
    places[0][p] = LOCATION_WEIGHT * (((y + 0.5) * 2) / rows - 1);
    places[1][p] = LOCATION_WEIGHT * (((x + 0.5) * 2) / columns - 1);
    weights[p] = 1 / Math.sqrt(1 + places[0][p] ** 2 + places[1][p] ** 2);
  }
  const feature = (/** @type {number} */ d) => (d < dims ? z.subarray(d * positions, (d + 1) * positions) : places[d - dims]);
  for (let step = 0; step < ITERATIONS; step++) {
    const centers = new Float32Array(count * size), members = new Int32Array(count);
    for (const label of labels) members[label]++;
    for (let d = 0; d < size; d++) {
      const values = feature(d);
      for (let p = 0; p < positions; p++) centers[labels[p] * size + d] += weights[p] * values[p];
    }
    const best = new Float32Array(positions).fill(-Infinity);
    for (let k = 0; k < count; k++) {
      if (!members[k]) continue;
      const center = centers.subarray(k * size, (k + 1) * size);
      normalize(center);
      const cosine = new Float32Array(positions);
      for (let d = 0; d < size; d++) {
        const values = feature(d), weight = center[d];
        for (let p = 0; p < positions; p++) cosine[p] += weight * values[p];
      }
      for (let p = 0; p < positions; p++) {
        if (cosine[p] <= best[p]) continue;
        best[p] = cosine[p];
        labels[p] = k;
      }
    }
  }
  return labels;
}

/**
 * (height, width) the segments at another size, by the nearest pixel.
 * @param {SegmentMap} map
 * @param {number} width
 * @param {number} height
 */
export function segmentsAt(map, width, height) {
  const result = new Int32Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    const row = Math.floor((y * map.height) / height) * map.width;
    for (let x = 0; x < width; x++, i++) result[i] = map.labels[row + Math.floor((x * map.width) / width)];
  }
  return result;
}
