// Pictures ahead of the reader, held in memory alone: the next ones decoded, those after them on their way.

import { readDeep } from "./deep.js";
import { DeepPicture, FlatPicture } from "./picture.js";

/** @import { Picture } from "./picture.js" */
/** @import { Desk } from "./types" */

const NUM_DECODED = 3;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 10000;

/** The pictures wanted next. */
export class Pictures {
  /**
   * Of each scan its picture, or null where there is none.
   * @type {Map<string, Promise<Picture | null>>}
   */
  #decoded = new Map();
  /**
   * Pictures on their way.
   * @type {Map<string, HTMLImageElement>}
   */
  #warm = new Map();
  /**
   * Why a scan's picture does not come; it is asked for again.
   * @type {Map<string, string>}
   */
  problems = new Map();

  /**
   * @param {Pick<Desk, "src" | "isDeep" | "pictureProblem">} desk
   * @param {(imageId: string) => void} late hears of a picture that did not come
   */
  constructor(desk, late) {
    this.desk = desk;
    this.late = late;
  }

  /**
   * Of all pictures, these are wanted next; others are let go.
   * @param {{ image_id: string }[]} tasks
   */
  keep(tasks) {
    const wanted = new Set(tasks.map((task) => task.image_id));
    for (const held of [this.#decoded, this.#warm, this.problems]) {
      for (const id of held.keys()) if (!wanted.has(id)) held.delete(id);
    }
    for (const { image_id } of tasks.slice(0, NUM_DECODED)) this.of(image_id);
    for (const { image_id } of tasks.slice(NUM_DECODED)) {
      if (this.#warm.has(image_id) || this.#decoded.has(image_id) || this.desk.isDeep(image_id)) continue;
      const image = new Image();
      this.#warm.set(image_id, image);
      image.src = this.desk.src(image_id);
    }
  }

  /** @param {string} id */
  of(id) {
    const coming = this.#decoded.get(id) ?? this.#load(id);
    this.#decoded.set(id, coming);
    return coming;
  }

  /**
   * A scan of 16 bits; null where it does not come or cannot be read here: then the image says why.
   * @param {string} id
   */
  async #deep(id) {
    try {
      const reply = await fetch(this.desk.src(id));
      const depth = reply.ok ? await readDeep(await reply.arrayBuffer()) : null;
      return depth && new DeepPicture(depth);
    } catch {
      return null;
    }
  }

  /** @param {string} id */
  async #load(id) {
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      const deep = this.desk.isDeep(id) ? await this.#deep(id) : null;
      if (deep) {
        this.problems.delete(id);
        return deep;
      }
      const image = this.#warm.get(id) ?? new Image();
      this.#warm.delete(id);
      image.src ||= this.desk.src(id);
      try {
        await image.decode();
        this.problems.delete(id);
        return new FlatPicture(image);
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
