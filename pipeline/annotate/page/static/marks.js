// What is marked of scans that may show several findings: of each it is absent, present or unknown.

import { byId, element } from "./dom.js";
import { readLine, STATES, said, writeLine } from "./presence.js";
import { replyText, t } from "./texts.js";

/** @import { Choice } from "./types" */
/** @import { State } from "./presence.js" */

const PRESSED = { absent: "false", present: "true", unknown: "mixed" };
const GLYPHS = { absent: "", present: "✓", unknown: "?" };
const BOUNCE_MS = 80; // a key that bounces would say "unknown" where "present" was meant

/** The marks of the scans at hand, and the buttons that set them. */
export class Marks {
  /** @type {Map<string, { button: HTMLButtonElement, glyph: HTMLElement }>} */
  #buttons = new Map();
  /**
   * Of each scan its findings; what is not in it is absent.
   * @type {Map<string, Map<string, State>>}
   */
  #scans = new Map();
  /** @type {{ finding: string | null, at: number }} */
  #turned = { finding: null, at: 0 };

  /**
   * @param {{ findings: string[], none: string }} config `none` says that there is no finding
   * @param {Choice[]} choices all the page's answers
   * @param {(text: string) => void} say tells those who listen
   */
  constructor({ findings, none }, choices, say) {
    this.findings = findings;
    this.none = none;
    this.say = say;
    for (const { reply, button, box } of choices) {
      if (box !== "findings") continue;
      const glyph = element("i", "", { "aria-hidden": "true" });
      button.append(glyph);
      this.#buttons.set(reply, { button, glyph });
    }
    byId("whole").append(byId("record"));
    byId("whole").hidden = byId("marking").hidden = false;
  }

  /**
   * @param {string} imageId
   * @param {string} finding
   */
  of(imageId, finding) {
    return this.#scans.get(imageId)?.get(finding) ?? "absent";
  }

  /**
   * Whether anything but absence is marked.
   * @param {string} imageId
   */
  some(imageId) {
    return this.findings.some((finding) => this.of(imageId, finding) !== "absent");
  }

  /**
   * Puts a finding into its next state.
   * @param {string} imageId
   * @param {string} finding
   * @param {number} now
   */
  turn(imageId, finding, now = performance.now()) {
    const before = this.#turned;
    this.#turned = { finding, at: now };
    if (before.finding === finding && now - before.at < BOUNCE_MS) return;
    // A button goes through the states in their order, and round again.
    const next = STATES[(STATES.indexOf(this.of(imageId, finding)) + 1) % STATES.length] ?? "absent";
    const scan = this.#scans.get(imageId) ?? new Map();
    this.#scans.set(imageId, scan.set(finding, next));
    this.show(imageId);
    this.#buttons.get(finding)?.button.scrollIntoView({ block: "nearest" });
    this.say(t("sentence", { text: t("finding_state", { finding, state: t(next) }) }));
  }

  /** @param {string} imageId */
  forget(imageId) {
    this.#scans.delete(imageId);
    this.#turned.finding = null;
  }

  /** Another reader sits down, and sees nothing of whom was there before. */
  forgetAll() {
    this.#scans.clear();
    this.#turned.finding = null;
  }

  /** @param {string} imageId */
  clear(imageId) {
    this.forget(imageId);
    this.show(imageId);
    this.say(t("marks_cleared"));
  }

  /**
   * Whether an answer to the whole scan may be given; it would contradict what is marked.
   * @param {string} imageId
   * @param {string} reply
   */
  allows(imageId, reply) {
    if (!this.some(imageId)) return true;
    this.#warn(t("marks_contradict", { marked: this.said(this.line(imageId)), reply: replyText(reply) }));
    return false;
  }

  /**
   * Whether there is anything to save. That nothing is marked says nothing: it may not have been looked for yet.
   * @param {string} imageId
   */
  complete(imageId) {
    if (this.some(imageId)) return true;
    this.#warn(t("marks_nothing", { none: replyText(this.none) }));
    return false;
  }

  /**
   * Shows what is marked of a scan.
   * @param {string} imageId
   */
  show(imageId) {
    const some = this.some(imageId);
    this.#hint(some ? t("marked", { reply: this.said(this.line(imageId)) }) : t("marks_how"));
    for (const [finding, { button, glyph }] of this.#buttons) {
      const state = this.of(imageId, finding);
      button.setAttribute("aria-pressed", PRESSED[state]);
      button.setAttribute("aria-label", t("finding_state", { finding, state: t(state) }));
      glyph.textContent = GLYPHS[state];
    }
    byId("record").classList.toggle("main", some);
    byId("clear").classList.toggle("away", !some);
  }

  /**
   * The marks as the line that the server keeps.
   * @param {string} imageId
   */
  line(imageId) {
    return writeLine(this.findings, (finding) => this.of(imageId, finding));
  }

  /**
   * The marks of an answer that was taken back, as they were.
   * @param {string} imageId
   * @param {string} reply
   */
  restore(imageId, reply) {
    const values = readLine(reply, this.findings);
    if (values) this.#scans.set(imageId, values);
  }

  /**
   * A reply as people read it.
   * @param {string} reply
   */
  said(reply) {
    return said(reply, this.findings, this.none);
  }

  /** @param {string} text */
  #warn(text) {
    this.#hint(text, true);
    this.say(text);
  }

  /**
   * @param {string} text
   * @param {boolean} isProblem
   */
  #hint(text, isProblem = false) {
    byId("hint").textContent = text;
    byId("hint").classList.toggle("problem", isProblem);
  }
}
