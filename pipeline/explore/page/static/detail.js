// One scan, large: its picture, all that may be said of it, its copies and the scans most like it side by side.

/** @import { Scan } from "./types" */
import { cardOf } from "./cards.js";
import { byId, dialogOf, element } from "./dom.js";
import { ask } from "./server_calls.js";

export class Detail {
  /** @param {(error: unknown) => void} failed */
  constructor(failed) {
    this.failed = failed;
    this.dialog = dialogOf("detail");
    this.picture = byId("detail-picture");
    byId("detail-close").addEventListener("click", () => this.dialog.close());
    this.picture.addEventListener("click", () => this.picture.classList.toggle("zoomed"));
    this.picture.addEventListener("keydown", ({ key }) => {
      if (key === "Enter" || key === " ") this.picture.classList.toggle("zoomed");
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  /** @param {{ image_id: string } | { row: number }} which */
  async open(which) {
    try {
      const { scan } = await ask("scan", which);
      if (scan) this.show(scan);
    } catch (error) {
      this.failed(error);
    }
  }

  /** @param {Scan} scan */
  show(scan) {
    byId("detail-title").textContent = `Scan ${scan.image_id}`;
    this.picture.classList.remove("zoomed");
    this.picture.replaceChildren(element("img", "", { src: `/image/${scan.image_id}`, alt: `scan ${scan.image_id}` }));
    const rows = scan.said.flatMap(({ title, value, meaning }) => [
      element("dt", title, meaning ? { title: meaning } : {}),
      element("dd", value),
    ]);
    byId("detail-said").replaceChildren(...rows);
    const notes = [
      scan.sealed ? "Of the sealed holdout: neither answers nor predictions are shown." : "",
      scan.wished_by ? `${scan.wished_by} wished to see it in the next queue.` : "",
    ];
    byId("detail-note").textContent = notes.filter(Boolean).join(" ");
    byId("copies-title").hidden = scan.copies.length === 0;
    byId("copies").replaceChildren(...scan.copies.map((card) => cardOf(card, (image_id) => this.open({ image_id }))));
    byId("alike-title").hidden = scan.alike.length === 0;
    byId("alike").replaceChildren(...scan.alike.map((card) => cardOf(card, (image_id) => this.open({ image_id }))));
    this.dialog.scrollTop = 0;
    if (!this.dialog.open) this.dialog.showModal();
  }
}
