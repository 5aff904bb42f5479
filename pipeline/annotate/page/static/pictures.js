"use strict";
// Pictures ahead of the reader, held in memory alone: the next ones decoded, those after them on their way.
(() => {
  const NUM_DECODED = 3;
  const FIRST_WAIT_MS = 1000, LONGEST_WAIT_MS = 10000;

  class Pictures {
    // `late` hears of a picture that did not come.
    constructor(desk, late) {
      Object.assign(this, { desk, late });
      this.decoded = new Map(); // image_id -> promise of an <img>, or of null where there is none
      this.warm = new Map(); // image_id -> <img> on its way
      this.problems = new Map(); // image_id -> why it does not come; it is asked for again
    }

    // Of all pictures, these are wanted next; others are let go.
    keep(tasks) {
      const wanted = new Set(tasks.map((task) => task.image_id));
      for (const held of [this.decoded, this.warm, this.problems]) {
        for (const id of held.keys()) if (!wanted.has(id)) held.delete(id);
      }
      for (const task of tasks.slice(0, NUM_DECODED)) this.of(task);
      for (const { image_id } of tasks.slice(NUM_DECODED)) {
        if (this.warm.has(image_id) || this.decoded.has(image_id)) continue;
        this.warm.set(image_id, new Image());
        this.warm.get(image_id).src = this.desk.src(image_id);
      }
    }

    of({ image_id }) {
      if (!this.decoded.has(image_id)) this.decoded.set(image_id, this.#load(image_id));
      return this.decoded.get(image_id);
    }

    async #load(id) {
      for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
        const image = this.warm.get(id) ?? new Image();
        this.warm.delete(id);
        image.src ||= this.desk.src(id);
        try {
          await image.decode();
          this.problems.delete(id);
          return image;
        } catch {
          const problem = await this.desk.pictureProblem(id);
          if (problem === null) return null;
          this.problems.set(id, problem);
          this.late(id);
          await new Promise((resolve) => setTimeout(resolve, wait));
        }
      }
    }
  }

  window.cxr.Pictures = Pictures;
})();
