// The desk in a file: answers stay in this browser until they are saved as a CSV file.

import { saveTable } from "./csv.js";
import { nameOf } from "./names.js";
import { device, Outbox } from "./outbox.js";
import { t } from "./texts.js";

/** @import { Certainty, FileConfig, Row, SavingDesk, Task } from "./types" */

/** @param {number[]} values */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return low === undefined || high === undefined ? null : (low + high) / 2;
}

/**
 * Scans from the file's folder, answers to this browser.
 * @implements {SavingDesk}
 */
export class OfflineDesk {
  kind = /** @type {const} */ ("file");
  /** @type {string | null} */
  annotator = null;
  waiting = 0;
  canDismiss = false;
  #owner = "";
  #reader = ""; // stays when another window takes over
  /** @type {Outbox<Row>} */
  #box = new Outbox(""); // of nobody as long as nobody has sat down
  /** @type {Map<string, { key: string, row: Row }>} */
  #entries = new Map();

  /**
   * @param {FileConfig} config
   * @param {() => void} changed
   */
  constructor(config, changed) {
    this.config = config;
    this.changed = changed;
    this.question = { title: config.title, findings: config.findings };
    this.givenName = config.annotator;
    // Each file asks anew: whoever read another one on this machine need not be the one who reads this.
    this.nameKey = `annotator|${config.run}|${config.round}`;
  }

  get lock() {
    return this.#owner && `cxr-ssl|${this.#owner}`;
  }

  /**
   * Each name has answers of its own in this browser; `ann` and `Ann` are one person, as where the file is taken in.
   * @param {string} name
   */
  async enter(name) {
    this.#reader = this.annotator = this.config.annotator || nameOf(name, this.config.names);
    this.#owner = `${this.config.run}|${this.config.round}|${this.#reader.toLowerCase()}`;
    this.#box = new Outbox(this.#owner);
    this.#look();
    return this.#reader;
  }

  /**
   * @param {number} num
   * @param {string[]} shown
   */
  async tasks(num, shown) {
    this.#look();
    const busy = new Set(shown);
    const open = this.config.tasks.filter(({ image_id }) => !this.#entries.has(image_id) && !busy.has(image_id));
    return open.slice(0, num);
  }

  /**
   * @param {Task} task
   * @param {string} reply
   * @param {Certainty} certainty
   * @param {number} seconds
   */
  answer({ image_id, number }, reply, certainty, seconds) {
    const [file, labelled_at] = [`images/${image_id}.png`, new Date().toISOString()];
    const row = { image_id, rank: number, file, label: reply, certainty, seconds, labelled_at };
    this.#enterRow(this.#box.put(row), row);
    this.changed();
  }

  async undo() {
    this.#look();
    const latest = [...this.#entries.values()].at(-1);
    if (!latest) return null;
    const { image_id, label } = latest.row;
    this.#box.drop(latest.key);
    this.#entries.delete(image_id);
    this.changed();
    const task = this.config.tasks.find((one) => one.image_id === image_id);
    return task ? { ...task, reply: label } : null;
  }

  async mine() {
    this.#look();
    const answers = [...this.#entries.values()].reverse();
    return answers.flatMap(({ row }) => {
      const task = this.config.tasks.find((one) => one.image_id === row.image_id);
      return task ? [{ ...task, reply: row.label, certainty: row.certainty }] : [];
    });
  }

  dismiss() {}

  get unsaved() {
    return this.#entries.size > 0 && device.get(`saved|${this.#owner}`) !== this.#state();
  }

  // Another window that took over has all that this browser keeps.
  get atRisk() {
    return this.unsaved && Boolean(this.annotator || this.#box.fragile);
  }

  save() {
    this.#look();
    const { columns, round, run } = this.config;
    const rows = this.#rows.sort((a, b) => a.rank - b.rank);
    const origin = { annotator: this.#reader, round, run };
    saveTable(
      "answers.csv",
      columns,
      rows.map((row) => ({ ...row, ...origin })),
    );
    device.set(`saved|${this.#owner}`, this.#state());
    this.changed();
  }

  progress() {
    const [done, total] = [this.#entries.size, this.config.tasks.length];
    const seconds = this.#rows.map((row) => row.seconds).filter((value) => value !== null);
    return { done, left: total - done, team_done: done, team_total: total, seconds_per_scan: median(seconds) };
  }

  notice() {
    return this.#box.fragile ? t("file_fragile") : "";
  }

  /** @returns {Promise<string[]>} */
  async priors() {
    return [];
  }

  /** @param {string} imageId */
  src(imageId) {
    return `images/${imageId}.png`;
  }

  // A page in a file may not read the bytes of a picture beside it, only show it.
  isDeep() {
    return false;
  }

  async pictureProblem() {
    return null;
  }

  get #rows() {
    return [...this.#entries.values()].map(({ row }) => row);
  }

  // All her answers in this browser: where windows cannot lock each other out, another may have added some.
  #look() {
    this.#box.refresh();
    this.#entries = new Map();
    for (const [key, row] of [...this.#box.items]) this.#enterRow(key, row);
  }

  /**
   * The later answer to a scan stands; an earlier one may come from another window.
   * @param {string} key
   * @param {Row} row
   */
  #enterRow(key, row) {
    const before = this.#entries.get(row.image_id);
    this.#entries.delete(row.image_id);
    this.#entries.set(row.image_id, { key, row });
    if (before) this.#box.drop(before.key);
  }

  // Another text after every answer and every undo.
  #state() {
    return `${this.#box.last}|${this.#entries.size}`;
  }
}
