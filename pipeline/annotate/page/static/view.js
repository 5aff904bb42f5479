// A scan in a box: window and level, zoom, pan, invert, turn.

import { listenTo } from "./gestures.js";
import { GreyFilter } from "./grey.js";
import { Lens } from "./lens.js";

/** @import { Picture } from "./picture.js" */

const MAX_ZOOM = 16;
const FITTED = { zoom: 1, x: 0, y: 0 };
const UNTOUCHED = { ...FITTED, width: 1, level: 0.5, inverted: false, turns: 0 };

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
  turns = 0; // quarters to the right
  scale = 1; // pixels of the screen a pixel of the scan
  panning = false; // the space bar is held: a drag pans
  #frame = 0;
  /** @type {Picture | null} */
  picture = null;

  /**
   * @param {HTMLElement} box
   * @param {(view: View) => void} changed
   */
  constructor(box, changed = () => {}) {
    this.box = box;
    this.changed = changed;
    this.grey = new GreyFilter(box);
    this.lens = new Lens(this);
    listenTo(this);
    new ResizeObserver(() => this.#paint()).observe(box);
  }

  /** @param {Picture | null} picture */
  show(picture) {
    this.picture?.element.remove();
    this.picture = picture;
    if (picture) {
      picture.element.className = "scan";
      this.box.prepend(picture.element);
    }
    this.reset();
  }

  get isEmpty() {
    return this.picture === null;
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

  /** A pixel of the scan becomes a pixel of the screen. */
  actual() {
    if (this.picture) this.#zoomTo(this.zoom / (this.scale * devicePixelRatio), 0, 0);
  }

  turn() {
    this.turns = (this.turns + 1) % 4;
    this.fit();
  }

  magnify() {
    this.lens.toggle();
    this.#paint();
  }

  /**
   * Zoom by `factor`, keeping what is under the point (px from the box's centre) where it is.
   * @param {number} factor
   * @param {number} px
   * @param {number} py
   */
  zoomAt(factor, px, py) {
    this.#zoomTo(clamp(this.zoom * factor, 1, MAX_ZOOM), px, py);
  }

  /**
   * @param {number} zoom
   * @param {number} px
   * @param {number} py
   */
  #zoomTo(zoom, px, py) {
    const ratio = zoom / this.zoom;
    this.zoom = zoom;
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
      if (this.picture) this.#place(this.picture);
      this.lens.paint();
      this.changed(this);
    });
  }

  /** @param {Picture} picture */
  #place(picture) {
    const { clientWidth, clientHeight } = this.box;
    const [across, down] = this.turns % 2 ? [picture.height, picture.width] : [picture.width, picture.height];
    this.scale = this.zoom * Math.min(clientWidth / across, clientHeight / down);
    const [width, height] = [across * this.scale, down * this.scale];
    const [slackX, slackY] = [Math.max(0, width - clientWidth) / 2, Math.max(0, height - clientHeight) / 2];
    this.x = clamp(this.x, -slackX, slackX); // the scan never leaves the box
    this.y = clamp(this.y, -slackY, slackY);
    const [left, top] = [(clientWidth - width) / 2 + this.x, (clientHeight - height) / 2 + this.y];
    picture.element.style.transform = this.#transform(picture, left, top);
    picture.shade(this.grey, this.width, this.level, this.inverted);
    Object.assign(this.box.dataset, {
      zoom: this.zoom.toFixed(3),
      width: this.width.toFixed(3),
      level: this.level.toFixed(3),
      inverted: this.inverted,
      turns: this.turns,
    });
  }

  /**
   * @param {Picture} picture
   * @param {number} left
   * @param {number} top
   */
  #transform(picture, left, top) {
    const place = `translate(${left}px, ${top}px)`;
    if (!this.turns) return `${place} scale(${this.scale})`;
    const [x, y] = [
      [picture.height, 0],
      [picture.width, picture.height],
      [0, picture.width],
    ][this.turns - 1] ?? [0, 0]; // where the scan's corner goes
    return `${place} scale(${this.scale}) translate(${x}px, ${y}px) rotate(${90 * this.turns}deg)`;
  }
}
