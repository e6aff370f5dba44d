// Masks as polygons: outlines by marching squares, simplified, holes joined by a cut; as clips4.outputs.polygons makes them.

/** @typedef {[x: number, y: number]} Point */

const TOLERANCE = 0.5; // pixels by which simplification may move an outline
const OUT = 0.25; // pixels from the centers of the outermost pixels to the outline
const STEPS = [[-1, 0], [0, 1], [1, 0], [0, -1]]; // up, right, down, left as (y, x)

/**
 * The outline of a connected part (8 neighbors), with its holes.
 * @param {(y: number, x: number) => boolean} inside
 * @param {number} height
 * @param {number} width
 * @returns {Point[]}
 */
export function polygonOf(inside, height, width) {
  const rings = ringsOf(inside, height, width).map(simplifiedRing);
  const areas = rings.map((ring) => Math.abs(signedArea(ring)));
  const outer = areas.indexOf(Math.max(...areas));
  return joined(rings[outer], rings.filter((_, i) => i !== outer && areas[i] > 0));
}

/**
 * Follow each outline along the sides of pixels, inside to the right.
 * @param {(y: number, x: number) => boolean} inside
 * @param {number} height
 * @param {number} width
 */
function ringsOf(inside, height, width) {
  const seen = new Uint8Array(height * width * 4);
  /** @type {Point[][]} */
  const rings = [];
  for (let start = 0; start < seen.length; start++) {
    const first = { y: Math.floor(start / 4 / width), x: Math.floor(start / 4) % width, side: start % 4 };
    const isSide = inside(first.y, first.x) && !inside(first.y + STEPS[first.side][0], first.x + STEPS[first.side][1]);
    if (!isSide || seen[start]) continue;
    /** @type {Point[]} */
    const ring = [];
    let { y, x, side } = first;
    for (let place = start; !seen[place]; place = (y * width + x) * 4 + side) {
      seen[place] = 1;
      const [outY, outX] = STEPS[side], [aheadY, aheadX] = STEPS[(side + 1) % 4];
      ring.push([x + 0.5 + OUT * outX, y + 0.5 + OUT * outY]);
      if (inside(y + aheadY + outY, x + aheadX + outX)) {
        y += aheadY + outY;
        x += aheadX + outX;
        side = (side + 3) % 4;
      } else if (inside(y + aheadY, x + aheadX)) {
        y += aheadY;
        x += aheadX;
      } else side = (side + 1) % 4;
    }
    rings.push(ring);
  }
  return rings;
}

/**
 * Fewer points (Douglas & Peucker); a ring that would collapse to a line is kept as it is.
 * @param {Point[]} ring
 */
function simplifiedRing(ring) {
  const line = [...ring, ring[0]];
  const kept = new Set([0, line.length - 1]);
  const parts = [[0, line.length - 1]];
  for (let part = parts.pop(); part; part = parts.pop()) {
    const [start, end] = part;
    let farthest = start, distance = TOLERANCE ** 2;
    for (let i = start + 1; i < end; i++) {
      const far = squaredDistance(line[i], line[start], line[end]);
      if (far > distance) [farthest, distance] = [i, far];
    }
    if (farthest === start) continue;
    kept.add(farthest);
    parts.push([start, farthest], [farthest, end]);
  }
  const simple = line.filter((_, i) => kept.has(i) && i < line.length - 1);
  return simple.length > 2 ? simple : ring;
}

/**
 * Of a point from the line between two others.
 * @param {Point} point
 * @param {Point} from
 * @param {Point} to
 */
function squaredDistance(point, from, to) {
  const along = [to[0] - from[0], to[1] - from[1]], length = along[0] ** 2 + along[1] ** 2;
  const here = [point[0] - from[0], point[1] - from[1]];
  const place = length ? Math.min(Math.max((here[0] * along[0] + here[1] * along[1]) / length, 0), 1) : 0;
  return (here[0] - place * along[0]) ** 2 + (here[1] - place * along[1]) ** 2;
}

/** @param {Point[]} ring */
function signedArea(ring) {
  return ring.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = ring[(i + 1) % ring.length];
    return sum + (x * nextY - nextX * y) / 2;
  }, 0);
}

/**
 * One polygon from an outline and its holes: a cut of zero width leads to each, from the nearest point so far.
 * @param {Point[]} outer
 * @param {Point[][]} holes
 */
function joined(outer, holes) {
  const left = (/** @type {Point[]} */ ring) => ring.reduce((least, [x]) => Math.min(least, x), Infinity);
  let whole = outer;
  for (const ring of holes.toSorted((a, b) => left(a) - left(b))) {
    const hole = signedArea(ring) * signedArea(outer) > 0 ? ring.toReversed() : ring;
    let at = 0, start = 0, least = Infinity;
    for (const [i, [x, y]] of whole.entries()) {
      for (const [j, [u, v]] of hole.entries()) {
        const far = (x - u) ** 2 + (y - v) ** 2;
        if (far < least) [at, start, least] = [i, j, far];
      }
    }
    whole = [...whole.slice(0, at + 1), ...hole.slice(start), ...hole.slice(0, start + 1), ...whole.slice(at)];
  }
  return whole;
}
