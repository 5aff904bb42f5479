"use strict";
// A scan in a box: window and level, zoom, pan, invert. Grey values go through an SVG filter, which is exact and quick.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MAX_ZOOM = 16;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
  let numViews = 0;

  class View {
    constructor(box, changed = () => {}) {
      this.box = box;
      this.changed = changed;
      this.panning = false; // the space bar is held: a drag pans
      this.pointers = new Map();
      this.image = null;
      this.id = `window-${++numViews}`;
      this.slopes = this.#filter();
      this.#reset();
      box.addEventListener("pointerdown", (event) => this.#down(event));
      box.addEventListener("pointermove", (event) => this.#move(event));
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
        box.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
      }
      box.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
      box.addEventListener("dblclick", () => this.fit());
      box.addEventListener("contextmenu", (event) => event.preventDefault());
      box.addEventListener("mousedown", (event) => event.preventDefault()); // no autoscroll, no selection, no focus lost
      new ResizeObserver(() => this.#paint()).observe(box);
    }

    show(image) {
      this.image?.remove();
      this.image = image;
      if (image) {
        image.className = "scan";
        image.draggable = false;
        this.box.append(image);
      }
      this.reset();
    }

    reset() {
      this.#reset();
      this.#paint();
    }

    fit() {
      Object.assign(this, { zoom: 1, x: 0, y: 0 });
      this.#paint();
    }

    invert() {
      this.inverted = !this.inverted;
      this.#paint();
    }

    // Zoom by `factor`, keeping what is under the point (px from the box's centre) where it is.
    zoomAt(factor, px, py) {
      const before = this.zoom;
      this.zoom = clamp(before * factor, 1, MAX_ZOOM);
      const ratio = this.zoom / before;
      this.x = px - (px - this.x) * ratio;
      this.y = py - (py - this.y) * ratio;
      this.#paint();
    }

    panBy(dx, dy) {
      this.x += dx;
      this.y += dy;
      this.#paint();
    }

    // As in a PACS: right widens the window, down raises the level.
    windowBy(dx, dy) {
      this.width = clamp(this.width * Math.exp(dx / 260), 0.02, 4);
      this.level = clamp(this.level + (dy / 500) * Math.min(this.width, 1), -0.5, 1.5);
      this.#paint();
    }

    #reset() {
      Object.assign(this, { zoom: 1, x: 0, y: 0, width: 1, level: 0.5, inverted: false });
    }

    #filter() {
      const svg = document.createElementNS(SVG, "svg");
      const filter = document.createElementNS(SVG, "filter");
      const transfer = document.createElementNS(SVG, "feComponentTransfer");
      const slopes = ["R", "G", "B"].map((channel) => document.createElementNS(SVG, `feFunc${channel}`));
      for (const [name, value] of Object.entries({ id: this.id, x: 0, y: 0, width: 1, height: 1 })) filter.setAttribute(name, value);
      filter.setAttribute("color-interpolation-filters", "sRGB");
      svg.setAttribute("aria-hidden", "true");
      svg.setAttribute("class", "filter");
      for (const slope of slopes) slope.setAttribute("type", "linear");
      transfer.append(...slopes);
      filter.append(transfer);
      svg.append(filter);
      this.box.append(svg);
      return slopes;
    }

    #paint() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        if (this.image) this.#place();
        this.changed(this);
      });
    }

    #place() {
      const { naturalWidth, naturalHeight, style } = this.image;
      const { clientWidth, clientHeight } = this.box;
      const scale = this.zoom * Math.min(clientWidth / naturalWidth, clientHeight / naturalHeight);
      const shown = [naturalWidth * scale, naturalHeight * scale];
      const slack = [Math.max(0, shown[0] - clientWidth) / 2, Math.max(0, shown[1] - clientHeight) / 2];
      this.x = clamp(this.x, -slack[0], slack[0]); // the scan never leaves the box
      this.y = clamp(this.y, -slack[1], slack[1]);
      const [left, top] = [(clientWidth - shown[0]) / 2 + this.x, (clientHeight - shown[1]) / 2 + this.y];
      style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
      const plain = this.width === 1 && this.level === 0.5 && !this.inverted;
      style.filter = plain ? "none" : `url("#${this.id}")`;
      const [slope, offset] = [1 / this.width, 0.5 - this.level / this.width];
      for (const channel of this.slopes) {
        channel.setAttribute("slope", this.inverted ? -slope : slope);
        channel.setAttribute("intercept", this.inverted ? 1 - offset : offset);
      }
      Object.assign(this.box.dataset, {
        zoom: this.zoom.toFixed(3), width: this.width.toFixed(3), level: this.level.toFixed(3), inverted: this.inverted,
      });
    }

    #down(event) {
      if (event.target.closest("button")) return;
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.box.setPointerCapture(event.pointerId);
    }

    #move(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before || !this.image) return;
      const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
      if (this.pointers.size === 2) this.#pinch(event, before);
      else if (event.pointerType === "mouse" && (event.buttons & 6 || this.panning)) this.panBy(dx, dy);
      else if (this.pointers.size === 1) this.windowBy(dx, dy);
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    }

    #pinch(event, before) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
      const now = { x: event.clientX, y: event.clientY };
      const box = this.box.getBoundingClientRect();
      const middle = [(now.x + other.x) / 2 - box.left - box.width / 2, (now.y + other.y) / 2 - box.top - box.height / 2];
      this.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
      this.zoomAt(apart(now) / apart(before), ...middle);
    }

    #wheel(event) {
      event.preventDefault();
      const box = this.box.getBoundingClientRect();
      const lines = event.deltaMode === 1 ? 16 : 1;
      const step = clamp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015), -0.6, 0.6); // ctrl: a trackpad's pinch
      this.zoomAt(Math.exp(step), event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
    }
  }

  window.cxr = { View };
})();
