// Who reads, and in which window.

import { buttonOf, byId, dialogOf, ofKind } from "./dom.js";
import { device } from "./outbox.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Scans } from "./scans.js" */
/** @import { Desk } from "./types" */

/** The person before the page. */
export class Reader {
  /** @type {Set<string>} */
  #claimed = new Set();
  #entering = false;
  #dialog = dialogOf("enter");
  #name = ofKind(HTMLInputElement, "name");

  /**
   * @param {Desk} desk
   * @param {Scans} scans
   * @param {() => void} forget drops what the page shows of the reader before
   */
  constructor(desk, scans, forget) {
    this.desk = desk;
    this.scans = scans;
    this.forget = forget;
    byId("enter-form").addEventListener("submit", (event) => this.#submit(event));
    this.#dialog.addEventListener("cancel", (event) => {
      if (!this.#mayLeave) event.preventDefault();
    });
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.#mayLeave) event.preventDefault(); // a second one is not asked about
    });
    this.#dialog.addEventListener("close", () => {
      if (this.#entering) this.#dialog.showModal(); // by a gesture of the system, which nothing prevents
    });
    byId("enter-cancel").addEventListener("click", () => this.#dialog.close());
    byId("change").addEventListener("click", () => this.#ask());
    byId("change").hidden = Boolean(desk.givenName);
  }

  /** Sits down whom the page knows; asks where it knows nobody. */
  async start() {
    const name = this.desk.givenName || device.get(this.desk.nameKey);
    if (!name) return this.#ask();
    try {
      await this.#sitDown(name);
    } catch (problem) {
      this.#ask(messageOf(problem));
    }
  }

  /** @param {string} given */
  async #sitDown(given) {
    const name = await this.desk.enter(given);
    this.forget();
    device.set(this.desk.nameKey, name);
    byId("annotator").textContent = name;
    await this.#claim();
    byId("last").textContent = "";
    await this.scans.restart();
  }

  #ask(mistake = "") {
    this.#name.value = this.desk.annotator ?? device.get(this.desk.nameKey) ?? "";
    byId("enter-error").textContent = mistake;
    byId("enter-cancel").hidden = !this.desk.annotator;
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#name.select();
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    this.#setEntering(true); // until the list is hers nothing on the page may be answered
    try {
      const name = this.#name.value;
      if (name.trim() && name !== this.desk.annotator) await this.#sitDown(name);
      this.#setEntering(false);
      this.#dialog.close();
      byId("stage").focus({ preventScroll: true });
    } catch (problem) {
      byId("enter-error").textContent = messageOf(problem);
    }
    this.#setEntering(false);
  }

  // Whether the reader before may go on.
  get #mayLeave() {
    return Boolean(this.desk.annotator) && !this.#entering;
  }

  /** @param {boolean} entering */
  #setEntering(entering) {
    this.#entering = entering;
    buttonOf("enter-go").disabled = buttonOf("enter-cancel").disabled = entering;
  }

  // One window at a time has the list: two would show the same scans.
  async #claim() {
    const { lock } = this.desk;
    if (!navigator.locks || this.#claimed.has(lock)) return;
    /** @type {Promise<void>} */
    const claimed = new Promise((resolve) => {
      const untilClosed = () => {
        this.#claimed.add(lock);
        resolve();
        return new Promise(() => {});
      };
      navigator.locks.request(lock, { steal: true }, untilClosed).catch((reason) => {
        this.#claimed.delete(lock);
        resolve();
        if (reason.name === "AbortError") this.#takenOver(lock);
      });
    });
    await claimed;
  }

  /** @param {string} lock which another window has now */
  #takenOver(lock) {
    if (!this.desk.annotator || this.desk.lock !== lock) return;
    this.scans.halt("aside", t("other_window"), t("one_window"), t("read_here"));
  }
}
