// The chosen scans as small pictures, in the order asked for, a page at a time.

/** @import { Card, Choice, View } from "./types" */
import { cardOf } from "./cards.js";
import { byId, element } from "./dom.js";
import { ask } from "./server_calls.js";

const A_PAGE = 60;
const ALWAYS_SHOWN = ["label", "predicted"];

/**
 * Columns that each scan's card tells. A mistake is one of the model that had not seen the label, not of the last one.
 * @param {Choice} choice
 * @param {string} by
 */
function shownOf(choice, by) {
  const mistake = choice.where.find(({ column }) => /^mistake(:|$)/.test(column))?.column;
  const of = mistake ? ["label", "out_of_fold"].map((key) => mistake.replace("mistake", key)) : ALWAYS_SHOWN;
  return by && !of.includes(by) ? [...of, by] : of;
}

export class Gallery {
  /**
   * @param {(image_id: string) => void} open
   * @param {() => void} picksChanged
   * @param {(error: unknown) => void} failed
   */
  constructor(open, picksChanged, failed) {
    this.open = open;
    this.picksChanged = picksChanged;
    this.failed = failed;
    /** @type {Set<string>} */
    this.picked = new Set();
    /** @type {View | null} */
    this.view = null;
    this.num = 0;
    this.numSealed = 0;
    this.numShown = 0;
    this.asked = 0;
    this.lastPicture = -1;
    const more = byId("more");
    more.addEventListener("click", () => this.more());
    new IntersectionObserver(([entry]) => entry?.isIntersecting && this.more(), {
      root: byId("scans"),
      rootMargin: "300px",
    }).observe(more);
  }

  /** @param {View} view */
  async show(view) {
    this.view = view;
    this.picked.clear();
    this.numShown = 0;
    await this.load(true);
  }

  async more() {
    if (this.numShown && this.numShown < this.num) await this.load(false);
  }

  /** @param {boolean} anew */
  async load(anew) {
    if (!this.view) return;
    const number = ++this.asked;
    const { choice, order } = this.view;
    const show = shownOf(choice, order.by);
    try {
      const reply = await ask("gallery", { choice, order, show, offset: this.numShown, num: A_PAGE });
      if (number !== this.asked) return;
      this.num = reply.num;
      this.numSealed = reply.num_sealed;
      this.numShown += reply.scans.length;
      this.add(reply.scans, anew, order.by === "copies");
    } catch (error) {
      this.failed(error);
    }
  }

  /**
   * @param {Card[]} scans
   * @param {boolean} anew
   * @param {boolean} inGroups
   */
  add(scans, anew, inGroups) {
    const place = byId("gallery");
    if (anew) {
      place.replaceChildren();
      this.lastPicture = -1;
    }
    for (const card of scans) {
      if (inGroups && card.picture !== this.lastPicture) place.append(element("p", "One picture", { class: "copies" }));
      this.lastPicture = card.picture;
      const isPicked = this.picked.has(card.image_id);
      place.append(cardOf(card, this.open, { isPicked, pick: (image_id, on) => this.pick(image_id, on) }));
    }
    byId("more").hidden = this.numShown >= this.num;
    this.picksChanged();
  }

  /**
   * @param {string} image_id
   * @param {boolean} on
   */
  pick(image_id, on) {
    if (on) this.picked.add(image_id);
    else this.picked.delete(image_id);
    this.picksChanged();
  }
}
