// Answers and undos go through the outbox, in order, until the server has each one on its disk.

import { Outbox } from "./outbox.js";
import { Problem, post } from "./requests.js";

/** @import { Progress, Refused, Task, Waiting } from "./types" */
/** @typedef {{ task: Task, key: string, reply: string }} Given */

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 5000;

/** What the reader of a run sends. */
export class Sending {
  /**
   * What waits; of nobody as long as nobody has sat down.
   * @type {Outbox<Waiting>}
   */
  box = new Outbox("");
  /** @type {Outbox<Refused>} */
  refused = new Outbox("");
  /** @type {Progress} */
  known = { done: 0, left: 0, team_done: 0, team_total: 0, seconds_per_scan: null }; // as the server told it last
  /**
   * Why the server has not got it all.
   * @type {Problem | null}
   */
  problem = null;
  /**
   * Answers that may be taken back without asking the server which was the last.
   * @type {Given[]}
   */
  given = [];
  #busy = false;
  #sending = Promise.resolve(); // until nothing waits, or the server takes no more for now
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #wait = FIRST_WAIT_MS;
  #turns = 0; // answers and undos sent
  #learnt = 0; // the latest of them whose reply counts
  #flying = 0; // those without a reply yet

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  /**
   * From now on, what this reader of this run does; what waits of hers is sent.
   * @param {string} owner names run and reader
   * @param {Progress} known
   */
  async sitDown(owner, known) {
    this.known = known;
    this.box = new Outbox(owner);
    this.refused = new Outbox(`${owner}|refused`);
    const undone = new Set(this.box.all.map((item) => item.of));
    this.given = [];
    for (const { task, body } of this.box.all) {
      if (task && !undone.has(body.key)) this.given.push({ task, key: body.key, reply: body.reply ?? "" });
    }
    if (!this.#busy) await this.flush(); // what is on its way is of the reader before, who is not waited for
  }

  // The scans whose answers wait.
  get answered() {
    return this.box.all.flatMap(({ task }) => (task ? [task.image_id] : []));
  }

  /** @param {Waiting} item */
  put(item) {
    this.box.put(item);
    this.flush();
  }

  // Resolves when all that waits has been sent, also where that had begun before.
  flush() {
    if (!this.#busy) this.#sending = this.#sendAll();
    return this.#sending;
  }

  async #sendAll() {
    this.#busy = true;
    clearTimeout(this.#timer);
    try {
      for (let entry = this.box.first; entry; entry = this.box.first) await this.#send(...entry);
      this.problem = null;
      this.#wait = FIRST_WAIT_MS;
    } catch (problem) {
      this.problem = problem instanceof Problem ? problem : new Problem(0, String(problem));
      this.#timer = setTimeout(() => this.flush(), this.#wait);
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
    } finally {
      this.#busy = false;
      this.changed();
    }
  }

  /**
   * Sends an answer or an undo at once; its reply tells how far we are, unless that of a later one came first.
   * @template {Waiting["path"]} Path
   * @param {Path} path
   * @param {Waiting["body"]} body
   */
  async now(path, body) {
    const turn = ++this.#turns;
    this.#flying += 1;
    try {
      const reply = await post(path, body);
      if (turn >= this.#learnt) {
        this.#learnt = turn;
        this.known = reply.progress;
      }
      return reply;
    } finally {
      this.#flying -= 1;
    }
  }

  /**
   * Looks at a list of scans, which tells how far we are; not where the server may have looked before an answer that
   * was on its way: that answer's own reply tells better.
   * @template {{ progress: Progress }} Reply
   * @param {Promise<Reply>} asked
   */
  async look(asked) {
    const turns = this.#flying ? -1 : this.#turns;
    const reply = await asked;
    if (turns === this.#turns) this.known = reply.progress;
    return reply;
  }

  progress() {
    const waiting = this.box.all.reduce((sum, item) => sum + (item.task ? 1 : -1), 0);
    return { ...this.known, done: this.known.done + waiting, left: Math.max(0, this.known.left - waiting) };
  }

  /**
   * An answer the server will never take is kept apart until it has been read about, and so is nothing to undo.
   * @param {string} key
   * @param {Waiting} item
   */
  async #send(key, item) {
    const { box, refused } = this; // of whoever answered, who may leave meanwhile
    try {
      await this.now(item.path, item.body);
    } catch (problem) {
      if (!(problem instanceof Problem && problem.final)) throw problem;
      refused.put({ reply: item.body.reply ?? null, number: item.task?.number, why: problem.message });
      this.given = this.given.filter(({ key: given }) => given !== item.body.key);
      for (const [later, other] of box.items) if (other.of === item.body.key) box.drop(later);
    }
    box.drop(key);
    this.changed();
  }
}
