// A box, an arrow or a length on the scan: a drag draws it while its tool is on.

import { buttonOf, byId, say } from "./dom.js";
import { t } from "./texts.js";

/** @import { Notes } from "./notes.js" */
/** @import { Shape, Task } from "./types" */
/** @import { View } from "./view.js" */
/** @typedef {Shape["kind"]} Tool */
/** @typedef {{ x: number, y: number }} Point in pixels of the scan */

const SVG = "http://www.w3.org/2000/svg";
const TOOLS = /** @type {const} */ ({ box: "box", arrow: "arrow", length: "measure" }); // their buttons
const SHORTEST = 3; // pixels of the screen: less was a click
const HEAD = 12; // length of an arrow's head on the screen
const TEXT = 15;

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

/**
 * The two strokes of an arrow's head.
 * @param {Shape} shape
 * @param {number} size in pixels of the scan
 */
function head({ x0, y0, x1, y1 }, size) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  return [angle + 2.6, angle - 2.6]
    .map((turn) => `M${x1} ${y1}L${x1 + size * Math.cos(turn)} ${y1 + size * Math.sin(turn)}`)
    .join("");
}

/** @param {Shape} shape */
function lengthText({ x0, y0, x1, y1, length_mm: mm }) {
  const pixels = Math.hypot(x1 - x0, y1 - y0);
  return mm === null ? t("pixels", { n: Math.round(pixels) }) : t("millimetres", { n: mm.toFixed(1) });
}

/** What is drawn on one view. */
export class Drawing {
  /** @type {Tool | null} */
  #tool = null;
  /** @type {Point | null} */
  #from = null;
  /** @type {Shape | null} */
  #drawn = null; // on its way

  /**
   * @param {View} view
   * @param {Notes} notes
   * @param {() => Task | null} current
   */
  constructor(view, notes, current) {
    this.view = view;
    this.notes = notes;
    this.current = current;
    this.layer = svg("svg", { class: "drawing", "aria-hidden": "true" });
    view.box.append(this.layer);
    view.box.addEventListener("pointerdown", (event) => this.#begin(event), { capture: true });
    view.box.addEventListener("pointermove", (event) => this.#move(event), { capture: true });
    for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
      view.box.addEventListener(end, () => this.#end(), { capture: true });
    }
  }

  /** @param {Tool} tool turns it on, or off again */
  use(tool) {
    this.#set(this.#tool === tool ? null : tool);
  }

  stop() {
    this.#set(null);
  }

  clear() {
    this.notes.draw([]);
    this.paint();
  }

  paint() {
    const { picture, scale } = this.view;
    const shapes = [...this.notes.of(this.current()).shapes, ...(this.#drawn ? [this.#drawn] : [])];
    buttonOf("drawing-clear").disabled = !shapes.length;
    this.layer.replaceChildren();
    if (!picture || !shapes.length) return;
    this.layer.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
    this.layer.setAttribute("width", String(picture.width));
    this.layer.setAttribute("height", String(picture.height));
    this.layer.style.transform = picture.element.style.transform;
    for (const shape of shapes) this.#paintShape(shape, scale);
  }

  /**
   * @param {Shape} shape
   * @param {number} scale pixels of the screen a pixel of the scan
   */
  #paintShape(shape, scale) {
    const { kind, x0, y0, x1, y1 } = shape;
    if (kind === "box") {
      const [x, y] = [Math.min(x0, x1), Math.min(y0, y1)];
      this.layer.append(svg("rect", { x, y, width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) }));
      return;
    }
    const tip = kind === "arrow" ? head(shape, HEAD / scale) : "";
    this.layer.append(svg("path", { d: `M${x0} ${y0}L${x1} ${y1}${tip}` }));
    if (kind !== "length") return;
    const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
    const turned = `rotate(${-90 * this.view.turns} ${x} ${y})`;
    const text = svg("text", { x: x + 6 / scale, y: y - 6 / scale, "font-size": TEXT / scale, transform: turned });
    text.textContent = lengthText(shape);
    this.layer.append(text);
  }

  /** @param {Tool | null} tool */
  #set(tool) {
    this.#tool = tool;
    this.#from = this.#drawn = null;
    for (const [kind, id] of Object.entries(TOOLS)) byId(id).setAttribute("aria-pressed", String(kind === tool));
    this.view.box.classList.toggle("drawing-on", tool !== null);
  }

  /** @param {PointerEvent} event */
  #place(event) {
    const { left, top } = this.view.box.getBoundingClientRect();
    const place = new DOMMatrix(this.view.picture?.element.style.transform ?? "");
    return place.inverse().transformPoint({ x: event.clientX - left, y: event.clientY - top });
  }

  /** @param {PointerEvent} event */
  #begin(event) {
    if (!this.#tool || !this.view.picture || !this.current() || event.button !== 0) return;
    event.stopImmediatePropagation();
    this.view.box.setPointerCapture(event.pointerId);
    this.#from = this.#place(event);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const [tool, from] = [this.#tool, this.#from];
    if (!tool || !from) return;
    event.stopImmediatePropagation();
    const to = this.#place(event);
    const [x0, y0, x1, y1] = [from.x, from.y, to.x, to.y].map((one) => Math.round(10 * one) / 10);
    const spacing = this.current()?.spacing_mm;
    const pixels = Math.hypot(to.x - from.x, to.y - from.y);
    const isKnown = tool === "length" && spacing;
    const mm = isKnown ? Math.round(10 * pixels * spacing) / 10 : null;
    this.#drawn = { kind: tool, x0: x0 ?? 0, y0: y0 ?? 0, x1: x1 ?? 0, y1: y1 ?? 0, length_mm: mm };
    this.paint();
  }

  #end() {
    const drawn = this.#drawn;
    this.#from = this.#drawn = null;
    if (!drawn) return;
    const long = Math.hypot(drawn.x1 - drawn.x0, drawn.y1 - drawn.y0) * this.view.scale >= SHORTEST;
    if (long) this.notes.draw([...this.notes.of(this.current()).shapes, drawn]);
    if (long && drawn.kind === "length") say(lengthText(drawn));
    this.stop();
    this.paint();
  }
}
