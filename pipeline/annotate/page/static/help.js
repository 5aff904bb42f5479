// The overview of all keys.

import { byId, element } from "./dom.js";
import { replyText, t } from "./texts.js";

/** @import { Choice } from "./types" */
/** @typedef {[key: string, text: string]} Row */

/** @type {Row[]} */
const MARKING = [
  ["key_again", "help_again"],
  ["X", "help_clear"],
  ["key_enter", "help_save"],
];
/** @type {Row[]} */
const ALWAYS = [
  ["U", "help_unsure"],
  ["Z", "help_undo"],
  ["A", "help_answers"],
];
/** @type {Row[]} */
const LOOKING = [
  ["key_left_drag", "help_window"],
  ["key_wheel", "help_zoom"],
  ["key_right_drag", "help_move"],
  ["key_double_click", "help_fit"],
  ["I", "help_invert"],
  ["O", "help_actual"],
  ["T", "help_turn"],
  ["M", "help_magnify"],
  ["R", "help_reset"],
];
/** @type {Row} */
const MEASURE = ["L", "help_measure"];
/** @type {Row[]} */
const NOTING = [
  ["F", "help_box"],
  ["V", "help_arrow"],
  ["E", "help_erase"],
  ["K", "help_note_key"],
];
/** @type {Row} */
const GUIDE = ["D", "help_guide"];
/** @type {Row} */
const PRIORS = ["P", "help_priors"];
/** @type {Row[]} */
const LAST = [
  ["W", "help_why"],
  ["?", "help_help"],
];

/**
 * A row whose parts are keys of texts, as the reader sees it; a key of one letter stays.
 * @param {Row} row
 * @returns {Row}
 */
const worded = ([key, text]) => [key.length === 1 ? key : t(key), t(text)];

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
 * @param {{ served: boolean, several: boolean, defined: boolean }} has whether the page has a server, which shows other
 *   scans of a patient and keeps notes; several findings; definitions
 */
export function fillHelp(choices, { served, several, defined }) {
  /** @param {Choice} choice @returns {Row} */
  const row = ({ key, reply }) => [key.toUpperCase(), replyText(reply)];
  const keyed = choices.filter(({ key }) => key);
  const marked = keyed.filter(({ box }) => box === "findings");
  const whole = keyed.filter(({ box }) => box !== "findings");
  const marking = several ? MARKING.map(worded) : [];
  fillRows("help-answers", [...marked.map(row), ...marking, ...whole.map(row), ...ALWAYS.map(worded)]);
  const rows = [...LOOKING, MEASURE, ...(served ? [...NOTING, PRIORS] : []), ...(defined ? [GUIDE] : []), ...LAST];
  fillRows("help-view", rows.map(worded));
}
