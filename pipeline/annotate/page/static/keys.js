// Keys and buttons, and what they do.

import { byId, isInside } from "./dom.js";

/** @import { Answering } from "./answering.js" */
/** @import { Choice } from "./types" */
/** @import { View } from "./view.js" */

/**
 * What a key does, by its name in lower case.
 * @typedef {Record<string, () => unknown>} Commands
 */

const BUTTONS = {
  unsure: "u",
  undo: "z",
  invert: "i",
  reset: "r",
  actual: "o",
  turn: "t",
  magnify: "m",
  "prior-open": "p",
  why: "w",
  "help-open": "?",
  "prior-close": "escape",
  "prior-back": "arrowleft",
  "prior-on": "arrowright",
  clear: "x",
  box: "f",
  arrow: "v",
  measure: "l",
  "drawing-clear": "e",
  "note-open": "k",
  "mine-open": "a",
  "guide-open": "d",
};

/**
 * The key as the user means it: digits and letters of whatever keyboard layout.
 * @param {KeyboardEvent} event
 */
function keyOf(event) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code)?.[1];
  if (digit) return digit;
  const letter = /^Key([A-Z])$/.exec(event.code)?.[1];
  const key = event.key.toLowerCase();
  return letter && !/^[a-z]$/.test(key) && key.length === 1 && key > "\u007f" ? letter.toLowerCase() : key;
}

/**
 * While the space bar is held, a drag pans.
 * @param {View[]} views
 * @param {boolean} panning
 */
function setPanning(views, panning) {
  document.body.classList.toggle("panning", panning);
  for (const view of views) view.panning = panning;
}

/**
 * @param {Choice[]} choices
 * @param {Commands} commands
 * @param {Answering} answering
 * @returns {(event: KeyboardEvent, key: string) => (() => unknown) | null} what a key does now
 */
function meaning(choices, commands, answering) {
  return (event, key) => {
    const choice = choices.find((one) => one.key === key);
    if (choice) return () => answering.choose(choice, event.shiftKey);
    const command = commands[key];
    if (command) return command;
    const records = answering.marks && key === "enter" && !isInside(event, "button"); // which keeps its Enter
    return records ? () => answering.record(event.shiftKey) : null;
  };
}

/**
 * @param {View[]} views
 * @param {ReturnType<typeof meaning>} commandOf
 */
function listen(views, commandOf) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || isInside(event, "input, textarea")) return;
    if (event.repeat && event.key === "Enter") event.preventDefault(); // a held Enter presses its button once
    const key = keyOf(event);
    if (event.altKey || event.metaKey || (event.ctrlKey && key !== "z")) return;
    if (key === " " && !isInside(event, "button")) {
      setPanning(views, true);
      event.preventDefault();
    }
    const command = commandOf(event, key);
    if (!command) return;
    event.preventDefault();
    if (!event.repeat) command();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") setPanning(views, false);
  });
  window.addEventListener("blur", () => setPanning(views, false));
}

/**
 * @param {View[]} views that the space bar lets pan
 * @param {Choice[]} choices whose buttons are wired already
 * @param {Commands} commands
 * @param {Answering} answering
 */
export function bindKeys(views, choices, commands, answering) {
  listen(views, meaning(choices, commands, answering));
  for (const [id, key] of Object.entries(BUTTONS)) byId(id).addEventListener("click", () => commands[key]?.());
  byId("record").addEventListener("click", (event) => answering.record(event.shiftKey));
  // After a click the space bar pans again; whoever moves by Tab keeps the place.
  document.addEventListener("click", (event) => {
    if (event.detail && isInside(event, "#rail button, .caption button")) byId("stage").focus({ preventScroll: true });
  });
}
