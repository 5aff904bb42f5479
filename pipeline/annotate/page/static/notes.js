// A comment, a flag and what is drawn: kept beside the answer, as evidence.

import { byId, dialogOf, ofKind } from "./dom.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Desk, Note, Shape, Task } from "./types" */

/** @type {Note} */
const EMPTY = { comment: "", flag: false, shapes: [] };

/** The notes on the scans at hand. */
export class Notes {
  /** @type {Map<string, Note>} */
  #notes = new Map();
  #comment = ofKind(HTMLTextAreaElement, "note-comment");
  #flag = ofKind(HTMLInputElement, "note-flag");

  /**
   * @param {Desk} desk
   * @param {() => Task | null} current
   */
  constructor(desk, current) {
    this.desk = desk;
    this.current = current;
    byId("note-open").hidden = desk.kind === "file";
    byId("note-form").addEventListener("submit", (event) => {
      event.preventDefault();
      dialogOf("note").close();
      this.#keep({ comment: this.#comment.value, flag: this.#flag.checked });
    });
  }

  /** @param {Task | null} task */
  of(task) {
    return (task && (this.#notes.get(task.image_id) ?? task.note)) ?? EMPTY;
  }

  open() {
    const task = this.current();
    if (!task || this.desk.kind === "file") return;
    const { comment, flag } = this.of(task);
    this.#comment.value = comment;
    this.#flag.checked = flag;
    dialogOf("note").showModal();
  }

  /** @param {Shape[]} shapes */
  draw(shapes) {
    return this.#keep({ shapes });
  }

  /** Shows on its button whether the scan has a note. */
  show() {
    const { comment, flag } = this.of(this.current());
    byId("note-open").setAttribute("aria-pressed", String(Boolean(comment || flag)));
  }

  /** @param {Partial<Note>} part */
  async #keep(part) {
    const task = this.current();
    if (!task) return;
    const note = { ...this.of(task), ...part };
    this.#notes.set(task.image_id, note);
    this.show();
    if (this.desk.kind === "file") return; // a file keeps answers alone
    try {
      await this.desk.note(task.image_id, note);
      byId("last").textContent = t("note_saved");
    } catch (problem) {
      byId("last").textContent = t("note_failed", { problem: messageOf(problem) });
    }
  }
}
