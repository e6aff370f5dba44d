// Pixel embeddings and class vectors to the class of every pixel: what clips4.inference.predict does, in a browser.

import { mix, places } from "./resize.js";

/**
 * @typedef {{z: Float32Array, dims: number, rows: number, columns: number}} Encoded z is (dims, rows, columns)
 * @typedef {{width: number, height: number}} Size
 *
 * @typedef {object} Query
 * @property {Float32Array} vectors (L, D) unit rows
 * @property {number[]} owner the class of each row
 * @property {string[]} names
 * @property {string[]} sources
 * @property {number} named how many of the rows are of names; those of examples follow
 *
 * @typedef {object} Rules what the run lays down
 * @property {boolean} separatesUnknown whether unknown prototypes do not compete with named classes
 * @property {number} margin how much nearer to an unknown prototype an unknown pixel is
 * @property {boolean} [grouped] whether classes compete in a softmax, each by its nearest vector, and not the vectors
 * @property {{weight: number, textTemperature: number, pixelTemperature: number}} context
 *
 * @typedef {object} Best
 * @property {Int32Array} labels (H, W) the best row of each pixel
 * @property {Float32Array} scores (H, W) its score
 */

/**
 * Cosines of every position with every class vector.
 * @param {Encoded} encoded
 * @param {Float32Array} vectors (L, D)
 * @returns {Float32Array} (L, rows, columns)
 */
export function cosinesOf({ z, dims, rows, columns }, vectors) {
  const positions = rows * columns, count = vectors.length / dims;
  const result = new Float32Array(count * positions);
  for (let l = 0; l < count; l++) {
    const row = result.subarray(l * positions, (l + 1) * positions), vector = vectors.subarray(l * dims, (l + 1) * dims);
    let d = 0;
    for (; d + 4 <= dims; d += 4) {
      const [a, b, c, e] = vector.subarray(d, d + 4);
      const first = d * positions, second = first + positions, third = second + positions, fourth = third + positions;
      for (let p = 0; p < positions; p++) row[p] += a * z[first + p] + b * z[second + p] + c * z[third + p] + e * z[fourth + p];
    }
    for (; d < dims; d++) for (let p = 0; p < positions; p++) row[p] += vector[d] * z[d * positions + p];
  }
  return result;
}

/**
 * Scores (L, rows, columns) upsampled to a size, then argmax (the lowest where equal).
 * @param {Float32Array} scores
 * @param {Encoded} encoded
 * @param {Size} size
 * @returns {Best}
 */
export function bestOf(scores, { rows, columns }, { width, height }) {
  const positions = rows * columns, count = scores.length / positions;
  const labels = new Int32Array(width * height), best = new Float32Array(width * height);
  const across = places(columns, width), down = places(rows, height);
  /** @type {number[][]} */
  let rivals = [];
  for (let y = 0, at = 0, cellRow = -1; y < height; y++) {
    const low = down.low[y], high = down.high[y], part = down.part[y];
    if (low !== cellRow) {
      rivals = Array.from({ length: columns }, (_, x) => rivalsOf(scores, positions, count, cornersOf(columns, low, high, x)));
      cellRow = low;
    }
    for (let x = 0; x < width; x++, at++) {
      const left = across.low[x], right = across.high[x];
      best[at] = -Infinity;
      for (const l of rivals[left]) {
        const top = l * positions + low * columns, bottom = l * positions + high * columns;
        const score = mix(mix(scores[top + left], scores[bottom + left], part), mix(scores[top + right], scores[bottom + right], part), across.part[x]);
        if (score > best[at]) {
          best[at] = score;
          labels[at] = l;
        }
      }
    }
  }
  return { labels, scores: best };
}

/**
 * @param {number} columns
 * @param {number} low
 * @param {number} high
 * @param {number} x
 */
function cornersOf(columns, low, high, x) {
  const right = Math.min(x + 1, columns - 1);
  return [low * columns + x, low * columns + right, high * columns + x, high * columns + right];
}

/**
 * Rows that may be the best between four positions. Each row that wins at one of the four must be no better than them at one.
 * @param {Float32Array} scores
 * @param {number} positions
 * @param {number} count
 * @param {number[]} corners
 */
function rivalsOf(scores, positions, count, corners) {
  const winners = new Set(
    corners.map((corner) => {
      let winner = 0;
      for (let l = 1; l < count; l++) if (scores[l * positions + corner] > scores[winner * positions + corner]) winner = l;
      return winner;
    }),
  );
  const found = [];
  for (let l = 0; l < count; l++) {
    let possible = true;
    for (const winner of winners) {
      possible &&= corners.some((corner) => scores[l * positions + corner] >= scores[winner * positions + corner]);
    }
    if (possible) found.push(l);
  }
  return found;
}

/**
 * Scores of classes: those of their nearest vectors, as clips4.method.class_scores has them.
 * @param {Float32Array} cosines (L, positions)
 * @param {number} positions
 * @param {number[]} owner (L,) the class of each vector
 * @returns {Float32Array} (K, positions)
 */
export function classScores(cosines, positions, owner) {
  const result = new Float32Array((Math.max(...owner) + 1) * positions).fill(-Infinity);
  for (const [row, label] of owner.entries()) {
    for (let p = 0; p < positions; p++) {
      const at = label * positions + p;
      result[at] = Math.max(result[at], cosines[row * positions + p]);
    }
  }
  return result;
}

/**
 * How much likelier each class is because of the rest of the image; see clips4.method.prediction_context.
 * @param {Float32Array} cosines (L, positions)
 * @param {number} positions
 * @param {number} temperature
 * @param {number} weight
 * @returns {Float64Array} (L,)
 */
export function contextBias(cosines, positions, temperature, weight) {
  const count = cosines.length / positions;
  const total = new Float64Array(count), normalizer = new Float64Array(positions);
  for (let p = 0; p < positions; p++) {
    let highest = -Infinity, sum = 0;
    for (let l = 0; l < count; l++) highest = Math.max(highest, cosines[l * positions + p] / temperature);
    for (let l = 0; l < count; l++) sum += Math.exp(cosines[l * positions + p] / temperature - highest);
    normalizer[p] = highest + Math.log(sum);
  }
  for (let l = 0; l < count; l++) {
    let highest = -Infinity, sum = 0;
    for (let p = 0; p < positions; p++) highest = Math.max(highest, cosines[l * positions + p] / temperature - normalizer[p]);
    for (let p = 0; p < positions; p++) sum += Math.exp(cosines[l * positions + p] / temperature - normalizer[p] - highest);
    total[l] = weight * temperature * (highest + Math.log(sum) - Math.log(positions));
  }
  return total;
}

/**
 * The class of every pixel: its index, or -2 - u for the discovered unknown class u.
 * @param {Encoded} encoded
 * @param {Query} query
 * @param {Float32Array} unknown (U, D) unknown prototypes; empty if no pixel may be unknown
 * @param {Rules} rules
 * @param {Size} size
 * @returns {{labels: Int16Array, scores: Float32Array}} scores are cosines
 */
export function predict(encoded, query, unknown, rules, size) {
  const known = query.owner.length, { weight } = rules.context;
  const apart = rules.separatesUnknown || weight !== 0;
  const cosines = cosinesOf(encoded, apart ? query.vectors : joined(query.vectors, unknown));
  const rows = apart && weight ? inContext(encoded, cosines, query, rules, size) : bestOf(cosines, encoded, size);
  if (apart && unknown.length) {
    const named = weight ? bestOf(cosines, encoded, size).scores : rows.scores;
    const nearest = bestOf(cosinesOf(encoded, unknown), encoded, size);
    for (let i = 0; i < named.length; i++) {
      if (nearest.scores[i] <= named[i] + rules.margin) continue;
      rows.labels[i] = known + nearest.labels[i];
      rows.scores[i] = nearest.scores[i];
    }
  }
  const labelOf = Int16Array.from([...query.owner, ...Array.from({ length: unknown.length / encoded.dims }, (_, u) => -2 - u)]);
  return { labels: Int16Array.from(rows.labels, (row) => labelOf[row]), scores: rows.scores };
}

/**
 * @param {Encoded} encoded
 * @param {Float32Array} cosines
 * @param {Query} query
 * @param {Rules} rules
 * @param {Size} size
 */
function inContext(encoded, cosines, query, rules, size) {
  const positions = encoded.rows * encoded.columns;
  const byText = query.sources.every((each) => each === "text");
  const temperature = byText ? rules.context.textTemperature : rules.context.pixelTemperature;
  const ofClasses = contextBias(rules.grouped ? classScores(cosines, positions, query.owner) : cosines, positions, temperature, rules.context.weight);
  const bias = rules.grouped ? Float64Array.from(query.owner, (label) => ofClasses[label]) : ofClasses;
  const rows = bestOf(cosines.map((value, i) => value + bias[Math.floor(i / positions)]), encoded, size);
  for (let i = 0; i < rows.labels.length; i++) rows.scores[i] -= bias[rows.labels[i]];
  return rows;
}

/**
 * @param {...Float32Array} parts
 * @returns {Float32Array}
 */
export function joined(...parts) {
  const result = new Float32Array(parts.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of parts) {
    result.set(each, at);
    at += each.length;
  }
  return result;
}

/**
 * The embedding at a pixel, between its four positions.
 * @param {Encoded} encoded
 * @param {Size} size
 * @param {number} x
 * @param {number} y
 * @returns {Float32Array} (D,)
 */
export function embeddingAt({ z, dims, rows, columns }, { width, height }, x, y) {
  const across = places(columns, width), down = places(rows, height);
  const top = down.low[y] * columns, bottom = down.high[y] * columns, left = across.low[x], right = across.high[x];
  return Float32Array.from({ length: dims }, (_, d) => {
    const at = d * rows * columns;
    return mix(mix(z[at + top + left], z[at + bottom + left], down.part[y]), mix(z[at + top + right], z[at + bottom + right], down.part[y]), across.part[x]);
  });
}

/**
 * Inner products of one vector with rows.
 * @param {Float32Array} vector (D,)
 * @param {Float32Array} rows (L, D)
 * @returns {number[]}
 */
export function products(vector, rows) {
  const dims = vector.length;
  return Array.from({ length: rows.length / dims }, (_, row) => {
    let sum = 0;
    for (let d = 0; d < dims; d++) sum += vector[d] * rows[row * dims + d];
    return sum;
  });
}
