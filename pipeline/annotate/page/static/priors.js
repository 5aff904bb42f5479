// Other scans of the patient, beside the one that is asked about.

import { byId } from "./dom.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Pictures } from "./pictures.js" */
/** @import { Desk, Task } from "./types" */
/** @import { View } from "./view.js" */

/** The second view of the page. */
export class Priors {
  /** @type {string[]} */
  #ids = [];
  #at = 0;

  /**
   * @param {Desk} desk
   * @param {View} view
   * @param {Pictures} pictures
   * @param {() => Task | null} current
   */
  constructor(desk, view, pictures, current) {
    this.desk = desk;
    this.view = view;
    this.pictures = pictures;
    this.current = current;
  }

  get isOpen() {
    return !byId("prior").hidden;
  }

  async toggle() {
    const task = this.current();
    if (this.isOpen) return this.close();
    if (!task?.num_priors) return;
    try {
      this.#ids = await this.desk.priors(task);
    } catch (problem) {
      byId("last").textContent = messageOf(problem);
      return;
    }
    if (this.current() !== task || !this.#ids.length) return;
    byId("stage").classList.add("side");
    byId("prior").hidden = false;
    byId("prior-open").setAttribute("aria-pressed", "true");
    await this.#show(0);
  }

  /** @param {1 | -1} step */
  turn(step) {
    return this.#show(this.#at + step);
  }

  close() {
    this.#ids = [];
    byId("prior").hidden = true;
    byId("prior-open").setAttribute("aria-pressed", "false");
    byId("stage").classList.remove("side");
    this.view.show(null);
  }

  /**
   * A picture does not come, by no fault of its own.
   * @param {string} id
   */
  late(id) {
    if (this.#ids[this.#at] === id) this.#caption(t("prior_late"));
  }

  /** @param {number} at */
  async #show(at) {
    const num = this.#ids.length;
    if (!this.isOpen || !num) return;
    this.#at = (at + num) % num;
    const id = this.#ids[this.#at] ?? "";
    byId("prior-back").hidden = byId("prior-on").hidden = num === 1;
    const name = num > 1 ? t("prior_name_of", { at: this.#at + 1, num }) : t("prior_name");
    this.#caption(name);
    const picture = await this.pictures.of(id);
    if (this.#ids[this.#at] !== id) return;
    this.#caption(picture ? name : t("prior_none"));
    picture?.name(name);
    this.view.show(picture);
  }

  /** @param {string} text */
  #caption(text) {
    byId("prior-name").textContent = text;
  }
}
