// The desk behind a server.

import { newKey } from "./outbox.js";
import { LINK_EXPIRED, pictureProblem, post } from "./requests.js";
import { Sending } from "./sending.js";
import { count } from "./words.js";

/** @import { Certainty, DeskOf, Question, ServedConfig, Task } from "./types" */

/**
 * Scans from the server, answers to it.
 * @implements {DeskOf<"server">}
 */
export class OnlineDesk {
  kind = /** @type {const} */ ("server");
  nameKey = "annotator";
  givenName = "";
  /** @type {string | null} */
  annotator = null;
  lock = ""; // one window at a time has the list of this name
  /** @type {string | null} */
  #undoKey = null;
  /**
   * Scans of 16 bits among those that the server has named.
   * @type {Set<string>}
   */
  #deep = new Set();

  /**
   * @param {ServedConfig} config
   * @param {() => void} changed
   * @param {(reply: string) => string} inWords
   */
  constructor(config, changed, inWords) {
    this.config = config;
    this.changed = changed;
    this.inWords = inWords;
    /** @type {Question} */
    this.question = { title: config.title, findings: config.findings }; // as the server put it last
    this.sending = new Sending(changed);
    window.addEventListener("online", () => this.sending.flush());
    document.addEventListener("visibilitychange", () => document.hidden || this.sending.flush());
  }

  /** @param {string} name */
  async enter(name) {
    const { annotator, progress } = await post("enter", { annotator: name });
    this.annotator = annotator;
    this.lock = `cxr-ssl|${this.config.name}|${annotator}`;
    await this.sending.sitDown(`${this.config.name}|${annotator}`, progress);
    return annotator;
  }

  /**
   * @param {number} num
   * @param {string[]} shown
   */
  async tasks(num, shown) {
    const held = [...new Set([...shown, ...this.sending.answered])];
    const { tasks, deep, title, findings } = await this.sending.look(post("next", { ...this.#who, num, held }));
    this.question = { title, findings };
    this.#note(deep);
    return tasks;
  }

  /**
   * @param {Task} task
   * @param {string} reply
   * @param {Certainty} certainty
   * @param {number} seconds
   */
  answer(task, reply, certainty, seconds) {
    const body = { ...this.#who, image_id: task.image_id, reply, certainty, seconds, key: newKey() };
    this.sending.given.push({ task, key: body.key, reply });
    this.sending.put({ path: "answer", body, task });
  }

  async undo() {
    const latest = this.sending.given.pop();
    if (latest) {
      const { task, key, reply } = latest;
      this.sending.put({ path: "undo", body: { ...this.#who, key: newKey(), of: key }, of: key });
      return { ...task, reply };
    }
    this.#undoKey ??= newKey(); // asked again after a failure, it is still the same undo
    const { task, deep } = await this.sending.now("undo", { ...this.#who, key: this.#undoKey, of: null });
    this.#undoKey = null;
    this.#note(deep);
    this.changed();
    return task;
  }

  dismiss() {
    const { refused } = this.sending;
    for (const key of [...refused.items.keys()]) refused.drop(key);
    this.changed();
  }

  get canDismiss() {
    return !this.sending.problem && this.sending.refused.size > 0;
  }

  get waiting() {
    return this.sending.answered.length;
  }

  get atRisk() {
    return this.sending.box.fragile && this.sending.box.size > 0;
  }

  progress() {
    return this.sending.progress();
  }

  notice() {
    const { box, problem, refused } = this.sending;
    const num = this.waiting;
    const waiting = num ? `${count(num, "answer")} wait${num === 1 ? "s" : ""} on this device` : "";
    const fragile = box.fragile && num ? " This browser keeps nothing when it is closed: leave the page open." : "";
    if (problem?.status === 401) {
      const sent = num ? ` ${waiting} and will be sent then.` : "";
      return `${LINK_EXPIRED}${sent}${fragile}`;
    }
    if (problem && num) return `Not saved yet: ${waiting}. ${problem.message} Trying again by itself.${fragile}`;
    if (problem) return `${problem.message} Trying again by itself.`;
    const last = refused.all.at(-1);
    if (!last) return "";
    const which = `${this.inWords(last.reply)}${last.number ? `, scan ${last.number}` : ""}`;
    return `${count(refused.size, "answer")} not taken; the last: ${which}. ${last.why}`;
  }

  /** @param {Task} task */
  async priors(task) {
    const { priors, deep } = await post("priors", { ...this.#who, image_id: task.image_id });
    this.#note(deep);
    return priors;
  }

  /** @param {string} imageId */
  src(imageId) {
    return `/image/${imageId}`;
  }

  /** @param {string} imageId */
  isDeep(imageId) {
    return this.#deep.has(imageId);
  }

  /** @param {string} imageId */
  pictureProblem(imageId) {
    return pictureProblem(this.src(imageId));
  }

  /** @param {string[]} deep */
  #note(deep) {
    for (const imageId of deep) this.#deep.add(imageId);
  }

  // Who asks; an empty name is refused by the server.
  get #who() {
    return { annotator: this.annotator ?? "" };
  }
}
