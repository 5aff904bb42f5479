// Grey values of a scan go through an SVG filter, which is exact and quick.

const SVG = "http://www.w3.org/2000/svg";
let numFilters = 0;

/** Window, level and inversion as a filter of CSS. */
export class GreyFilter {
  /** @param {HTMLElement} box where the filter is kept */
  constructor(box) {
    this.id = `window-${++numFilters}`;
    const svg = document.createElementNS(SVG, "svg");
    const filter = document.createElementNS(SVG, "filter");
    const transfer = document.createElementNS(SVG, "feComponentTransfer");
    this.slopes = ["R", "G", "B"].map((channel) => document.createElementNS(SVG, `feFunc${channel}`));
    for (const [name, value] of Object.entries({ id: this.id, x: "0", y: "0", width: "1", height: "1" })) {
      filter.setAttribute(name, value);
    }
    filter.setAttribute("color-interpolation-filters", "sRGB");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("class", "filter");
    for (const slope of this.slopes) slope.setAttribute("type", "linear");
    transfer.append(...this.slopes);
    filter.append(transfer);
    svg.append(filter);
    box.append(svg);
  }

  /**
   * Sets the filter; returns the value for `style.filter`.
   * @param {number} width
   * @param {number} level
   * @param {boolean} inverted
   */
  set(width, level, inverted) {
    const [slope, offset] = [1 / width, 0.5 - level / width];
    for (const channel of this.slopes) {
      channel.setAttribute("slope", String(inverted ? -slope : slope));
      channel.setAttribute("intercept", String(inverted ? 1 - offset : offset));
    }
    return width === 1 && level === 0.5 && !inverted ? "none" : `url("#${this.id}")`;
  }
}
