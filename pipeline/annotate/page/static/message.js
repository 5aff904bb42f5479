// A message in the place of the scan.

import { byId, element, say } from "./dom.js";

/**
 * @typedef {object} Message
 * @property {string} title
 * @property {string[]} [lines]
 * @property {HTMLButtonElement[]} [actions]
 * @property {boolean} [quiet] not spoken, and not made much of
 */

/** @param {Message} message */
export function tell({ title, lines = [], actions = [], quiet = false }) {
  const [box, head, text] = [byId("message"), byId("message-title"), byId("message-text")];
  const isThere = head.textContent === title && text.textContent === lines.join("");
  if (!box.hidden && isThere) return;
  box.hidden = false;
  box.classList.toggle("quiet", quiet);
  head.textContent = title;
  text.replaceChildren(...lines.map((line) => element("p", line)));
  byId("message-actions").replaceChildren(...actions);
  if (!quiet) say([`${title}.`, ...lines].join(" "));
}

export function hideMessage() {
  byId("message").hidden = true;
}

/**
 * A button below a message.
 * @param {string} label
 * @param {() => void} act
 */
export function actionButton(label, act) {
  const button = element("button", label, { type: "button", class: "main" });
  button.addEventListener("click", act);
  return button;
}
