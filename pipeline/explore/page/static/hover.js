// What is told of the scan under the pointer: a ring at once, its picture as soon as it is here.

/** @import { Points } from "./types" */
/** @import { Camera } from "./camera.js" */
import { byId, ofKind } from "./dom.js";
import { ask } from "./server_calls.js";

const REST_MS = 40; // the pointer rests this long before anything is asked
const WIDTH = 190;
const HEIGHT = 240;

export class Hover {
  /** @param {Camera} camera */
  constructor(camera) {
    this.camera = camera;
    this.box = byId("hover");
    this.picture = ofKind(HTMLImageElement, "hover-picture");
    this.row = -1;
    this.timer = 0;
    /** @type {Map<number, { image_id: string, words: string }>} */
    this.known = new Map();
  }

  /**
   * @param {number} index place among the points; -1: nothing
   * @param {Points | null} points
   */
  show(index, points) {
    if (index < 0 || !points) return this.hide();
    const row = points.rows[index] ?? -1;
    if (row === this.row) return;
    this.row = row;
    const [left, top] = this.camera.toPage(points.x[index] ?? 0, points.y[index] ?? 0);
    ringAt(left, top);
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.tell(row, left, top), this.known.has(row) ? 0 : REST_MS);
  }

  hide() {
    window.clearTimeout(this.timer);
    this.row = -1;
    this.box.hidden = true;
    document.getElementById("ring")?.setAttribute("visibility", "hidden");
  }

  /**
   * @param {number} row
   * @param {number} left
   * @param {number} top
   */
  async tell(row, left, top) {
    const told = this.known.get(row) ?? (await this.ask(row));
    if (!told || row !== this.row) return;
    this.picture.src = `/thumbnail/${told.image_id}`;
    byId("hover-text").textContent = told.words;
    this.box.style.left = `${left + WIDTH + 16 > this.camera.width ? Math.max(4, left - WIDTH) : left + 16}px`;
    this.box.style.top = `${Math.max(4, Math.min(top - 60, this.camera.height - HEIGHT))}px`;
    this.box.hidden = false;
  }

  /** @param {number} row */
  async ask(row) {
    const reply = await ask("scan", { row }).catch(() => null);
    if (!reply?.scan) return null;
    const wanted = ["label", "predicted", "source", "split"];
    const said = reply.scan.said.filter(({ title }) => wanted.includes(title));
    const words = said.map(({ title, value }) => `${title}: ${value}`).join(" · ");
    const told = { image_id: reply.scan.image_id, words: words || reply.scan.image_id };
    if (this.known.size > 2000) this.known.clear();
    this.known.set(row, told);
    return told;
  }
}

/**
 * @param {number} left
 * @param {number} top
 */
function ringAt(left, top) {
  const ring = document.getElementById("ring");
  ring?.setAttribute("cx", String(left));
  ring?.setAttribute("cy", String(top));
  ring?.setAttribute("visibility", "visible");
}
