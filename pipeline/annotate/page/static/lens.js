// A magnifier that follows the pointer over a view.

/** @import { View } from "./view.js" */

const SIDE = 260;
const TIMES = 2.5; // as large as on the screen

/** The magnifier of one view. */
export class Lens {
  isOn = false;
  /** @type {{ x: number, y: number } | null} */
  #at = null;

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "lens";
    this.canvas.hidden = true;
    this.canvas.width = this.canvas.height = SIDE * devicePixelRatio;
    view.box.append(this.canvas);
    view.box.addEventListener("pointermove", (event) => this.#follow(event));
    view.box.addEventListener("pointerleave", () => this.#leave());
  }

  toggle() {
    this.isOn = !this.isOn;
    this.paint();
  }

  /** Paints what is under the pointer; the view calls it when it changes. */
  paint() {
    const { picture } = this.view;
    const context = this.canvas.getContext("2d");
    this.canvas.hidden = !(this.isOn && picture && this.#at && context);
    if (this.canvas.hidden || !picture || !this.#at || !context) return;
    const { element } = picture;
    const place = new DOMMatrix(element.style.transform);
    const under = place.inverse().transformPoint(this.#at);
    const scale = this.view.scale * TIMES * devicePixelRatio;
    const middle = this.canvas.width / 2;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = scale < 4;
    context.setTransform(
      new DOMMatrix()
        .translate(middle, middle)
        .rotate(90 * this.view.turns)
        .scale(scale)
        .translate(-under.x, -under.y),
    );
    context.drawImage(element, 0, 0);
    this.canvas.style.filter = element.style.filter;
    this.canvas.style.transform = `translate(${this.#at.x - SIDE / 2}px, ${this.#at.y - SIDE / 2}px)`;
  }

  /** @param {PointerEvent} event */
  #follow(event) {
    const { left, top } = this.view.box.getBoundingClientRect();
    this.#at = { x: event.clientX - left, y: event.clientY - top };
    if (this.isOn) this.paint();
  }

  #leave() {
    this.#at = null;
    this.paint();
  }
}
