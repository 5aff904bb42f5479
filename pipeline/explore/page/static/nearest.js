// Which point is under the pointer: points in the cells of a grid, so that a million are as quick as a thousand.

/** @import { Points } from "./types" */
import { SIDE } from "./painting.js";

const CELLS = 256; // a side

export class Grid {
  /** @param {Points} points */
  constructor(points) {
    this.points = points;
    const num = points.rows.length;
    this.first = new Uint32Array(CELLS * CELLS + 1);
    const cellOf = new Uint32Array(num);
    for (let i = 0; i < num; i++) {
      const cell = cellAt(points.y[i] ?? 0) * CELLS + cellAt(points.x[i] ?? 0);
      cellOf[i] = cell;
      this.first[cell + 1] = (this.first[cell + 1] ?? 0) + 1;
    }
    for (let c = 0; c < CELLS * CELLS; c++) this.first[c + 1] = (this.first[c + 1] ?? 0) + (this.first[c] ?? 0);
    const next = this.first.slice();
    this.inOrder = new Uint32Array(num);
    for (let i = 0; i < num; i++) {
      const cell = cellOf[i] ?? 0;
      const at = next[cell] ?? 0;
      this.inOrder[at] = i;
      next[cell] = at + 1;
    }
  }

  /**
   * The point nearest to a place of the map; -1: none within reach.
   * @param {number} x
   * @param {number} y
   * @param {number} reach in units of the map
   */
  near(x, y, reach) {
    let best = -1;
    let bestSquare = reach * reach;
    for (let row = cellAt(y - reach); row <= cellAt(y + reach); row++) {
      const cells = row * CELLS;
      const start = this.first[cells + cellAt(x - reach)] ?? 0;
      const end = this.first[cells + cellAt(x + reach) + 1] ?? 0;
      for (let at = start; at < end; at++) {
        const i = this.inOrder[at] ?? 0;
        const square = ((this.points.x[i] ?? 0) - x) ** 2 + ((this.points.y[i] ?? 0) - y) ** 2;
        if (square < bestSquare) {
          best = i;
          bestSquare = square;
        }
      }
    }
    return best;
  }
}

/** @param {number} value a coordinate of the map */
function cellAt(value) {
  return Math.max(0, Math.min(CELLS - 1, Math.floor((value / (SIDE + 1)) * CELLS)));
}
