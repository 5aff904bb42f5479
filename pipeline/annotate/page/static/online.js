// The desk behind a server.

import { newKey } from "./outbox.js";
import { Problem, pictureProblem, post } from "./requests.js";
import { Sending } from "./sending.js";
import { counted, t } from "./texts.js";

/** @import { Certainty, Note, NotingDesk, Question, ServedConfig, Task } from "./types" */

/**
 * Scans from the server, answers to it.
 * @implements {NotingDesk}
 */
export class OnlineDesk {
  kind = /** @type {const} */ ("server");
  nameKey = "annotator";
  givenName;
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
    this.givenName = config.reader;
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

  async mine() {
    await this.sending.flush(); // the list is the server's: what waits here has to be there first
    const { answers, deep } = await post("mine", this.#who);
    this.#note(deep);
    return answers;
  }

  /**
   * @param {string} annotator who noted it, who may have left the page
   * @param {string} imageId
   * @param {Note} note
   * @returns {Promise<string>} why the server will never take it; empty: it has it
   * @throws {Problem} when it may take it later
   */
  async note(annotator, imageId, note) {
    try {
      await post("note", { annotator, image_id: imageId, ...note });
    } catch (problem) {
      if (problem instanceof Problem && problem.final) return problem.message;
      throw problem;
    }
    return "";
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
    const waiting = num ? counted("waits", num) : "";
    const fragile = box.fragile && num ? ` ${t("fragile")}` : "";
    if (problem?.status === 401) {
      const sent = num ? ` ${t("sent_then", { waiting })}` : "";
      return `${t("link_expired")}${sent}${fragile}`;
    }
    if (problem && num) return `${t("not_saved_yet", { waiting, problem: problem.message })}${fragile}`;
    if (problem) return t("trying_again", { problem: problem.message });
    const last = refused.all.at(-1);
    if (!last) return "";
    const reply = last.reply === null ? t("an_undo") : this.inWords(last.reply);
    const which = last.number ? t("reply_of_scan", { reply, number: last.number }) : reply;
    return counted("not_taken", refused.size, { which, why: last.why });
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
