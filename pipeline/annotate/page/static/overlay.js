// What is written over the scan: how it is shown, and why it was chosen.

import { byId, say } from "./dom.js";

/** @import { View } from "./view.js" */

/** @param {View} view */
export function describeView({ zoom, scale, width, level, inverted, turns, lens }) {
  const parts = [];
  if (width !== 1 || level !== 0.5) parts.push(`window ${Math.round(width * 255)}, level ${Math.round(level * 255)}`);
  if (Math.abs(scale * devicePixelRatio - 1) < 0.005) parts.push("1:1");
  else if (zoom > 1.005) parts.push(`${zoom.toFixed(1)} ×`);
  if (inverted) parts.push("inverted");
  if (turns) parts.push(`turned ${90 * turns}°`);
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

/** @param {boolean} shown */
export function showReason(shown) {
  byId("why-text").hidden = !shown;
  byId("why").setAttribute("aria-expanded", String(shown));
}
