// The answers that may be given, each with a key and a button.

import { byId, element } from "./dom.js";
import { replyText } from "./texts.js";

/** @import { Box, Choice, Config } from "./types" */

/**
 * Of classes the tenth has the key 0, which of independent findings is that of "none".
 * @param {Config} config
 * @returns {{ reply: string, key: string, box: Box }[]}
 */
function answersOf({ findings, independent, none, remarks }) {
  const numKeys = independent ? 9 : 10;
  return [
    ...findings.map((reply, i) => ({
      reply,
      key: i < numKeys ? String((i + 1) % 10) : "",
      box: /** @type {const} */ ("findings"),
    })),
    ...(independent ? [{ reply: none, key: "0", box: /** @type {const} */ ("whole") }] : []),
    ...remarks.map(({ reply, key }) => ({ reply, key, box: /** @type {const} */ ("remarks") })),
  ];
}

/**
 * Puts the buttons on the page.
 * @param {Config} config
 * @param {(choice: Choice, doubtful: boolean) => void} choose is told of a click
 * @returns {Choice[]}
 */
export function makeChoices(config, choose) {
  return answersOf(config).map((answer) => {
    const { reply, key, box } = answer;
    const button = element("button", "", { type: "button", "data-reply": reply });
    if (key) button.append(element("kbd", key.toUpperCase(), { "aria-hidden": "true" }));
    button.append(element("span", replyText(reply)));
    if (key) button.setAttribute("aria-keyshortcuts", key.toUpperCase());
    const choice = { ...answer, button };
    button.addEventListener("click", (event) => choose(choice, event.shiftKey));
    byId(box).append(button);
    return choice;
  });
}
