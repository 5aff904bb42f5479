// What is written over the scan: how it is shown, and why it was chosen.

import { byId, say } from "./dom.js";
import { t } from "./texts.js";

/** @import { Task } from "./types" */
/** @import { View } from "./view.js" */

/** @param {View} view */
export function describeView({ zoom, scale, width, level, inverted, turns, lens }) {
  const parts = [];
  const grey = { width: Math.round(width * 255), level: Math.round(level * 255) };
  if (width !== 1 || level !== 0.5) parts.push(t("window_level", grey));
  if (Math.abs(scale * devicePixelRatio - 1) < 0.005) parts.push(t("actual"));
  else if (zoom > 1.005) parts.push(`${zoom.toFixed(1)} ×`);
  if (inverted) parts.push(t("inverted"));
  if (turns) parts.push(t("turned", { degrees: 90 * turns }));
  byId("readout").textContent = parts.join(" · ");
  byId("invert").setAttribute("aria-pressed", String(inverted));
  byId("magnify").setAttribute("aria-pressed", String(lens.isOn));
}

/**
 * Shows why the scan was chosen, or no longer.
 * @param {string | null | undefined} reason
 */
export function toggleReason(reason) {
  if (!reason) return;
  byId("why-text").textContent = reason;
  showReason(byId("why-text").hidden);
  if (!byId("why-text").hidden) say(reason);
}

/**
 * Shows an adjudicator what the readers of a scan said, and not who said what.
 * @param {Task | null} task
 * @param {(reply: string) => string} inWords
 */
export function showDispute(task, inWords) {
  const [first, second] = (task?.disputed ?? []).map(inWords);
  byId("dispute").hidden = first === undefined || second === undefined;
  if (first === undefined || second === undefined) return;
  byId("dispute-text").textContent = t("readers_said", { first, second });
}

/** @param {boolean} shown */
export function showReason(shown) {
  byId("why-text").hidden = !shown;
  byId("why").setAttribute("aria-expanded", String(shown));
}
