// What the page says, in the language that it was served in: its words stand in texts.en.json and texts.de.json.

import { byId } from "./dom.js";

/** @type {Record<string, string>} */
const TEXTS = JSON.parse(byId("config").textContent ?? "{}").texts ?? {};

/**
 * A text, with its blanks filled in.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = TEXTS[key];
  if (text === undefined) throw new Error(`no text ${key}`);
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * A text that counts something: `KEY_one` or `KEY_many`, with `n` filled in.
 * @param {string} key
 * @param {number} n
 * @param {Record<string, string | number>} [values]
 */
export const counted = (key, n, values = {}) => t(`${key}_${n === 1 ? "one" : "many"}`, { n, ...values });

/**
 * An answer as the reader reads it: classes as the project calls them, remarks in the page's language.
 * @param {string} reply
 */
export const replyText = (reply) => TEXTS[`reply.${reply}`] ?? reply;
