// Seconds spent on a scan: not while the tab is hidden, and no pause of more than five minutes.

const LONGEST_PAUSE_MS = 5 * 60 * 1000;

/** Runs from `start` to `stop`. */
export class Clock {
  #spent = 0;
  /** @type {number | null} */
  #since = null; // no scan is shown
  #hidden = document.hidden;

  /** @param {() => number} now in ms */
  constructor(now = () => performance.now()) {
    this.now = now;
    for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"]) {
      document.addEventListener(kind, () => this.#tick(), { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#tick();
      this.#hidden = document.hidden;
      if (this.#since !== null) this.#since = this.now();
    });
  }

  start() {
    this.#spent = 0;
    this.#since = this.now();
  }

  /** Seconds spent so far. */
  seconds() {
    this.#tick();
    return this.#spent / 1000;
  }

  stop() {
    this.#tick();
    this.#since = null;
    return Math.round(this.#spent) / 1000;
  }

  #tick() {
    if (this.#since === null || this.#hidden) return;
    const pause = this.now() - this.#since;
    if (pause <= LONGEST_PAUSE_MS) this.#spent += pause;
    this.#since = this.now();
  }
}
