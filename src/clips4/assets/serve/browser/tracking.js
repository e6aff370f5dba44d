// Label propagation, as clips4.inference.video.label_propagation: the objects of a mask follow the embeddings through frames.
// The window is smaller and earlier frames are fewer than there, so that a frame takes about a second.

import { mix, places } from "./resize.js";

/** @typedef {import("./predict.js").Encoded} Encoded */
/** @typedef {import("./predict.js").Size} Size */
/** @typedef {{z: Float32Array, labels: Float32Array[]}} Source embeddings (positions, D) and soft labels of each object */

const BEFORE = 3, RADIUS = 6, TOP = 5, TEMPERATURE = 0.1;

export class Tracker {
  /**
   * @param {Encoded} first
   * @param {Int32Array} mask (height, width) objects of the first frame, 0 for none
   * @param {Size} size of frames
   */
  constructor(first, mask, size) {
    this.size = size;
    this.count = mask.reduce((most, each) => Math.max(most, each), 0) + 1;
    this.first = { z: positionsFirst(first), labels: softened(mask, this.count, size, first) };
    /** @type {Source[]} */
    this.before = [];
  }

  /**
   * The mask of the next frame.
   * @param {Encoded} frame
   * @returns {Int32Array} (height, width)
   */
  next(frame) {
    const z = positionsFirst(frame);
    const labels = propagated(z, [this.first, ...this.before], this.count, frame);
    this.before = [...this.before, { z, labels }].slice(-BEFORE);
    return hardened(labels, frame, this.size);
  }
}

/**
 * (positions, D), so that the products of two positions are over neighboring numbers.
 * @param {Encoded} encoded
 */
function positionsFirst({ z, dims, rows, columns }) {
  const positions = rows * columns, result = new Float32Array(z.length);
  for (let d = 0; d < dims; d++) for (let p = 0; p < positions; p++) result[p * dims + d] = z[d * positions + p];
  return result;
}

/**
 * Each object's share of each position's cell.
 * @param {Int32Array} mask
 * @param {number} count
 * @param {Size} size
 * @param {Encoded} encoded
 */
function softened(mask, count, { width, height }, { rows, columns }) {
  const labels = Array.from({ length: count }, () => new Float32Array(rows * columns));
  for (let y = 0, at = 0; y < rows; y++) {
    const top = Math.floor((y * height) / rows), bottom = Math.ceil(((y + 1) * height) / rows);
    for (let x = 0; x < columns; x++, at++) {
      const left = Math.floor((x * width) / columns), right = Math.ceil(((x + 1) * width) / columns);
      const share = 1 / ((bottom - top) * (right - left));
      for (let py = top; py < bottom; py++) for (let px = left; px < right; px++) labels[mask[py * width + px]][at] += share;
    }
  }
  return labels;
}

/**
 * Soft labels of a frame: those of the nearest positions of earlier frames.
 * @param {Float32Array} z (positions, D)
 * @param {Source[]} sources
 * @param {number} count
 * @param {Encoded} encoded
 */
function propagated(z, sources, count, { dims, rows, columns }) {
  const labels = Array.from({ length: count }, () => new Float32Array(rows * columns));
  const cosines = new Float64Array(TOP), chosen = new Int32Array(TOP), from = new Int32Array(TOP);
  for (let y = 0, at = 0; y < rows; y++) {
    const top = Math.max(0, y - RADIUS), bottom = Math.min(rows - 1, y + RADIUS);
    for (let x = 0; x < columns; x++, at++) {
      const left = Math.max(0, x - RADIUS), right = Math.min(columns - 1, x + RADIUS);
      if (!sources.some((each) => hasObject(each.labels[0], columns, top, bottom, left, right))) {
        labels[0][at] = 1; // all that it could be like is background
        continue;
      }
      cosines.fill(-Infinity);
      for (const [number, source] of sources.entries()) {
        for (let row = top; row <= bottom; row++) {
          for (let place = row * columns + left; place <= row * columns + right; place++) {
            let cosine = 0;
            for (let d = 0, a = at * dims, b = place * dims; d < dims; d++) cosine += z[a + d] * source.z[b + d];
            let rank = TOP;
            while (rank > 0 && cosine > cosines[rank - 1]) rank--;
            if (rank === TOP) continue;
            for (const list of [cosines, chosen, from]) list.copyWithin(rank + 1, rank, TOP - 1);
            cosines[rank] = cosine;
            chosen[rank] = place;
            from[rank] = number;
          }
        }
      }
      const weights = Array.from(cosines, (cosine) => Math.exp((cosine - cosines[0]) / TEMPERATURE));
      const total = weights.reduce((sum, each) => sum + each, 0);
      for (let c = 0; c < count; c++) {
        for (let rank = 0; rank < TOP; rank++) labels[c][at] += (weights[rank] / total) * (sources[from[rank]].labels[c][chosen[rank]] ?? 0);
      }
    }
  }
  return labels;
}

/**
 * Whether the window holds anything but background.
 * @param {Float32Array} background
 * @param {number} columns
 * @param {number} top
 * @param {number} bottom
 * @param {number} left
 * @param {number} right
 */
function hasObject(background, columns, top, bottom, left, right) {
  for (let row = top; row <= bottom; row++) {
    for (let place = row * columns + left; place <= row * columns + right; place++) if (background[place] < 1 - 1e-6) return true;
  }
  return false;
}

/**
 * Soft labels upsampled, each scaled to [0, 1] over the frame, then argmax.
 * @param {Float32Array[]} labels
 * @param {Encoded} encoded
 * @param {Size} size
 */
function hardened(labels, { rows, columns }, { width, height }) {
  const across = places(columns, width), down = places(rows, height);
  const mask = new Int32Array(width * height), best = new Float32Array(width * height).fill(-Infinity);
  for (const [object, values] of labels.entries()) {
    const large = new Float32Array(width * height);
    for (let y = 0, at = 0; y < height; y++) {
      const top = down.low[y] * columns, bottom = down.high[y] * columns, part = down.part[y];
      for (let x = 0; x < width; x++, at++) {
        const left = across.low[x], right = across.high[x];
        large[at] = mix(mix(values[top + left], values[bottom + left], part), mix(values[top + right], values[bottom + right], part), across.part[x]);
      }
    }
    let low = Infinity, high = -Infinity;
    for (const value of large) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    for (let at = 0; at < large.length; at++) {
      const value = high > low ? (large[at] - low) / (high - low) : large[at];
      if (value <= best[at]) continue;
      best[at] = value;
      mask[at] = object;
    }
  }
  return mask;
}
