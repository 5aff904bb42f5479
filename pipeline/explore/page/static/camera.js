// Which part of the map is seen.

/** @import { Corner, Place } from "./types" */
import { SIDE } from "./painting.js";

const MAX_ZOOM = 400;
const MARGIN = 14; // pixels

export class Camera {
  constructor() {
    this.zoom = 1;
    this.x = 0.5; // middle of the screen, as a share of the map
    this.y = 0.5;
    this.width = 1;
    this.height = 1;
  }

  /** @returns {Place} */
  get place() {
    const scale = (Math.min(this.width, this.height) - 2 * MARGIN) * this.zoom;
    return { scale, left: this.width / 2 - this.x * scale, bottom: this.height / 2 - this.y * scale };
  }

  /**
   * The place of the map under a pixel, in its units.
   * @param {number} left
   * @param {number} top
   * @returns {Corner}
   */
  toMap(left, top) {
    const place = this.place;
    const x = ((left - place.left) / place.scale) * SIDE;
    const y = ((this.height - top - place.bottom) / place.scale) * SIDE;
    return [x, y];
  }

  /**
   * The pixel of a place of the map.
   * @param {number} x
   * @param {number} y
   * @returns {Corner}
   */
  toPage(x, y) {
    const { scale, left, bottom } = this.place;
    return [left + (x / SIDE) * scale, this.height - bottom - (y / SIDE) * scale];
  }

  /** The part that is seen: left, bottom, right, top; within what the server takes. */
  get box() {
    const [left, top] = this.toMap(0, 0);
    const [right, bottom] = this.toMap(this.width, this.height);
    const whole = [left, bottom, right, top].map((value) => Math.round(Math.max(-SIDE, Math.min(2 * SIDE, value))));
    return /** @type {[number, number, number, number]} */ (whole);
  }

  /**
   * Zooms; what lies under the pixel stays there.
   * @param {number} factor
   * @param {number} left
   * @param {number} top
   */
  zoomBy(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toMap(left, top);
    this.zoom = Math.max(0.8, Math.min(MAX_ZOOM, this.zoom * factor));
    const [newX, newY] = this.toMap(left, top);
    this.x += (x - newX) / SIDE;
    this.y += (y - newY) / SIDE;
  }

  /**
   * @param {number} right pixels the map is moved by
   * @param {number} down
   */
  pan(right, down) {
    const { scale } = this.place;
    this.x = Math.max(-0.2, Math.min(1.2, this.x - right / scale));
    this.y = Math.max(-0.2, Math.min(1.2, this.y + down / scale));
  }

  all() {
    [this.zoom, this.x, this.y] = [1, 0.5, 0.5];
  }
}
