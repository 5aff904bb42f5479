// From a key or a click to an answer, and back.

import { buttonOf, byId, say } from "./dom.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Marks } from "./marks.js" */
/** @import { Scans } from "./scans.js" */
/** @import { Stage } from "./stage.js" */
/** @import { Choice, Desk, Task } from "./types" */

const FLASH_MS = 160;

/** What the reader says of the scan on the screen. */
export class Answering {
  #unsure = false;
  #hasty = ""; // scan and reply that came too fast, and may be given again

  /**
   * @param {Desk} desk
   * @param {Stage} stage
   * @param {Scans} scans
   * @param {Marks | null} marks null: one class a scan
   * @param {(reply: string) => string} inWords
   * @param {() => void} changed
   * @param {number} minSeconds an answer that comes sooner has to be given again
   */
  constructor(desk, stage, scans, marks, inWords, changed, minSeconds) {
    this.desk = desk;
    this.stage = stage;
    this.scans = scans;
    this.marks = marks;
    this.inWords = inWords;
    this.changed = changed;
    this.minSeconds = minSeconds;
  }

  /**
   * Of independent findings a press marks one; any other answer speaks of the whole scan.
   * @param {Choice} choice
   * @param {boolean} doubtful
   */
  choose(choice, doubtful) {
    const [task, { marks }] = [this.scans.answerable, this];
    if (!task) return;
    const { image_id: id } = task;
    if (!marks) this.#answer(task, choice, choice.reply, doubtful);
    else if (choice.box === "findings") {
      marks.turn(id, choice.reply);
      if (doubtful) this.#setUnsure(true);
    } else if (marks.allows(id, choice.reply)) {
      this.#answer(task, choice, choice.box === "whole" ? marks.line(id) : choice.reply, doubtful);
    }
  }

  /** @param {boolean} doubtful */
  record(doubtful) {
    const [task, { marks }] = [this.scans.answerable, this];
    if (!task || !marks?.complete(task.image_id)) return;
    this.#answer(task, { box: "findings", button: buttonOf("record") }, marks.line(task.image_id), doubtful);
  }

  async undo() {
    const button = buttonOf("undo");
    if (!this.desk.annotator || button.disabled) return;
    button.disabled = true; // one at a time
    const who = this.desk.annotator;
    try {
      const task = await this.desk.undo();
      if (who !== this.desk.annotator) return; // somebody else sits here by now
      if (task) this.#takenBack(task);
      else byId("last").textContent = t("nothing_to_take_back");
    } catch (problem) {
      if (who === this.desk.annotator) byId("last").textContent = messageOf(problem);
    } finally {
      button.disabled = false;
      this.changed();
    }
  }

  /** Another reader sits down, and finds nothing begun. */
  restart() {
    this.marks?.forgetAll();
    this.#setUnsure(false);
    this.#hasty = "";
  }

  clearMarks() {
    const task = this.scans.answerable;
    if (task) this.marks?.clear(task.image_id);
  }

  toggleUnsure() {
    this.#setUnsure(!this.#unsure);
  }

  /**
   * @param {Task} task
   * @param {Pick<Choice, "box" | "button">} choice
   * @param {string} reply
   * @param {boolean} doubtful
   */
  #answer(task, { box, button }, reply, doubtful) {
    const doubt = doubtful || this.#unsure;
    if (this.#isHasty(task, reply)) return;
    const seconds = this.stage.stopClock();
    this.desk.answer(task, reply, doubt ? "unsure" : box === "remarks" ? null : "sure", seconds);
    this.marks?.forget(task.image_id);
    this.#setUnsure(false);
    button.classList.add("chosen");
    setTimeout(() => button.classList.remove("chosen"), FLASH_MS);
    const said = doubt ? t("reply_unsure", { reply: this.inWords(reply) }) : this.inWords(reply);
    byId("last").textContent = t("last", { reply: said });
    say(t("recorded", { reply: said }));
    this.scans.next();
  }

  /**
   * Shows an answered scan again; another answer to it counts from then on, and the earlier one stays on record.
   * @param {Task} task
   */
  goBack(task) {
    if (task.reply) this.marks?.restore(task.image_id, task.reply);
    this.scans.putBack(task);
  }

  /**
   * Whether an answer came faster than anybody can look; the reader is told, and may give it again.
   * @param {Task} task
   * @param {string} reply
   */
  #isHasty(task, reply) {
    const seconds = this.stage.clock.seconds();
    const given = `${task.image_id} ${reply}`;
    if (seconds >= this.minSeconds || this.#hasty === given) return false;
    this.#hasty = given;
    const text = t("too_fast", { seconds: seconds.toFixed(1), reply: this.inWords(reply) });
    byId("last").textContent = text;
    say(text);
    return true;
  }

  /** @param {Task} task */
  #takenBack(task) {
    if (task.reply) this.marks?.restore(task.image_id, task.reply);
    const isLine = this.marks && task.reply;
    const text = isLine ? t("taken_back_reply", { reply: this.inWords(task.reply ?? "") }) : t("taken_back");
    byId("last").textContent = text;
    say(t("sentence", { text }));
    this.scans.putBack(task);
  }

  /** @param {boolean} value */
  #setUnsure(value) {
    this.#unsure = value;
    byId("unsure").setAttribute("aria-pressed", String(value));
  }
}
