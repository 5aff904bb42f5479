// The scans at hand: one on the screen, the next ones behind it.

import { actionButton, tell } from "./message.js";
import { nothingLeft } from "./nothing_left.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Pictures } from "./pictures.js" */
/** @import { Stage } from "./stage.js" */
/** @import { Desk, Task } from "./types" */

const NUM_AHEAD = 8; // scans at hand
const LOW_WATER = 5; // when to ask for more
const LOOK_AGAIN_MS = 10000;
const TRY_AGAIN_MS = 2000;

/**
 * What the list works with.
 * @typedef {object} Parts
 * @property {Desk} desk
 * @property {Stage} stage
 * @property {Pictures} pictures
 * @property {string[]} findings that the page has buttons for
 * @property {() => void} changed
 * @property {(imageId: string) => void} turned hears of the next scan, empty for none, before it is shown
 */

/** The reader's list. */
export class Scans {
  /** @type {Task[]} */
  #queue = []; // the first is on the screen
  #filling = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;

  /** @param {Parts} parts */
  constructor(parts) {
    this.parts = parts;
  }

  /** The scan on the screen. */
  get current() {
    return this.#queue[0] ?? null;
  }

  /** The scan on the screen, once it may be answered. */
  get answerable() {
    return this.parts.stage.isReady ? this.current : null;
  }

  /** The scan on the screen is answered: the next one. */
  next() {
    this.#queue.shift();
    this.#show();
    this.#fill();
  }

  /** @param {Task} task one that is open again */
  putBack(task) {
    this.#queue = [task, ...this.#queue.filter((other) => other.image_id !== task.image_id)];
    this.#show();
  }

  /** Somebody else reads, or the list is ours again. */
  async restart() {
    this.#queue = [];
    this.#filling = false;
    this.parts.stage.clear();
    tell({ title: t("loading"), quiet: true });
    await this.#fill();
  }

  /**
   * No more answers here; what waits is still sent.
   * @param {string} state
   * @param {string} title
   * @param {string} line
   * @param {string} label of the button that loads the page again
   */
  halt(state, title, line, label) {
    const { desk, stage, changed } = this.parts;
    desk.annotator = null;
    document.body.dataset.state = state;
    this.#queue = [];
    stage.clear();
    changed();
    tell({ title, lines: [line], actions: [actionButton(label, () => location.reload())] });
  }

  /** What is said of an empty list may have changed. */
  refresh() {
    if (!this.current && ["done", "waiting"].includes(document.body.dataset.state ?? "")) this.#showNone();
  }

  #show() {
    const { stage, pictures, changed, turned } = this.parts;
    const task = this.current;
    stage.leave();
    turned(task?.image_id ?? "");
    clearTimeout(this.#again);
    changed();
    if (!task) return this.#showNone();
    pictures.keep(this.#queue.slice(0, NUM_AHEAD));
    stage.show(task);
  }

  // No scan is left.
  #showNone() {
    const { desk, stage } = this.parts;
    stage.clear();
    delete document.body.dataset.scan;
    document.body.dataset.state = desk.progress().left ? "waiting" : "done";
    if (this.#filling) return tell({ title: t("loading"), quiet: true });
    tell(nothingLeft(desk));
    if (desk.kind === "server") this.#again = setTimeout(() => this.current ?? this.#fill(), LOOK_AGAIN_MS);
  }

  async #fill() {
    const { desk, changed } = this.parts;
    if (this.#filling || this.#queue.length > LOW_WATER || !desk.annotator) return;
    this.#filling = true;
    const who = desk.annotator;
    let wasEmpty = false;
    try {
      const tasks = await desk.tasks(
        NUM_AHEAD,
        this.#queue.map((task) => task.image_id),
      );
      if (who !== desk.annotator) return;
      if (this.#isOutdated()) return this.#haltOutdated();
      wasEmpty = !this.#queue.length;
      this.#append(tasks);
    } catch (problem) {
      this.#again = setTimeout(() => this.#fill(), TRY_AGAIN_MS);
      const lines = [messageOf(problem), t("kept_going_on")];
      if (!this.#queue.length) tell({ title: t("waiting_server"), lines });
    } finally {
      if (who === desk.annotator) this.#filling = false;
    }
    changed();
    if (wasEmpty) this.#show();
  }

  /** @param {Task[]} tasks */
  #append(tasks) {
    const known = new Set(this.#queue.map((task) => task.image_id));
    this.#queue.push(...tasks.filter((task) => !known.has(task.image_id)));
    this.parts.pictures.keep(this.#queue.slice(0, NUM_AHEAD));
  }

  // A new queue asks for other findings than the page has buttons for.
  #isOutdated() {
    return this.parts.desk.question.findings.join("\n") !== this.parts.findings.join("\n");
  }

  #haltOutdated() {
    this.halt("outdated", t("outdated"), t("outdated_line"), t("load_again"));
  }
}
