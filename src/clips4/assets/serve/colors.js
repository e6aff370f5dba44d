// Colors of classes.

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

/** @param {number[]} color */
export const hex = (color) => `#${color.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
