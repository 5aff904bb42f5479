// What the colours of the map mean.

/** @import { Column } from "./types" */
import { byId, element } from "./dom.js";
import { colorsOf, NUM_WORDS } from "./palette.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_SHOWN = 14;

/** @param {Column | undefined} column */
export function showLegend(column) {
  const colors = colorsOf(column);
  byId("legend").replaceChildren(...(column ? (column.values ? words(column, colors) : ramp(column, colors)) : []));
}

/**
 * @param {Column} column
 * @param {string[]} colors
 */
function words(column, colors) {
  const values = column.values ?? [];
  const shown = values.slice(0, MAX_SHOWN).map(({ name }, i) => entry(name, colors[i] ?? ""));
  const more = values.length > MAX_SHOWN ? ` and ${values.length - MAX_SHOWN} more` : "";
  const repeat = values.length > NUM_WORDS ? "; colours repeat" : "";
  if (more || repeat) shown.push(element("span", `${more}${repeat}`));
  if (column.num_unknown) shown.push(entry(column.unknown, colors[255] ?? ""));
  return [element("span", `${column.title}:`), ...shown];
}

/**
 * @param {Column} column
 * @param {string[]} colors
 */
function ramp(column, colors) {
  const strip = drawing("ramp", 130);
  for (let i = 0; i < 26; i++) strip.append(rectangle(i * 5, 5.5, colors[Math.round((i / 25) * 199)] ?? ""));
  const line = element("span", `${column.title}: ${round(column.from)}`);
  line.append(strip, round(column.to));
  return column.num_unknown ? [line, entry(column.unknown, colors[255] ?? "")] : [line];
}

/**
 * @param {string} text
 * @param {string} color
 */
function entry(text, color) {
  const line = element("span");
  const dot = drawing("dot", 10);
  dot.append(rectangle(0, 10, color));
  line.append(dot, text);
  return line;
}

/**
 * @param {string} kind
 * @param {number} width
 */
function drawing(kind, width) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", kind);
  svg.setAttribute("viewBox", `0 0 ${width} 10`);
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

/**
 * @param {number} x
 * @param {number} width
 * @param {string} color
 */
function rectangle(x, width, color) {
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ x, y: 0, width, height: 10, fill: color }))
    rect.setAttribute(name, String(value));
  return rect;
}

/** @param {number | undefined} value */
const round = (value) => (value === undefined ? "" : Number(value.toPrecision(3)).toString());
