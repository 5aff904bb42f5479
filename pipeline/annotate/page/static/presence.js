// The line that says of each finding whether it is there, as the server writes and reads it (`finding_line.py`).

import { replyText, t } from "./texts.js";

/** @typedef {"absent" | "present" | "unknown"} State */

/** @type {State[]} */
export const STATES = ["absent", "present", "unknown"];
const SIGNS = { absent: "0", present: "1", unknown: "?" };

/**
 * @param {string[]} findings
 * @param {(finding: string) => State} stateOf
 */
export const writeLine = (findings, stateOf) =>
  findings.map((finding) => `${finding}=${SIGNS[stateOf(finding)]}`).join("|");

/**
 * What a line says of each finding; null when it is none.
 * @param {string} line
 * @param {string[]} findings
 */
export function readLine(line, findings) {
  /** @type {Map<string, State>} */
  const values = new Map();
  for (const part of line.split("|")) {
    const [finding, state] = [part.slice(0, -2), STATES.find((one) => part.endsWith(`=${SIGNS[one]}`))];
    if (!state || !findings.includes(finding)) return null;
    values.set(finding, state);
  }
  return values;
}

/**
 * A reply as people read it, be it a line or another one.
 * @param {string} reply
 * @param {string[]} findings
 * @param {string} none says that there is no finding
 */
export function said(reply, findings, none) {
  const values = readLine(reply, findings);
  if (!values) return replyText(reply);
  /** @param {State} state */
  const those = (state) => [...values].filter(([, known]) => known === state).map(([finding]) => finding);
  const [there, open] = [those("present"), those("unknown")];
  if (open.length === values.size) return t("unknown");
  const head = there.join(", ") || (open.length ? t("nothing_else") : replyText(none));
  return open.length ? t("some_unknown", { head, open: open.join(", ") }) : head;
}
