"use strict";
// What is marked of scans that may show several findings: of each it is absent, present or unknown.
(() => {
  const SIGNS = { absent: "0", present: "1", unknown: "?" };
  const STATES = Object.keys(SIGNS); // a button goes through them in this order, and round again
  const BOUNCE_MS = 80; // a key that bounces would say "unknown" where "present" was meant

  const PRESSED = { absent: "false", present: "true", unknown: "mixed" };
  const GLYPHS = { absent: "", present: "✓", unknown: "?" };
  const HOW = "Mark what you see; press again for unknown (?).";
  const $ = (id) => document.getElementById(id);

  class Marks {
    // `choices` are all the page's answers; `none` says that there is no finding; `say` tells those who listen.
    constructor({ findings, none }, choices, say) {
      Object.assign(this, { findings, none, say });
      this.buttons = new Map(choices.filter(({ box }) => box === "findings").map(({ reply, button }) => [reply, button]));
      for (const button of this.buttons.values()) button.append(cxr.element("i", "", { "aria-hidden": "true" }));
      $("whole").append($("record"));
      $("whole").hidden = $("marking").hidden = false;
      this.scans = new Map(); // image_id -> finding -> state; what is not in it is absent
      this.turned = { finding: null, at: 0 };
    }

    of(imageId, finding) {
      return this.scans.get(imageId)?.get(finding) ?? "absent";
    }

    // Whether anything but absence is marked.
    some(imageId) {
      return this.findings.some((finding) => this.of(imageId, finding) !== "absent");
    }

    // Puts a finding into its next state.
    turn(imageId, finding, now = performance.now()) {
      const before = this.turned;
      this.turned = { finding, at: now };
      if (before.finding === finding && now - before.at < BOUNCE_MS) return;
      const next = STATES[(STATES.indexOf(this.of(imageId, finding)) + 1) % STATES.length];
      if (!this.scans.has(imageId)) this.scans.set(imageId, new Map());
      this.scans.get(imageId).set(finding, next);
      this.show(imageId);
      this.buttons.get(finding).scrollIntoView({ block: "nearest" });
      this.say(`${finding}: ${next}.`);
    }

    forget(imageId) {
      this.scans.delete(imageId);
      this.turned.finding = null;
    }

    clear(imageId) {
      this.forget(imageId);
      this.show(imageId);
      this.say("Marks cleared.");
    }

    // Whether an answer to the whole scan may be given; it would contradict what is marked.
    allows(imageId, reply) {
      if (!this.some(imageId)) return true;
      this.#hint(`Marked: ${this.said(this.line(imageId))}. Clear that first (X) to answer “${reply}”.`, true);
      return false;
    }

    // Whether there is anything to save. That nothing is marked says nothing: it may not have been looked for yet.
    complete(imageId) {
      if (this.some(imageId)) return true;
      this.#hint(`Nothing is marked. If the scan shows none of these, say so: “${this.none}” (0).`, true);
      return false;
    }

    // Shows what is marked of a scan.
    show(imageId) {
      this.#hint(this.some(imageId) ? `Marked: ${this.said(this.line(imageId))}.` : HOW);
      for (const [finding, button] of this.buttons) {
        const state = this.of(imageId, finding);
        button.setAttribute("aria-pressed", PRESSED[state]);
        button.setAttribute("aria-label", `${finding}: ${state}`);
        button.lastChild.textContent = GLYPHS[state];
      }
      $("record").classList.toggle("main", this.some(imageId));
      $("clear").classList.toggle("away", !this.some(imageId));
    }

    // The marks as the line that the server keeps (`finding_line.write`).
    line(imageId) {
      return this.findings.map((finding) => `${finding}=${SIGNS[this.of(imageId, finding)]}`).join("|");
    }

    // The marks of an answer that was taken back, as they were.
    restore(imageId, reply) {
      const values = this.#read(reply);
      if (values) this.scans.set(imageId, values);
    }

    // A reply as people read it (`finding_line.said`).
    said(reply) {
      const values = this.#read(reply);
      if (!values) return reply;
      const those = (state) => [...values].filter(([, known]) => known === state).map(([finding]) => finding);
      const [there, open] = [those("present"), those("unknown")];
      if (open.length === values.size) return "unknown";
      const head = there.join(", ") || (open.length ? "nothing else" : this.none);
      return open.length ? `${head}; ${open.join(", ")} unknown` : head;
    }

    #hint(text, isProblem = false) {
      $("hint").textContent = text;
      $("hint").classList.toggle("problem", isProblem);
      if (isProblem) this.say(text);
    }

    #read(reply) {
      const parts = reply.split("|").map((part) => [part.slice(0, -2), STATES.find((state) => part.endsWith(`=${SIGNS[state]}`))]);
      return parts.every(([finding, state]) => state && this.findings.includes(finding)) ? new Map(parts) : null;
    }
  }

  window.cxr.Marks = Marks;
})();
