"use strict";
// The overview of all keys.
(() => {
  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  function fillRows(box, pairs) {
    const rows = pairs.map(([key, text]) => {
      const term = element("dt");
      term.append(key.length === 1 ? element("kbd", key) : key);
      return [term, element("dd", text)];
    });
    document.getElementById(box).replaceChildren(...rows.flat());
  }

  function fillHelp(choices, { priors, several }) {
    const row = ({ key, reply }) => [key.toUpperCase(), reply];
    const [marked, whole] = [choices.filter(({ key, box }) => key && box === "findings"), choices.filter(({ key, box }) => key && box !== "findings")];
    fillRows("help-answers", [
      ...marked.map(row),
      ...(several ? [["again", "unknown (?), and once more: absent"], ["X", "clear the marks"], ["Enter", "save what is marked, and go on"]] : []),
      ...whole.map(row),
      ["U", "unsure, for the next answer"],
      ["Z", "take back the last answer; also Backspace"],
    ]);
    fillRows("help-view", [
      ["left drag", "window (sideways), level (up and down)"],
      ["wheel, pinch", "zoom at the pointer"],
      ["right drag", "move the scan; also space and drag, or two fingers"],
      ["double click", "fit the scan"],
      ["I", "invert"],
      ["R", "reset the view"],
      ...(priors ? [["P", "other scans of the patient, where there are any; ← → for the next"]] : []),
      ["W", "why this scan? (not while you read blind)"],
      ["?", "this help"],
    ]);
  }

  Object.assign(window.cxr, { element, fillHelp });
})();
