// A scan in a box: window and level, zoom, pan, invert.

import { listenTo } from "./gestures.js";
import { GreyFilter } from "./grey.js";

const MAX_ZOOM = 16;
const FITTED = { zoom: 1, x: 0, y: 0 };
const UNTOUCHED = { ...FITTED, width: 1, level: 0.5, inverted: false };

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

/** A box that shows one scan. */
export class View {
  zoom = 1;
  x = 0;
  y = 0;
  width = 1;
  level = 0.5;
  inverted = false;
  panning = false; // the space bar is held: a drag pans
  #frame = 0;
  /** @type {HTMLImageElement | null} */
  #image = null;

  /**
   * @param {HTMLElement} box
   * @param {(view: View) => void} changed
   */
  constructor(box, changed = () => {}) {
    this.box = box;
    this.changed = changed;
    this.grey = new GreyFilter(box);
    listenTo(this);
    new ResizeObserver(() => this.#paint()).observe(box);
  }

  /** @param {HTMLImageElement | null} image */
  show(image) {
    this.#image?.remove();
    this.#image = image;
    if (image) {
      image.className = "scan";
      image.draggable = false;
      this.box.append(image);
    }
    this.reset();
  }

  get isEmpty() {
    return this.#image === null;
  }

  reset() {
    Object.assign(this, UNTOUCHED);
    this.#paint();
  }

  fit() {
    Object.assign(this, FITTED);
    this.#paint();
  }

  invert() {
    this.inverted = !this.inverted;
    this.#paint();
  }

  /**
   * Zoom by `factor`, keeping what is under the point (px from the box's centre) where it is.
   * @param {number} factor
   * @param {number} px
   * @param {number} py
   */
  zoomAt(factor, px, py) {
    const before = this.zoom;
    this.zoom = clamp(before * factor, 1, MAX_ZOOM);
    const ratio = this.zoom / before;
    this.x = px - (px - this.x) * ratio;
    this.y = py - (py - this.y) * ratio;
    this.#paint();
  }

  /**
   * @param {number} dx
   * @param {number} dy
   */
  panBy(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.#paint();
  }

  /**
   * As in a PACS: right widens the window, down raises the level.
   * @param {number} dx
   * @param {number} dy
   */
  windowBy(dx, dy) {
    this.width = clamp(this.width * Math.exp(dx / 260), 0.02, 4);
    this.level = clamp(this.level + (dy / 500) * Math.min(this.width, 1), -0.5, 1.5);
    this.#paint();
  }

  #paint() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#image) this.#place(this.#image);
      this.changed(this);
    });
  }

  /** @param {HTMLImageElement} image */
  #place({ naturalWidth, naturalHeight, style }) {
    const { clientWidth, clientHeight } = this.box;
    const scale = this.zoom * Math.min(clientWidth / naturalWidth, clientHeight / naturalHeight);
    const [width, height] = [naturalWidth * scale, naturalHeight * scale];
    const [slackX, slackY] = [Math.max(0, width - clientWidth) / 2, Math.max(0, height - clientHeight) / 2];
    this.x = clamp(this.x, -slackX, slackX); // the scan never leaves the box
    this.y = clamp(this.y, -slackY, slackY);
    const [left, top] = [(clientWidth - width) / 2 + this.x, (clientHeight - height) / 2 + this.y];
    style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    style.filter = this.grey.set(this.width, this.level, this.inverted);
    Object.assign(this.box.dataset, {
      zoom: this.zoom.toFixed(3),
      width: this.width.toFixed(3),
      level: this.level.toFixed(3),
      inverted: this.inverted,
    });
  }
}
