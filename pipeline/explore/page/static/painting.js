// Points onto a canvas, pixel by pixel: a hundred thousand of them in a few milliseconds, without a graphics card.

/** @import { Place, Points } from "./types" */
import { FAINT, pixelOf, UNKNOWN } from "./palette.js";

export const SIDE = 65535; // `scan_table.SIDE`

/**
 * Radius of a point in pixels of the screen.
 * @param {number} num points
 * @param {number} ratio pixels of the canvas a pixel of the page
 * @param {number} zoom
 */
export function radiusOf(num, ratio, zoom) {
  const base = num > 50000 ? 1.1 : num > 10000 ? 1.7 : num > 2000 ? 2.4 : 3.6;
  return Math.max(1, base * ratio * Math.min(zoom, 12) ** 0.3);
}

/**
 * Offsets within a disc, in rows of an image.
 * @param {number} radius
 * @returns {[number, number, number][]} dy, first dx, last dx
 */
function discOf(radius) {
  /** @type {[number, number, number][]} */
  const spans = [];
  for (let dy = -Math.floor(radius); dy <= radius; dy++) {
    const half = Math.floor(Math.sqrt(radius * radius - dy * dy));
    spans.push([dy, -half, half]);
  }
  return spans;
}

/**
 * @param {Uint32Array} pixels
 * @param {{ width: number, height: number }} size
 * @param {Points} points
 * @param {Place} place in pixels of the canvas
 * @param {number} radius
 * @param {(index: number) => number} colorAt 0: not drawn
 */
function dots(pixels, { width, height }, points, place, radius, colorAt) {
  const spans = discOf(radius);
  const unit = place.scale / SIDE;
  for (let i = 0; i < points.rows.length; i++) {
    const x = Math.round(place.left + (points.x[i] ?? 0) * unit);
    const y = Math.round(height - place.bottom - (points.y[i] ?? 0) * unit);
    if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue;
    const color = colorAt(i);
    if (!color) continue;
    for (const [dy, first, last] of spans) {
      const row = y + dy;
      if (row < 0 || row >= height) continue;
      const end = row * width + Math.min(x + last, width - 1);
      for (let at = row * width + Math.max(x + first, 0); at <= end; at++) pixels[at] = color; // `fill` is slower
    }
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Points | null} all faint, behind
 * @param {Points | null} chosen
 * @param {string[]} colors of each code
 * @param {Place} place in pixels of the page
 * @param {number} zoom
 */
export function paint(canvas, all, chosen, colors, place, zoom) {
  const context = canvas.getContext("2d");
  const ratio = canvas.width / Math.max(canvas.clientWidth, 1);
  if (!context || !canvas.width || !canvas.height) return;
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const sized = { scale: place.scale * ratio, left: place.left * ratio, bottom: place.bottom * ratio };
  if (all && (chosen?.meant ?? 0) < all.meant) {
    const faint = pixelOf(FAINT);
    dots(pixels, canvas, all, sized, radiusOf(all.rows.length, ratio, zoom), () => faint);
  }
  if (chosen) {
    const inks = colors.map(pixelOf);
    const radius = radiusOf(chosen.rows.length, ratio, zoom);
    const grey = inks[UNKNOWN] ?? 0; // behind what is known
    dots(pixels, canvas, chosen, sized, radius, (i) => (chosen.color[i] === UNKNOWN ? grey : 0));
    dots(pixels, canvas, chosen, sized, radius, (i) =>
      chosen.color[i] === UNKNOWN ? 0 : (inks[chosen.color[i] ?? 0] ?? 0),
    );
  }
  context.putImageData(image, 0, 0);
}
