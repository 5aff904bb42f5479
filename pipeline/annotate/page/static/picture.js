// A scan as the page shows it: an image of 8 bits behind a filter, or a canvas that is painted anew from 16.

/** @import { Depth } from "./deep.js" */
/** @import { GreyFilter } from "./grey.js" */
/** @typedef {FlatPicture | DeepPicture} Picture */

/** Of 8 bits: the browser's own image. */
export class FlatPicture {
  /** @param {HTMLImageElement} element */
  constructor(element) {
    this.element = element;
    element.draggable = false;
  }

  get width() {
    return this.element.naturalWidth;
  }

  get height() {
    return this.element.naturalHeight;
  }

  /** @param {string} text what a screen reader says of it */
  name(text) {
    this.element.alt = text;
  }

  /**
   * @param {GreyFilter} filter
   * @param {number} width of the window, in parts of the range
   * @param {number} level
   * @param {boolean} inverted
   */
  shade(filter, width, level, inverted) {
    this.element.style.filter = filter.set(width, level, inverted);
  }
}

/** Of 16 bits: every grey value has its part in a narrow window. */
export class DeepPicture {
  #shown = "";

  /** @param {Depth} depth */
  constructor({ width, height, values }) {
    this.element = document.createElement("canvas");
    this.width = this.element.width = width;
    this.height = this.element.height = height;
    this.values = values;
    this.element.setAttribute("role", "img");
  }

  /** @param {string} text what a screen reader says of it */
  name(text) {
    this.element.setAttribute("aria-label", text);
  }

  /**
   * @param {GreyFilter} _filter is of no use here
   * @param {number} width of the window, in parts of the range
   * @param {number} level
   * @param {boolean} inverted
   */
  shade(_filter, width, level, inverted) {
    const wanted = `${width} ${level} ${inverted}`;
    const context = this.element.getContext("2d");
    if (this.#shown === wanted || !context) return;
    this.#shown = wanted;
    const greys = greysOf(width, level, inverted);
    const image = context.createImageData(this.width, this.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = greys[this.values[i] ?? 0] ?? 0;
    context.putImageData(image, 0, 0);
  }
}

/**
 * The pixel of each of 65,536 values; red, green, blue and opacity stand in one number, the same whatever its order.
 * @param {number} width
 * @param {number} level
 * @param {boolean} inverted
 */
function greysOf(width, level, inverted) {
  const bytes = new Uint8ClampedArray(4 * 65536);
  for (let value = 0; value < 65536; value++) {
    const shown = (value / 65535 - level) / width + 0.5;
    bytes.fill(255 * (inverted ? 1 - shown : shown), 4 * value, 4 * value + 3);
    bytes[4 * value + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}
