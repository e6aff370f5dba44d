// SLIC superpixels (Achanta et al., TPAMI 2012): k-means of color and place, in windows around each center.

const COMPACTNESS = 10, ITERATIONS = 10;
const SMALLEST = 0.5; // of the mean size; smaller parts join a part beside them

/**
 * @param {import("./resize.js").Rgba} image
 * @param {number} count about so many regions
 * @returns {Int32Array} (height, width) 0..R-1, each region connected
 */
export function superpixels(image, count) {
  const { width, height } = image, pixels = width * height;
  const lab = smoothed(toLab(image), width, height);
  const step = Math.max(1, Math.sqrt(pixels / count)), ratio = (COMPACTNESS / step) ** 2;
  const across = Math.max(1, Math.round(width / step)), down = Math.max(1, Math.round(height / step));
  /** @type {{y: number, x: number, color: number[]}[]} */
  let centers = [];
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      const y = Math.floor(((row + 0.5) * height) / down), x = Math.floor(((column + 0.5) * width) / across);
      centers.push({ y, x, color: lab.map((channel) => channel[y * width + x]) });
    }
  }
  const labels = new Int32Array(pixels), [l, a, b] = lab;
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const nearest = new Float32Array(pixels).fill(Infinity);
    for (const [index, { y, x, color }] of centers.entries()) {
      const top = Math.max(0, Math.floor(y - step)), bottom = Math.min(height, Math.ceil(y + step) + 1);
      const left = Math.max(0, Math.floor(x - step)), right = Math.min(width, Math.ceil(x + step) + 1);
      for (let py = top; py < bottom; py++) {
        for (let px = left, i = py * width + left; px < right; px++, i++) {
          const far = (l[i] - color[0]) ** 2 + (a[i] - color[1]) ** 2 + (b[i] - color[2]) ** 2 + ratio * ((py - y) ** 2 + (px - x) ** 2);
          if (far >= nearest[i]) continue;
          nearest[i] = far;
          labels[i] = index;
        }
      }
    }
    centers = means(labels, lab, width, centers);
  }
  return connected(labels, width, height, (SMALLEST * pixels) / centers.length);
}

/**
 * @param {Int32Array} labels
 * @param {Float32Array[]} lab
 * @param {number} width
 * @param {{y: number, x: number, color: number[]}[]} before
 */
function means(labels, [l, a, b], width, before) {
  const sums = Array.from(before, () => [0, 0, 0, 0, 0, 0]);
  for (let i = 0; i < labels.length; i++) {
    const sum = sums[labels[i]];
    sum[0]++;
    sum[1] += Math.floor(i / width);
    sum[2] += i % width;
    sum[3] += l[i];
    sum[4] += a[i];
    sum[5] += b[i];
  }
  return sums.map(([n, y, x, ...color], k) => (n ? { y: y / n, x: x / n, color: color.map((each) => each / n) } : before[k]));
}

/**
 * Connected parts, numbered; small ones join the part before them.
 * @param {Int32Array} labels
 * @param {number} width
 * @param {number} height
 * @param {number} smallest pixels
 */
function connected(labels, width, height, smallest) {
  const parts = new Int32Array(labels.length).fill(-1);
  const stack = new Int32Array(labels.length);
  let count = 0;
  for (let start = 0; start < labels.length; start++) {
    if (parts[start] >= 0) continue;
    const beside = start % width ? parts[start - 1] : start >= width ? parts[start - width] : -1;
    let filled = 0;
    stack[filled++] = start;
    parts[start] = count;
    for (let next = 0; next < filled; next++) {
      const i = stack[next], x = i % width;
      for (const other of [x ? i - 1 : -1, x + 1 < width ? i + 1 : -1, i - width, i + width < width * height ? i + width : -1]) {
        if (other < 0 || parts[other] >= 0 || labels[other] !== labels[i]) continue;
        parts[other] = count;
        stack[filled++] = other;
      }
    }
    if (filled < smallest && beside >= 0) for (let i = 0; i < filled; i++) parts[stack[i]] = beside;
    else count++;
  }
  return parts;
}

/**
 * CIELAB channels (D65).
 * @param {import("./resize.js").Rgba} image
 */
function toLab({ data }) {
  const linear = Float32Array.from({ length: 256 }, (_, value) => {
    const share = value / 255;
    return share > 0.04045 ? ((share + 0.055) / 1.055) ** 2.4 : share / 12.92;
  });
  const root = (/** @type {number} */ t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const lab = [0, 1, 2].map(() => new Float32Array(data.length / 4));
  for (let i = 0; i < lab[0].length; i++) {
    const r = linear[data[4 * i]], g = linear[data[4 * i + 1]], b = linear[data[4 * i + 2]];
    const x = root((0.412453 * r + 0.35758 * g + 0.180423 * b) / 0.95047), y = root(0.212671 * r + 0.71516 * g + 0.072169 * b);
    const z = root((0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883);
    lab[0][i] = 116 * y - 16;
    lab[1][i] = 500 * (x - y);
    lab[2][i] = 200 * (y - z);
  }
  return lab;
}

/**
 * A Gaussian of one pixel over each channel.
 * @param {Float32Array[]} channels
 * @param {number} width
 * @param {number} height
 */
function smoothed(channels, width, height) {
  const kernel = [-3, -2, -1, 0, 1, 2, 3].map((at) => Math.exp((-at * at) / 2));
  const total = kernel.reduce((sum, each) => sum + each, 0);
  /** @type {(values: Float32Array, step: number, length: number, place: (i: number) => number) => Float32Array} */
  const along = (values, step, length, place) =>
    values.map((_, i) => {
      const at = place(i);
      let sum = 0;
      for (let k = -3; k <= 3; k++) sum += kernel[k + 3] * values[i + (Math.min(Math.max(at + k, 0), length - 1) - at) * step];
      return sum / total;
    });
  return channels.map((values) => along(along(values, 1, width, (i) => i % width), width, height, (i) => Math.floor(i / width)));
}
