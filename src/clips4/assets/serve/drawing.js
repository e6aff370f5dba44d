// Labels over an image, marks above them. Colors at full opacity are exact: tests and people read them.

/** @typedef {import("./types.js").Labels} Labels */
/** @typedef {import("./types.js").Segments} Segments */
/** @typedef {import("./types.js").SimilarityMap} SimilarityMap */

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function context(canvas) {
  const found = canvas.getContext("2d", { willReadFrequently: true });
  if (!found) throw new Error("this browser has no canvas");
  return /** @type {CanvasRenderingContext2D} */ (found);
}

/**
 * @param {ImageBitmap} bitmap
 * @returns {ImageData}
 */
export function pixelsOf(bitmap) {
  const drawn = context(new OffscreenCanvas(bitmap.width, bitmap.height));
  drawn.drawImage(bitmap, 0, 0);
  return drawn.getImageData(0, 0, bitmap.width, bitmap.height);
}

/**
 * The image with each label in its color; labels without a color show the image alone.
 * @param {ImageData} image
 * @param {Labels} labels of the same size
 * @param {Map<number, number[]>} colors
 * @param {number} opacity 0 to 1
 * @param {boolean} outlines white lines between labels
 * @returns {ImageData}
 */
export function painted(image, { width, height, labels }, colors, opacity, outlines) {
  const result = new ImageData(new Uint8ClampedArray(image.data), width, height);
  const data = result.data;
  for (let i = 0, at = 0; i < labels.length; i++, at += 4) {
    if (outlines) {
      const right = (i + 1) % width !== 0 && labels[i + 1] !== labels[i];
      const below = i + width < labels.length && labels[i + width] !== labels[i];
      if (right || below) {
        data[at] = data[at + 1] = data[at + 2] = 255;
        continue;
      }
    }
    const color = colors.get(labels[i]);
    if (color) for (let c = 0; c < 3; c++) data[at + c] = (1 - opacity) * data[at + c] + opacity * color[c];
  }
  return result;
}

/**
 * Fill and outline some segments on a canvas of marks.
 * @param {CanvasRenderingContext2D} marks
 * @param {Segments} segments
 * @param {Set<number>} chosen
 */
export function markSegments(marks, segments, chosen) {
  const { width, height, labels } = segments;
  const layer = new ImageData(width, height);
  for (let i = 0; i < labels.length; i++) {
    if (!chosen.has(labels[i])) continue;
    const edge =
      i % width === 0 || (i + 1) % width === 0 || labels[i - 1] !== labels[i] || labels[i + 1] !== labels[i] ||
      labels[i - width] !== labels[i] || labels[i + width] !== labels[i];
    layer.data.set(edge ? [255, 220, 60, 255] : [255, 220, 60, 50], i * 4);
  }
  drawLayer(marks, layer, false);
}

/**
 * A similarity map as heat: blue for unlike, yellow for alike, over the range that occurs.
 * @param {CanvasRenderingContext2D} marks
 * @param {SimilarityMap} map
 */
export function markSimilarity(marks, { width, height, values }) {
  let low = 255, high = 0;
  for (let i = 0; i < values.length; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  const layer = new ImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const t = (values[i] - low) / Math.max(high - low, 1);
    layer.data.set([40 + 215 * t, 40 + 190 * t * t, 160 * (1 - t) + 30, 190], i * 4);
  }
  drawLayer(marks, layer, true);
}

/**
 * @param {CanvasRenderingContext2D} marks
 * @param {ImageData} layer
 * @param {boolean} smooth
 */
function drawLayer(marks, layer, smooth) {
  const small = new OffscreenCanvas(layer.width, layer.height);
  context(small).putImageData(layer, 0, 0);
  marks.imageSmoothingEnabled = smooth;
  marks.drawImage(small, 0, 0, marks.canvas.width, marks.canvas.height);
}

/**
 * @param {CanvasRenderingContext2D} marks
 * @param {number} x
 * @param {number} y
 */
export function markPointer(marks, x, y) {
  const arm = Math.max(8, marks.canvas.width / 60);
  for (const [color, line] of /** @type {[string, number][]} */ ([["black", 5], ["white", 2]])) {
    marks.strokeStyle = color;
    marks.lineWidth = (line * marks.canvas.width) / 800 + 0.5;
    marks.beginPath();
    marks.moveTo(x - arm, y);
    marks.lineTo(x + arm, y);
    marks.moveTo(x, y - arm);
    marks.lineTo(x, y + arm);
    marks.stroke();
  }
}

/**
 * A square part of an image around a segment.
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} bitmap
 * @param {Segments} segments
 * @param {number} number
 */
export function drawCrop(canvas, bitmap, segments, number) {
  const { width, height, labels } = segments;
  let left = width, top = height, right = 0, bottom = 0;
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] !== number) continue;
    const x = i % width, y = (i / width) | 0;
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + 1);
  }
  const scale = bitmap.width / width;
  const side = Math.min(Math.max(right - left, bottom - top, 24) * scale * 1.15, bitmap.width, bitmap.height);
  const x = Math.min(Math.max(((left + right) / 2) * scale - side / 2, 0), bitmap.width - side);
  const y = Math.min(Math.max(((top + bottom) / 2) * scale - side / 2, 0), bitmap.height - side);
  canvas.width = canvas.height = 96;
  context(canvas).drawImage(bitmap, x, y, side, side, 0, 0, 96, 96);
}
