// A comment, a flag and what is drawn: kept beside the answer, as evidence.

import { byId, dialogOf, ofKind } from "./dom.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Desk, Note, NotingDesk, Shape, Task } from "./types" */

const FIRST_WAIT_MS = 3000;
const LONGEST_WAIT_MS = 30000;
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
  #wait = FIRST_WAIT_MS;
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
    if (!task) return EMPTY;
    return this.#notes.get(task.image_id) ?? this.#unsent.get(this.#key(task))?.note ?? task.note ?? EMPTY;
  }

  /** @param {Task} task */
  #key(task) {
    return `${task.image_id} ${this.desk.annotator}`;
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
    return this.#unsent.size > 0;
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
    this.#unsent.set(this.#key(task), { annotator, imageId: task.image_id, note });
    this.#send(this.desk);
  }

  /**
   * One after another: of a scan's notes the server keeps the one that came last. What it has not got stays.
   * @param {NotingDesk} desk
   */
  async #send(desk) {
    if (this.#busy) return;
    this.#busy = true;
    clearTimeout(this.#timer);
    let text = t("note_saved");
    for (let [first] = this.#unsent; first; [first] = this.#unsent) {
      const [key, unsent] = first;
      try {
        const refused = await desk.note(unsent.annotator, unsent.imageId, unsent.note);
        if (refused) text = t("note_failed", { problem: refused });
        this.#wait = FIRST_WAIT_MS;
      } catch (problem) {
        text = t("note_failed", { problem: t("trying_again", { problem: messageOf(problem) }) });
        this.#timer = setTimeout(() => this.#send(desk), this.#wait);
        this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
        this.#tell(unsent.annotator, text);
        break;
      }
      if (this.#unsent.get(key) === unsent) this.#unsent.delete(key);
      this.#tell(unsent.annotator, text);
    }
    this.#busy = false;
  }

  /**
   * @param {string} annotator whom it is said to, if she is still here
   * @param {string} text
   */
  #tell(annotator, text) {
    if (annotator === this.desk.annotator) byId("last").textContent = text;
  }
}
