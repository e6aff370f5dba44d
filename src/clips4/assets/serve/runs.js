// Label maps as runs: value and number of pixels in turn, row by row.

/**
 * @template {Int16Array | Int32Array} T
 * @param {number[]} runs
 * @param {T} target filled from its start
 * @returns {T}
 */
export function fromRuns(runs, target) {
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    target.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  return target;
}

/**
 * @param {ArrayLike<number>} labels
 * @returns {number[]}
 */
export function toRuns(labels) {
  const runs = [];
  let start = 0;
  for (let i = 1; i <= labels.length; i++) {
    if (i === labels.length || labels[i] !== labels[start]) {
      runs.push(labels[start], i - start);
      start = i;
    }
  }
  return runs;
}
