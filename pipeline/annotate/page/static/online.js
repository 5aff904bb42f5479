"use strict";
// The desk behind a server: answers go through the outbox, in order, until the server has each one on its disk.
(() => {
  const PATIENCE_MS = 20000;
  const FIRST_WAIT_MS = 1000, LONGEST_WAIT_MS = 5000;
  const count = (num, noun) => `${num} ${noun}${num === 1 ? "" : "s"}`;

  class Problem extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
    // The request itself is at fault: asking again would not help.
    get final() {
      return [400, 404, 413, 415, 422].includes(this.status);
    }
  }

  async function post(path, body) {
    let response, answer;
    try {
      response = await fetch(`/api/${path}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
        signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store",
      });
      answer = await response.json();
    } catch {
      throw new Problem(response?.ok === false ? response.status : 0, "The server cannot be reached.");
    }
    if (!response.ok) throw new Problem(response.status, answer?.error ?? "The server did not understand.");
    return answer;
  }

  class Desk {
    constructor(config, changed, inWords = (reply) => reply) {
      Object.assign(this, { config, changed, inWords, annotator: null, problem: null, given: [], timer: 0, undoKey: null });
      this.question = { title: config.title, findings: config.findings }; // as the server put it last
      this.lock = ""; // one window at a time has the list of this name
      this.known = { done: 0, left: 0, team_done: 0, team_total: 0, seconds_per_scan: null };
      this.wait = FIRST_WAIT_MS;
      this.turns = this.learnt = 0; // answers and undos sent, and the latest whose reply counts
      this.flying = 0; // of them, those without a reply yet
      window.addEventListener("online", () => this.flush());
      document.addEventListener("visibilitychange", () => document.hidden || this.flush());
    }

    async enter(name) {
      const answer = await post("enter", { annotator: name });
      this.annotator = answer.annotator;
      this.known = answer.progress;
      this.lock = `cxr-ssl|${this.config.name}|${this.annotator}`;
      this.box = new cxr.Outbox(`${this.config.name}|${this.annotator}`);
      this.refused = new cxr.Outbox(`${this.config.name}|${this.annotator}|refused`);
      const undone = new Set(this.box.all.map((item) => item.of));
      this.given = this.box.all.filter((item) => item.task && !undone.has(item.body.key)).map((item) => [item.task, item.body.key, item.body.reply]);
      await this.flush();
    }

    get held() {
      return this.box.all.filter((item) => item.task).map((item) => item.task.image_id);
    }

    async tasks(num, shown) {
      const held = [...new Set([...shown, ...this.held])];
      const turns = this.flying ? -1 : this.turns;
      const { tasks, progress, title, findings } = await post("next", { annotator: this.annotator, num, held });
      // The server may have looked before an answer that was on its way: that answer's own reply tells better.
      if (turns === this.turns) this.known = progress;
      this.question = { title, findings };
      return tasks;
    }

    answer(task, reply, certainty, seconds) {
      const body = { annotator: this.annotator, image_id: task.image_id, reply, certainty, seconds, key: cxr.newKey() };
      this.box.put({ path: "answer", body, task });
      this.given.push([task, body.key, reply]);
      this.flush();
    }

    // The scan that is open again; null when there is none to take back.
    async undo() {
      const latest = this.given.pop();
      if (latest) {
        const body = { annotator: this.annotator, key: cxr.newKey(), of: latest[1] };
        this.box.put({ path: "undo", body, of: latest[1] });
        this.flush();
        return { ...latest[0], reply: latest[2] };
      }
      this.undoKey ??= cxr.newKey(); // asked again after a failure, it is still the same undo
      const turn = ++this.turns;
      this.flying += 1;
      const asked = post("undo", { annotator: this.annotator, key: this.undoKey, of: null });
      const { task, progress } = await asked.finally(() => (this.flying -= 1));
      this.undoKey = null;
      this.#learn(turn, progress);
      this.changed();
      return task;
    }

    async flush() {
      if (!this.box || this.sending) return;
      this.sending = true;
      clearTimeout(this.timer);
      try {
        for (let entry = this.box.first; entry; entry = this.box.first) await this.#send(...entry);
        this.problem = null;
        this.wait = FIRST_WAIT_MS;
      } catch (problem) {
        this.problem = problem;
        this.timer = setTimeout(() => this.flush(), this.wait);
        this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
      } finally {
        this.sending = false;
        this.changed();
      }
    }

    // A reply that was overtaken by that of a later request tells of yesterday.
    #learn(turn, progress) {
      if (turn < this.learnt) return;
      this.learnt = turn;
      this.known = progress;
    }

    async #send(key, item) {
      const turn = ++this.turns;
      this.flying += 1;
      try {
        this.#learn(turn, (await post(item.path, item.body)).progress);
      } catch (problem) {
        if (!problem.final) throw problem;
        this.#refuse(item, problem.message);
      } finally {
        this.flying -= 1;
      }
      this.box.drop(key);
      this.changed();
    }

    // An answer the server will never take is kept apart until it has been read about, and so is nothing to undo.
    #refuse(item, why) {
      const { key, reply = "an undo" } = item.body;
      this.refused.put({ reply, number: item.task?.number, why });
      this.given = this.given.filter(([, known]) => known !== key);
      for (const [later, other] of this.box.items) if (other.of === key) this.box.drop(later);
    }

    dismiss() {
      for (const key of [...this.refused.items.keys()]) this.refused.drop(key);
      this.changed();
    }

    get canDismiss() {
      return !this.problem && Boolean(this.refused?.size);
    }

    get waiting() {
      return this.box?.all.filter((item) => item.task).length ?? 0;
    }

    progress() {
      const waiting = (this.box?.all ?? []).reduce((sum, item) => sum + (item.task ? 1 : -1), 0);
      return { ...this.known, done: this.known.done + waiting, left: Math.max(0, this.known.left - waiting) };
    }

    notice() {
      const num = this.waiting;
      const waiting = num ? `${count(num, "answer")} wait${num === 1 ? "s" : ""} on this device` : "";
      const fragile = this.box?.fragile && num ? " This browser keeps nothing when it is closed: leave the page open." : "";
      if (this.problem?.status === 401) {
        const sent = num ? ` ${waiting} and will be sent then.` : "";
        return `The server was started anew. Open the link that it printed.${sent}${fragile}`;
      }
      if (this.problem && num) return `Not saved yet: ${waiting}. ${this.problem.message} Trying again by itself.${fragile}`;
      if (this.problem) return `${this.problem.message} Trying again by itself.`;
      if (!this.refused?.size) return "";
      const { reply, number, why } = this.refused.all.at(-1);
      return `${count(this.refused.size, "answer")} not taken; the last: ${this.inWords(reply)}${number ? `, scan ${number}` : ""}. ${why}`;
    }

    async priors(task) {
      return (await post("priors", { annotator: this.annotator, image_id: task.image_id })).priors;
    }

    src(imageId) {
      return `/image/${imageId}`;
    }

    // Why a picture did not come; null: there is none, and asking again would not help.
    async pictureProblem(imageId) {
      try {
        const { status } = await fetch(this.src(imageId), { method: "HEAD" });
        if (status === 404) return null;
        return status === 401 ? "The server was started anew. Open the link that it printed." : "The server cannot read it at the moment.";
      } catch {
        return "The server cannot be reached.";
      }
    }

    get atRisk() {
      return Boolean(this.box?.fragile && this.box.size);
    }
  }

  window.cxr.Desk = Desk;
})();
