// What a mouse or fingers do on the map: move it, zoom it, draw a lasso, point at a scan, choose one.

/** @import { Corner } from "./types" */
import { byId } from "./dom.js";

const STILL_PX = 5; // a press that moves less is a click
const LASSO_STEP_PX = 5;

/**
 * What the map does about it; all in pixels of the page, from the canvas's upper left corner.
 * @typedef {object} Doings
 * @property {() => boolean} isLassoing
 * @property {(right: number, down: number) => void} pan
 * @property {(factor: number, left: number, top: number) => void} zoom
 * @property {(left: number, top: number) => void} point
 * @property {(left: number, top: number) => void} click
 * @property {(corners: Corner[], done: boolean) => void} lasso
 * @property {() => void} leave
 */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Doings} doings
 */
export function listen(canvas, doings) {
  /** @type {Map<number, Corner>} */
  const down = new Map();
  /** @type {Corner[]} */
  let corners = [];
  let moved = 0;
  /** @param {MouseEvent} event @returns {Corner} */
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    moved = down.size > 1 ? STILL_PX : 0;
    corners = (doings.isLassoing() || event.shiftKey) && down.size === 1 ? [at(event)] : [];
  });
  canvas.addEventListener("pointermove", (event) => {
    const [left, top] = at(event);
    const before = down.get(event.pointerId);
    if (!before) return doings.point(left, top);
    moved += Math.hypot(left - before[0], top - before[1]);
    if (corners.length) drawOn(corners, [left, top], doings);
    else if (down.size === 2) pinch(down, event.pointerId, [left, top], doings);
    else if (moved > STILL_PX) doings.pan(left - before[0], top - before[1]);
    down.set(event.pointerId, [left, top]);
  });
  canvas.addEventListener("pointerup", (event) => {
    down.delete(event.pointerId);
    if (corners.length > 2) doings.lasso(corners, true);
    else if (moved <= STILL_PX) doings.click(...at(event));
    corners = [];
  });
  canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointerleave", doings.leave);
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      doings.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...at(event));
    },
    { passive: false },
  );
  byId("zoom-in").addEventListener("click", () => doings.zoom(1.6, canvas.clientWidth / 2, canvas.clientHeight / 2));
  byId("zoom-out").addEventListener("click", () => doings.zoom(0.625, canvas.clientWidth / 2, canvas.clientHeight / 2));
}

/**
 * @param {Corner[]} corners
 * @param {Corner} next
 * @param {Doings} doings
 */
function drawOn(corners, next, doings) {
  const last = corners.at(-1);
  if (last && Math.hypot(next[0] - last[0], next[1] - last[1]) < LASSO_STEP_PX) return;
  corners.push(next);
  doings.lasso(corners, false);
}

/**
 * Two fingers: the distance zooms, the middle moves.
 * @param {Map<number, Corner>} down
 * @param {number} id
 * @param {Corner} now
 * @param {Doings} doings
 */
function pinch(down, id, now, doings) {
  const before = down.get(id) ?? now;
  const other = [...down].find(([one]) => one !== id)?.[1] ?? now;
  const [was, is] = [before, now].map(([x, y]) => Math.hypot(x - other[0], y - other[1]));
  doings.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  if (was && is) doings.zoom(is / was, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
}
