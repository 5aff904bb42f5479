// A comment, a flag and what is drawn: kept beside the answer, as evidence.

import { byId, dialogOf, ofKind } from "./dom.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Desk, Note, NotingDesk, Shape, Task } from "./types" */

const WAIT_MS = 3000;
/** @type {Note} */
const EMPTY = { comment: "", flag: false, shapes: [] };

/** The notes on the scans at hand. */
export class Notes {
  /** @type {Map<string, Note>} */
  #notes = new Map();
  #comment = ofKind(HTMLTextAreaElement, "note-comment");
  #flag = ofKind(HTMLInputElement, "note-flag");
  /**
   * What the server has not got yet: of each scan and reader the latest.
   * @type {Map<string, { annotator: string, imageId: string, note: Note }>}
   */
  #unsent = new Map();
  #busy = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

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

  /** Another reader sits down, and sees nothing of whom was there before. */
  forget() {
    this.#notes.clear();
  }

  // Whether closing the page would lose a note.
  get atRisk() {
    return this.#busy || this.#unsent.size > 0;
  }

  /** @param {Partial<Note>} part */
  #keep(part) {
    const task = this.current();
    if (!task) return;
    const note = { ...this.of(task), ...part };
    this.#notes.set(task.image_id, note);
    this.show();
    if (this.desk.kind === "file") return; // a file keeps answers alone
    const annotator = this.desk.annotator ?? "";
    this.#unsent.set(`${task.image_id} ${annotator}`, { annotator, imageId: task.image_id, note });
    this.#send(this.desk);
  }

  /**
   * One after another: of a scan's notes the server keeps the one that came last.
   * @param {NotingDesk} desk
   */
  async #send(desk) {
    if (this.#busy) return;
    this.#busy = true;
    clearTimeout(this.#timer);
    for (const [key, unsent] of this.#unsent) {
      this.#unsent.delete(key);
      try {
        const refused = await desk.note(unsent.annotator, unsent.imageId, unsent.note);
        byId("last").textContent = refused ? t("note_failed", { problem: refused }) : t("note_saved");
      } catch (problem) {
        if (!this.#unsent.has(key)) this.#unsent.set(key, unsent);
        byId("last").textContent = t("note_failed", { problem: t("trying_again", { problem: messageOf(problem) }) });
        break;
      }
    }
    this.#busy = false;
    if (this.#unsent.size) this.#timer = setTimeout(() => this.#send(desk), WAIT_MS);
  }
}
