// The overview of all keys.

import { byId, element } from "./dom.js";

/** @import { Choice } from "./types" */
/** @typedef {[key: string, text: string]} Row */

/** @type {Row[]} */
const MARKING = [
  ["again", "unknown (?), and once more: absent"],
  ["X", "clear the marks"],
  ["Enter", "save what is marked, and go on"],
];
/** @type {Row[]} */
const ALWAYS = [
  ["U", "unsure, for the next answer"],
  ["Z", "take back the last answer; also Backspace"],
];
/** @type {Row[]} */
const LOOKING = [
  ["left drag", "window (sideways), level (up and down)"],
  ["wheel, pinch", "zoom at the pointer"],
  ["right drag", "move the scan; also space and drag, or two fingers"],
  ["double click", "fit the scan"],
  ["I", "invert"],
  ["O", "one pixel of the scan for each of the screen (1:1)"],
  ["T", "turn by a quarter"],
  ["M", "magnifier, which follows the pointer"],
  ["R", "reset the view"],
];
/** @type {Row} */
const PRIORS = ["P", "other scans of the patient, where there are any; ← → for the next"];
/** @type {Row[]} */
const LAST = [
  ["W", "why this scan? (not while you read blind)"],
  ["?", "this help"],
];

/**
 * @param {string} box
 * @param {Row[]} rows
 */
function fillRows(box, rows) {
  const cells = rows.flatMap(([key, text]) => {
    const term = element("dt");
    term.append(key.length === 1 ? element("kbd", key) : key);
    return [term, element("dd", text)];
  });
  byId(box).replaceChildren(...cells);
}

/**
 * @param {Choice[]} choices
 * @param {{ priors: boolean, several: boolean }} has whether there are other scans of a patient, and several findings
 */
export function fillHelp(choices, { priors, several }) {
  /** @param {Choice} choice @returns {Row} */
  const row = ({ key, reply }) => [key.toUpperCase(), reply];
  const keyed = choices.filter(({ key }) => key);
  const marked = keyed.filter(({ box }) => box === "findings");
  const whole = keyed.filter(({ box }) => box !== "findings");
  fillRows("help-answers", [...marked.map(row), ...(several ? MARKING : []), ...whole.map(row), ...ALWAYS]);
  fillRows("help-view", [...LOOKING, ...(priors ? [PRIORS] : []), ...LAST]);
}
