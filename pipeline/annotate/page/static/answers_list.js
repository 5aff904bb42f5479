// The reader's own answers, and the way back to any of them.

import { byId, dialogOf, element } from "./dom.js";
import { t } from "./texts.js";
import { messageOf } from "./words.js";

/** @import { Scans } from "./scans.js" */
/** @import { Desk, Task } from "./types" */

/** The dialog with her answers. */
export class AnswersList {
  /**
   * @param {Desk} desk
   * @param {Scans} scans
   * @param {(reply: string) => string} inWords
   * @param {(task: Task) => void} goBack to an answered scan
   */
  constructor(desk, scans, inWords, goBack) {
    this.desk = desk;
    this.scans = scans;
    this.inWords = inWords;
    this.goBack = goBack;
  }

  async open() {
    const who = this.desk.annotator;
    if (!who || dialogOf("mine").open) return;
    byId("mine-entries").replaceChildren(element("li", t("loading")));
    dialogOf("mine").showModal(); // before the answer that is on its way: keys pressed meanwhile answer nothing
    const lines = await this.#lines();
    if (who === this.desk.annotator) byId("mine-entries").replaceChildren(...lines);
  }

  async #lines() {
    try {
      const answers = await this.desk.mine();
      return answers.length ? answers.map((task) => this.#line(task)) : [element("li", t("answers_none"))];
    } catch (problem) {
      return [element("li", t("answers_load_failed", { problem: messageOf(problem) }))];
    }
  }

  /** @param {Task} task */
  #said({ reply, certainty }) {
    const words = this.inWords(reply ?? "");
    return certainty === "unsure" ? t("reply_unsure", { reply: words }) : words;
  }

  /** @param {Task} task */
  #line(task) {
    const line = element("li");
    const button = element("button", "", { type: "button" });
    const parts = [task.note?.flag ? t("flagged") : "", task.note?.comment ?? ""].filter(Boolean);
    button.append(element("b", t("scan_number", { number: task.number })), element("span", this.#said(task)));
    if (parts.length) button.append(element("small", parts.join(": ")));
    button.addEventListener("click", () => {
      dialogOf("mine").close();
      this.goBack(task);
      const said = { number: task.number, reply: this.#said(task) };
      byId("last").textContent = t("changing", said);
    });
    line.append(button);
    return line;
  }
}
