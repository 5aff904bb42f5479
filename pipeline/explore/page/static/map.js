// The map: points, what is under the pointer, the lasso.

/** @import { Column, Corner, Points, View } from "./types" */
import { Camera } from "./camera.js";
import { buttonOf, byId, ofKind } from "./dom.js";
import { listen } from "./gestures.js";
import { Hover } from "./hover.js";
import { showLegend } from "./legend.js";
import { Grid } from "./nearest.js";
import { paint } from "./painting.js";
import { colorsOf } from "./palette.js";
import { askPoints } from "./server_calls.js";
import { emptyView, isAll } from "./view.js";

const REACH_PX = 12;
const MAX_CORNERS = 300;
const SETTLE_MS = 200; // after the last move, before a part of a large map is asked for again

export class PoolMap {
  /**
   * @param {(corners: Corner[]) => void} lassoed
   * @param {(row: number) => void} chosen a scan was clicked
   * @param {(error: unknown) => void} failed
   */
  constructor(lassoed, chosen, failed) {
    this.canvas = ofKind(HTMLCanvasElement, "canvas");
    this.camera = new Camera();
    this.hover = new Hover(this.camera);
    this.failed = failed;
    this.view = emptyView();
    /** @type {Points | null} */
    this.all = null;
    /** @type {Points | null} */
    this.points = null;
    /** @type {Grid | null} */
    this.grid = null;
    this.colors = colorsOf(undefined);
    this.asked = 0;
    this.waiting = 0;
    this.settling = 0;
    this.lasso = buttonOf("lasso-on");
    listen(this.canvas, this.doings(lassoed, chosen));
    this.lasso.addEventListener("click", () => this.setLasso(this.lasso.getAttribute("aria-pressed") !== "true"));
    byId("zoom-all").addEventListener("click", () => {
      this.camera.all();
      this.moved();
    });
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  /**
   * @param {(corners: Corner[]) => void} lassoed
   * @param {(row: number) => void} chosen
   */
  doings(lassoed, chosen) {
    return {
      isLassoing: () => this.lasso.getAttribute("aria-pressed") === "true",
      pan: (/** @type {number} */ right, /** @type {number} */ down) => {
        this.camera.pan(right, down);
        this.moved();
      },
      zoom: (/** @type {number} */ factor, /** @type {number} */ left, /** @type {number} */ top) => {
        this.camera.zoomBy(factor, left, top);
        this.moved();
      },
      point: (/** @type {number} */ left, /** @type {number} */ top) =>
        this.hover.show(this.under(left, top), this.points),
      click: (/** @type {number} */ left, /** @type {number} */ top) => {
        const row = this.points?.rows[this.under(left, top)];
        if (row !== undefined) chosen(row);
      },
      lasso: (/** @type {Corner[]} */ corners, /** @type {boolean} */ done) => {
        const onMap = corners.map(([left, top]) => this.camera.toMap(left, top));
        this.drawLasso(onMap);
        if (!done) return;
        this.setLasso(false);
        const step = Math.ceil(onMap.length / MAX_CORNERS);
        lassoed(onMap.filter((_, i) => i % step === 0).map(([x, y]) => [clip(x), clip(y)]));
      },
      leave: () => this.hover.hide(),
    };
  }

  /**
   * Shows other scans, or the same in other colours.
   * @param {View} view
   * @param {Column | undefined} column
   */
  async show(view, column) {
    this.view = view;
    const number = ++this.asked;
    const whole = isAll(view.choice);
    if (!this.all && !whole)
      await this.ask({ choice: emptyView().choice }, (points) => {
        this.all = points;
      });
    await this.ask({ choice: view.choice, color: view.color, ...this.seen() }, (points) => {
      if (number !== this.asked) return;
      this.points = points;
      if (whole && this.camera.zoom === 1) this.all = points;
      this.grid = new Grid(points);
      this.colors = colorsOf(column);
      showLegend(column);
      this.drawLasso(view.choice.lasso);
      this.paint();
      document.body.dataset.drawn = String(points.meant);
    });
  }

  /** Of a map with more points than are sent, only the part that is seen is asked for. */
  seen() {
    const thinned = this.all && this.all.meant > this.all.rows.length;
    return thinned && this.camera.zoom > 1.2 ? { box: this.camera.box } : {};
  }

  /**
   * @param {object} body
   * @param {(points: Points) => void} take
   */
  async ask(body, take) {
    try {
      take(await askPoints(body));
    } catch (error) {
      this.failed(error);
    }
  }

  /** @param {number} left @param {number} top @returns {number} place of the point there; -1: none */
  under(left, top) {
    const [x, y] = this.camera.toMap(left, top);
    const [edge] = this.camera.toMap(left + REACH_PX, top);
    return this.grid?.near(x, y, edge - x) ?? -1;
  }

  moved() {
    this.hover.hide();
    this.drawLasso(this.view.choice.lasso);
    this.paint();
    if (!this.all || this.all.meant <= this.all.rows.length) return;
    window.clearTimeout(this.settling);
    this.settling = window.setTimeout(() => this.again(), SETTLE_MS);
  }

  async again() {
    const number = ++this.asked;
    await this.ask({ choice: this.view.choice, color: this.view.color, ...this.seen() }, (points) => {
      if (number !== this.asked) return;
      this.points = points;
      this.grid = new Grid(points);
      this.paint();
    });
  }

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    [this.camera.width, this.camera.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.canvas.width = Math.round(this.camera.width * ratio);
    this.canvas.height = Math.round(this.camera.height * ratio);
    this.paintNow(); // setting its size has emptied it
    this.moved();
  }

  paint() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => this.paintNow());
  }

  paintNow() {
    window.cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    paint(this.canvas, this.all, this.points, this.colors, this.camera.place, this.camera.zoom);
  }

  /** @param {boolean} on */
  setLasso(on) {
    this.lasso.setAttribute("aria-pressed", String(on));
    this.canvas.classList.toggle("lassoing", on);
  }

  /** @param {Corner[]} corners in units of the map */
  drawLasso(corners) {
    const shown = corners.map(([x, y]) => this.camera.toPage(x, y).map(Math.round).join(" "));
    document.getElementById("lasso-path")?.setAttribute("d", shown.length ? `M${shown.join("L")}Z` : "");
  }
}

/** @param {number} value */
const clip = (value) => Math.round(Math.max(-65000, Math.min(131000, value)));
