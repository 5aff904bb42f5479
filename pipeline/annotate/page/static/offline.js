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

  const SIGNS = " ._@'’+:/-";

  // A name as the server would keep it (`answers.annotator_name`); throws when it would refuse it.
  function nameOf(text, { reserved, longest }) {
    const name = text.normalize("NFC").split(/[\t-\r\x1c-\x1f\x85\p{Z}]+/u).filter(Boolean).join(" ");
    const fits = [...name].every((one) => /[\p{L}\p{N}\p{Mn}]/u.test(one) || SIGNS.includes(one));
    if (!fits || [...name].length > longest || !/^[\p{L}\p{N}]/u.test(name)) {
      throw new Error(`This is no annotator's name. Use 1 to ${longest} letters, digits, blanks or . _ @ ' + : / -, beginning with a letter or digit.`);
    }
    if (reserved.includes(name.toLowerCase())) throw new Error("This name is reserved for what is not a person. Use your own name.");
    return name;
  }

  class Desk {
    constructor(config, changed) {
      Object.assign(this, { config, changed, annotator: null, reader: "", box: null, entries: new Map(), lock: "" });
      this.question = { title: config.title, findings: config.findings };
    }

    get rows() {
      return [...this.entries.values()].map(([, row]) => row);
    }

    // Each name has answers of its own in this browser; `ann` and `Ann` are one person, as where the file is taken in.
    async enter(name) {
      this.annotator = this.reader = this.config.annotator || nameOf(name, this.config.names);
      this.owner = `${this.config.run}|${this.config.round}|${this.reader.toLowerCase()}`;
      this.lock = `cxr-ssl|${this.owner}`;
      this.box = new cxr.Outbox(this.owner);
      this.#look();
    }

    async flush() {}

    async tasks(num, shown) {
      this.#look();
      const busy = new Set(shown);
      const open = this.config.tasks.filter((task) => !this.entries.has(task.image_id) && !busy.has(task.image_id));
      return open.slice(0, num);
    }

    answer(task, reply, certainty, seconds) {
      const { image_id, number } = task;
      const row = { image_id, rank: number, file: `images/${image_id}.png`, label: reply, certainty, seconds, labelled_at: new Date().toISOString() };
      const before = this.entries.get(image_id); // given in another window meanwhile
      this.entries.delete(image_id);
      this.entries.set(image_id, [this.box.put(row), row]);
      if (before) this.box.drop(before[0]);
      this.changed();
    }

    async undo() {
      this.#look();
      const latest = [...this.entries.keys()].at(-1);
      if (!latest) return null;
      const [key, row] = this.entries.get(latest);
      this.box.drop(key);
      this.entries.delete(latest);
      this.changed();
      const task = this.config.tasks.find(({ image_id }) => image_id === latest);
      return task ? { ...task, reply: row.label } : null;
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

    // Another window that took over has all that this browser keeps.
    get atRisk() {
      return this.unsaved && Boolean(this.annotator || this.box.fragile);
    }

    save() {
      this.#look();
      const { columns, round, run } = this.config;
      const annotator = this.reader;
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
      return this.box?.fragile ? "This browser keeps nothing when it is closed: save your answers before you leave." : "";
    }

    async priors() {
      return [];
    }

    src(imageId) {
      return `images/${imageId}.png`;
    }

    async pictureProblem() {
      return null;
    }

    // All her answers in this browser: where windows cannot lock each other out, another may have added some.
    #look() {
      this.box.refresh();
      this.entries = new Map();
      for (const [key, row] of [...this.box.items]) {
        const before = this.entries.get(row.image_id);
        if (before) this.box.drop(before[0]); // the later answer to a scan stands
        this.entries.delete(row.image_id);
        this.entries.set(row.image_id, [key, row]);
      }
    }

    // Another text after every answer and every undo.
    #state() {
      return `${this.box.last}|${this.entries.size}`;
    }
  }

  window.cxr.Desk = Desk;
  window.cxr.inFile = true;
})();
