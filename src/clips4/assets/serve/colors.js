// Colors of classes by their names; outputs/class_colors.py computes the same.

import { NAMED_COLORS } from "./named_colors.js";

const CANDIDATES = 256, OWN_ALIKE = 2500, ALIKE = 8100, UNKNOWN = [150, 150, 150];

/**
 * A distinct color for each number: hues by the golden angle, three levels of lightness; as clips4 has them.
 * @param {number} index
 * @returns {number[]}
 */
export function paletteColor(index) {
  const hue = (0.02 + index * 0.61803398875) % 1;
  const light = [0.5, 0.66, 0.38][index % 3];
  const saturation = [0.78, 0.62, 0.7][Math.floor(index / 3) % 3];
  const reach = saturation * Math.min(light, 1 - light);
  return [0, 8, 4].map((n) => {
    const k = (n + hue * 12) % 12;
    return Math.round(255 * (light - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/**
 * A color for each name: its own, else one by its hash; another one where it would look like that of another name.
 * @param {string[]} names
 * @returns {number[][]}
 */
export function classColors(names) {
  const candidates = Array.from({ length: CANDIDATES }, (_, index) => paletteColor(index)), taken = [UNKNOWN];
  const words = names.slice(0, CANDIDATES).map((name) => name.toLowerCase().split(/[\s_-]+/).filter(Boolean));
  const own = words.map(ownColors), found = names.map((_, index) => paletteColor(index));
  for (const index of [...words.keys()].sort((a, b) => Number(!own[a].length) - Number(!own[b].length))) {
    const offset = hash(words[index].join(" ")) % CANDIDATES;
    const choices = [...own[index], ...candidates.slice(offset), ...candidates.slice(0, offset)];
    const distances = choices.map((color) => Math.min(...taken.map((other) => distance(color, other))));
    const apart = distances.findIndex((each, at) => each >= (at < own[index].length ? OWN_ALIKE : ALIKE));
    found[index] = choices[apart < 0 ? distances.indexOf(Math.max(...distances)) : apart];
    taken.push(found[index]);
  }
  return found;
}

/**
 * The color of a name, or of its last or first word; a lighter and a darker one.
 * @param {string[]} words
 */
function ownColors(words) {
  for (const key of [words.join(" "), ...words.slice(-1), ...words.slice(0, 1)]) {
    const found = NAMED_COLORS[key] ?? NAMED_COLORS[key.replace(/s$/, "")];
    if (!found) continue;
    const color = [1, 3, 5].map((at) => parseInt(found.slice(at, at + 2), 16));
    return [color, color.map((value) => Math.floor((2 * value + 255) / 3)), color.map((value) => Math.floor((2 * value) / 3))];
  }
  return [];
}

/**
 * FNV-1a of 32 bits.
 * @param {string} text
 */
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}

/**
 * Squared, as eyes weigh the channels ("redmean"), in whole numbers.
 * @param {number[]} a
 * @param {number[]} b
 */
function distance(a, b) {
  const red = Math.floor((a[0] + b[0]) / 2), [r, g, blue] = a.map((value, index) => (value - b[index]) ** 2);
  return Math.floor((r * (512 + red) + g * 1024 + blue * (767 - red)) / 256);
}

/** @param {number[]} color */
export const hex = (color) => `#${color.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
