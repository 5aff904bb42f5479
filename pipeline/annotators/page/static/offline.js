"use strict";
// The desk in a file: answers stay in this browser until they are saved as a CSV file.
(() => {
  const quoted = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet would run it as a formula
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : null;
  };

  class Desk {
    constructor(config, changed) {
      Object.assign(this, { config, changed, annotator: config.annotator });
      this.owner = `${config.run}|${config.round}|${config.annotator}`;
      this.box = new cxr.Outbox(this.owner);
      this.entries = new Map([...this.box.items].map(([key, row]) => [row.image_id, [key, row]]));
    }

    get rows() {
      return [...this.entries.values()].map(([, row]) => row);
    }

    async enter() {}

    async flush() {}

    async tasks(num, shown) {
      const busy = new Set(shown);
      const open = this.config.tasks.filter((task) => !this.entries.has(task.image_id) && !busy.has(task.image_id));
      return open.slice(0, num);
    }

    answer(task, reply, certainty, seconds) {
      const { image_id, number } = task;
      const row = { image_id, rank: number, file: `images/${image_id}.png`, label: reply, certainty, seconds, labelled_at: new Date().toISOString() };
      this.entries.set(image_id, [this.box.put(row), row]);
      this.changed();
    }

    async undo() {
      const latest = [...this.entries.keys()].at(-1);
      if (!latest) return null;
      this.box.drop(this.entries.get(latest)[0]);
      this.entries.delete(latest);
      this.changed();
      return this.config.tasks.find((task) => task.image_id === latest) ?? null;
    }

    get waiting() {
      return 0;
    }

    get canDismiss() {
      return false;
    }

    get unsaved() {
      return this.entries.size > 0 && cxr.device.get(`saved|${this.owner}`) !== this.#state();
    }

    get atRisk() {
      return this.unsaved;
    }

    save() {
      const { columns, annotator, round, run } = this.config;
      const rows = [...this.rows].sort((a, b) => a.rank - b.rank);
      const lines = rows.map((row) => columns.map((name) => quoted({ ...row, annotator, round, run }[name])).join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([[columns.join(","), ...lines].join("\n") + "\n"], { type: "text/csv" }));
      link.download = "answers.csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      cxr.device.set(`saved|${this.owner}`, this.#state());
      this.changed();
    }

    progress() {
      const [done, total] = [this.entries.size, this.config.tasks.length];
      const seconds = this.rows.map((row) => row.seconds).filter((value) => value !== null);
      return { done, left: total - done, team_done: done, team_total: total, seconds_per_scan: median(seconds) };
    }

    notice() {
      return this.box.fragile ? "This browser keeps nothing when it is closed: save your answers before you leave." : "";
    }

    async priors() {
      return [];
    }

    src(imageId) {
      return `images/${imageId}.png`;
    }

    async isMissing() {
      return true;
    }

    // Another text after every answer and every undo.
    #state() {
      return `${this.box.last}|${this.entries.size}`;
    }
  }

  window.cxr.Desk = Desk;
  window.cxr.inFile = true;
})();
