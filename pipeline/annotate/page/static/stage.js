// One scan on the screen: loaded, shown, and open to an answer once it has been seen.

import { say } from "./dom.js";
import { hideMessage, tell } from "./message.js";
import { t } from "./texts.js";

/** @import { Clock } from "./clock.js" */
/** @import { Picture } from "./picture.js" */
/** @import { Pictures } from "./pictures.js" */
/** @import { Task } from "./types" */
/** @import { View } from "./view.js" */

const SETTLE_MS = 200; // nobody reads a scan faster: the second half of a double keypress
const SLOW_MS = 150; // a scan that takes longer is said to be loading

/** Where the scan is that is asked about. */
export class Stage {
  #ready = false;
  #isLoading = false;
  /** @type {Task | null} */
  #task = null;

  /**
   * @param {View} view
   * @param {Clock} clock
   * @param {Pictures} pictures
   */
  constructor(view, clock, pictures) {
    this.view = view;
    this.clock = clock;
    this.pictures = pictures;
  }

  /** Whether the scan may be answered. */
  get isReady() {
    return this.#ready;
  }

  /** No answer is taken until the next scan has been seen; its picture stays until then. */
  leave() {
    this.#task = null;
    this.#setReady(false);
  }

  /** As `leave`, and nothing is shown. */
  clear() {
    this.leave();
    this.view.show(null);
  }

  /** The scan is answered: the seconds spent on it. */
  stopClock() {
    this.#setReady(false);
    return this.clock.stop();
  }

  /** @param {Task} task */
  async show(task) {
    this.leave();
    this.#task = task;
    this.#isLoading = true;
    const slow = setTimeout(() => this.#showLoading(task), SLOW_MS);
    const picture = await this.pictures.of(task.image_id);
    clearTimeout(slow);
    if (this.#task === task) this.#put(task, picture);
  }

  /**
   * A picture does not come, by no fault of its own.
   * @param {string} id
   */
  late(id) {
    const problem = this.pictures.problems.get(id);
    if (!problem || !this.#isLoading || this.#task?.image_id !== id) return;
    this.view.show(null);
    tell({ title: t("scan_late"), lines: [problem, t("again_by_itself")] });
  }

  /** @param {Task} task */
  #showLoading(task) {
    if (this.#task !== task) return;
    this.view.show(null);
    tell({ title: t("loading_scan"), quiet: true });
    this.late(task.image_id);
  }

  /**
   * @param {Task} task
   * @param {Picture | null} picture
   */
  #put(task, picture) {
    this.#isLoading = false;
    document.body.dataset.scan = task.image_id;
    document.body.dataset.state = "reading";
    this.view.show(picture);
    if (picture) {
      hideMessage();
      picture.name(t("scan_number", { number: task.number }));
    } else {
      const remarks = { cannot_tell: t("reply.cannot tell"), bad_quality: t("reply.bad quality") };
      tell({ title: t("scan_none"), lines: [t("scan_none_line", remarks)] });
    }
    say(t("sentence", { text: t("scan_number", { number: task.number }) }));
    requestAnimationFrame(() => requestAnimationFrame(() => this.#seen(task)));
  }

  /** @param {Task} task is on the screen now */
  #seen(task) {
    if (this.#task !== task) return;
    this.clock.start();
    setTimeout(() => {
      if (this.#task === task) this.#setReady(true);
    }, SETTLE_MS);
  }

  /** @param {boolean} value */
  #setReady(value) {
    this.#ready = value;
    document.body.dataset.ready = String(value);
  }
}
