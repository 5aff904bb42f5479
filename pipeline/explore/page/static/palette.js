// Colours of points and legends, for a dark ground.

/** @import { Column } from "./types" */

const WORDS = [
  "#66c1cc",
  "#e6bd6a",
  "#e58080",
  "#8fb4ff",
  "#b58ae0",
  "#7fd18b",
  "#f09ac0",
  "#c9d26b",
  "#d9a27a",
  "#9fb3c8",
];
const RAMP = ["#3b4a9c", "#2f7fa8", "#38a98f", "#93c95c", "#f4e04d"]; // from low to high
const NUM_SHADES = 200; // `map_points.NUM_SHADES`
export const UNKNOWN = 255; // `map_points.NO_COLOR`
export const PLAIN = "#66c1cc";
export const FAINT = "#27313a"; // scans that are not chosen
const GREY = "#5d6b76"; // not known

/** @param {string} hex */
const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

/** @param {number} share 0 to 1 */
function onRamp(share) {
  const at = Math.min(share, 0.999) * (RAMP.length - 1);
  const low = channels(RAMP[Math.floor(at)] ?? PLAIN);
  const high = channels(RAMP[Math.floor(at) + 1] ?? PLAIN);
  const mixed = low.map((value, i) => Math.round(value + (at % 1) * ((high[i] ?? 0) - value)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * The colour of each code that the server sends.
 * @param {Column | undefined} column what colours the points
 * @returns {string[]} 256 of them
 */
export function colorsOf(column) {
  return Array.from({ length: 256 }, (_, code) => {
    if (!column) return PLAIN;
    if (code === UNKNOWN) return GREY;
    if (column.values) return WORDS[code % WORDS.length] ?? PLAIN;
    return onRamp(code / (NUM_SHADES - 1));
  });
}

/**
 * As a pixel of a canvas holds it on a little-endian machine.
 * @param {string} hex
 */
export function pixelOf(hex) {
  const [red = 0, green = 0, blue = 0] = channels(hex);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** How many words have a colour of their own. */
export const NUM_WORDS = WORDS.length;
