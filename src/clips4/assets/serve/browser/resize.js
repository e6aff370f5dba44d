// Images reduced as Pillow reduces them, bit for bit, so that the network sees what `clips4 segment` shows it.

/** @typedef {{width: number, height: number, data: Uint8ClampedArray}} Rgba 4 values a pixel; the last is ignored */

const BITS = 22; // of a coefficient's fraction, as in Pillow's Resample.c
const REACH = 2; // of the bicubic filter, in output pixels
const MIN_SIDE = 32; // smaller images are enlarged, as in clips4.models.sliding_window

/** @param {number} x */
function bicubic(x) {
  const at = Math.abs(x);
  if (at < 1) return (1.5 * at - 2.5) * at * at + 1;
  return at < 2 ? (((at - 5) * at + 8) * at - 4) * -0.5 : 0;
}

/**
 * Round to the nearest integer, ties to the even one, as Python does.
 * @param {number} x
 */
export function roundEven(x) {
  const down = Math.floor(x), rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}

/**
 * For each output pixel of a side: the first input pixel, and the weights of it and of the next ones.
 * @param {number} from pixels
 * @param {number} to pixels
 */
function coefficients(from, to) {
  const scale = from / to, stretch = Math.max(scale, 1), support = REACH * stretch;
  return Array.from({ length: to }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const count = Math.min(from, Math.trunc(center + support + 0.5)) - first;
    const weights = Array.from({ length: count }, (_, i) => bicubic((i + first - center + 0.5) / stretch));
    const total = weights.reduce((sum, each) => sum + each, 0);
    const fixed = weights.map((each) => Math.trunc((each / total) * 2 ** BITS + (each < 0 ? -0.5 : 0.5)));
    return { first, weights: Int32Array.from(fixed) };
  });
}

/**
 * @param {Rgba} image
 * @param {number} width
 * @param {number} height
 * @returns {Rgba}
 */
function resized(image, width, height) {
  const wide = new Uint8ClampedArray(width * image.height * 4);
  for (const [x, { first, weights }] of coefficients(image.width, width).entries()) {
    for (let y = 0; y < image.height; y++) sum(image.data, (y * image.width + first) * 4, 4, weights, wide, (y * width + x) * 4);
  }
  const data = new Uint8ClampedArray(width * height * 4);
  for (const [y, { first, weights }] of coefficients(image.height, height).entries()) {
    for (let x = 0; x < width; x++) sum(wide, (first * width + x) * 4, width * 4, weights, data, (y * width + x) * 4);
  }
  return { width, height, data };
}

/**
 * One pixel: the weighted sum of pixels at equal distances.
 * @param {Uint8ClampedArray} from
 * @param {number} start
 * @param {number} step
 * @param {Int32Array} weights
 * @param {Uint8ClampedArray} to clamps to 0..255
 * @param {number} at
 */
function sum(from, start, step, weights, to, at) {
  let red = 2 ** (BITS - 1), green = red, blue = red;
  for (let i = 0, place = start; i < weights.length; i++, place += step) {
    const weight = weights[i];
    red += from[place] * weight;
    green += from[place + 1] * weight;
    blue += from[place + 2] * weight;
  }
  to[at] = red >> BITS;
  to[at + 1] = green >> BITS;
  to[at + 2] = blue >> BITS;
  to[at + 3] = 255;
}

/**
 * The image, scaled down so that its long side is at most `side` pixels.
 * @param {Rgba} image
 * @param {number} side
 */
export function reduceTo(image, side) {
  const factor = side / Math.max(image.width, image.height);
  if (factor >= 1) return image;
  return resized(image, Math.max(1, roundEven(image.width * factor)), Math.max(1, roundEven(image.height * factor)));
}

/**
 * The long side to which an image is reduced; `InferenceSize.side_of`.
 * @param {{width: number, height: number}} image
 * @param {{longSide: number, shortSide: number, largestSide: number}} size
 */
export function inferenceSide({ width, height }, { longSide, shortSide, largestSide }) {
  const wide = roundEven((shortSide * Math.max(width, height)) / Math.min(width, height));
  return Math.max(longSide, Math.min(wide, largestSide));
}

/**
 * What the network takes: (3, height, width) in [0, 1], reduced to `side`; a short side below 32 pixels is enlarged.
 * @param {Rgba} image
 * @param {number} side
 * @returns {{width: number, height: number, values: Float32Array}}
 */
export function networkInput(image, side) {
  const { width, height, data } = reduceTo(image, side);
  const short = Math.min(width, height);
  const factor = short < MIN_SIDE ? MIN_SIDE / short : 1;
  const [columns, rows] = [width, height].map((each) =>
    factor > 1 ? Math.min(Math.max(MIN_SIDE, roundEven(each * factor)), Math.max(side, width, height)) : each,
  );
  const values = new Float32Array(3 * rows * columns);
  const across = places(width, columns), down = places(height, rows);
  for (let c = 0, at = 0; c < 3; c++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const value = (/** @type {number} */ row, /** @type {number} */ column) => data[(row * width + column) * 4 + c];
        const top = mix(value(down.low[y], across.low[x]), value(down.low[y], across.high[x]), across.part[x]);
        const bottom = mix(value(down.high[y], across.low[x]), value(down.high[y], across.high[x]), across.part[x]);
        values[at++] = mix(top, bottom, down.part[y]) / 255;
      }
    }
  }
  return { width: columns, height: rows, values };
}

/**
 * Bilinear resizing of a side, sampled at pixel centers: the two input pixels of each output pixel, and the second one's share.
 * @param {number} from
 * @param {number} to
 */
export function places(from, to) {
  const low = new Int32Array(to), high = new Int32Array(to), part = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const at = Math.min(Math.max((i + 0.5) * (from / to) - 0.5, 0), from - 1);
    low[i] = Math.floor(at);
    high[i] = Math.min(low[i] + 1, from - 1);
    part[i] = at - low[i];
  }
  return { low, high, part };
}

/**
 * @param {number} a
 * @param {number} b
 * @param {number} part
 */
export const mix = (a, b, part) => a + (b - a) * part;
