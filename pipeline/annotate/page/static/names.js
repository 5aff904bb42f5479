// Names of readers.

import { t } from "./texts.js";

/** @import { NameRules } from "./types" */

const SIGNS = " ._@'’+:/-";

/**
 * A name as the server would keep it (`answers.annotator_name`).
 * @param {string} text
 * @param {NameRules} rules
 * @throws {Error} when the server would refuse it
 */
export function nameOf(text, { reserved, longest }) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are blanks to Python, which judges the name again
  const blanks = /[\t-\r\x1c-\x1f\x85\p{Z}]+/u;
  const name = text.normalize("NFC").split(blanks).filter(Boolean).join(" ");
  const fits = [...name].every((one) => /[\p{L}\p{N}\p{Mn}]/u.test(one) || SIGNS.includes(one));
  if (!fits || [...name].length > longest || !/^[\p{L}\p{N}]/u.test(name)) {
    throw new Error(t("no_name", { longest }));
  }
  if (reserved.includes(name.toLowerCase())) {
    throw new Error(t("reserved_name"));
  }
  return name;
}
