// Mouse, fingers and wheel on a view.

import { isInside } from "./dom.js";

/** @import { View } from "./view.js" */
/** @typedef {{ x: number, y: number }} Point */

/** @param {MouseEvent} event @returns {Point} */
const pointOf = ({ clientX, clientY }) => ({ x: clientX, y: clientY });

/**
 * @param {View} view
 * @param {Point} point on the page
 * @returns {[number, number]} px from the centre of the view's box
 */
function fromCentre({ box }, { x, y }) {
  const { left, top, width, height } = box.getBoundingClientRect();
  return [x - left - width / 2, y - top - height / 2];
}

/**
 * Two fingers: move and zoom.
 * @param {View} view
 * @param {Point} before where the finger was that moves
 * @param {Point} now
 * @param {Point} other where the other one is
 */
function pinch(view, before, now, other) {
  /** @param {Point} point */
  const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
  const middle = fromCentre(view, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
  view.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
  view.zoomAt(apart(now) / apart(before), ...middle);
}

/**
 * @param {View} view
 * @param {WheelEvent} event
 */
function wheel(view, event) {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  const step = -event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015); // ctrl: a trackpad's pinch
  view.zoomAt(Math.exp(Math.min(Math.max(step, -0.6), 0.6)), ...fromCentre(view, pointOf(event)));
}

/**
 * A drag widens the window and raises the level; with the right button, the space bar or two fingers it moves the scan.
 * @param {View} view
 * @param {Map<number, Point>} pointers that are down, and where they were
 * @param {PointerEvent} event
 */
function drag(view, pointers, event) {
  const before = pointers.get(event.pointerId);
  if (!before || view.isEmpty) return;
  const now = pointOf(event);
  const [dx, dy] = [now.x - before.x, now.y - before.y];
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (pointers.size === 2 && other) pinch(view, before, now, other);
  else if (event.pointerType === "mouse" && (event.buttons & 6 || view.panning)) view.panBy(dx, dy);
  else if (pointers.size === 1) view.windowBy(dx, dy);
  pointers.set(event.pointerId, now);
}

/** @param {View} view */
export function listenTo(view) {
  const { box } = view;
  /** @type {Map<number, Point>} */
  const pointers = new Map();
  box.addEventListener("pointerdown", (event) => {
    if (isInside(event, "button")) return;
    pointers.set(event.pointerId, pointOf(event));
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => drag(view, pointers, event));
  for (const end of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"])) {
    box.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  box.addEventListener("wheel", (event) => wheel(view, event), { passive: false });
  box.addEventListener("dblclick", () => view.fit());
  box.addEventListener("contextmenu", (event) => event.preventDefault());
  box.addEventListener("mousedown", (event) => event.preventDefault()); // no autoscroll, no selection, no focus lost
}
