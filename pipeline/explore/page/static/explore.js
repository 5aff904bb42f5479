// The page starts here: the parts are told what is looked at, and say when that changes.

/** @import { About, Column, View } from "./types" */
import { Detail } from "./detail.js";
import { byId, element, ofKind } from "./dom.js";
import { showFilters, showPresets } from "./filters.js";
import { Gallery } from "./gallery.js";
import { PoolMap } from "./map.js";
import { offerTags, startMarks } from "./marks.js";
import { ask } from "./server_calls.js";
import { startTabs } from "./tabs.js";
import { emptyView, fromHash, inWords, isAll, scanOfHash, toHash, withClause, withKnown } from "./view.js";

const FIRST_COLORS = ["label", "predicted", "source", "cluster"]; // the first of them that tells scans apart
const ENOUGH = 0.2; // share of the scans of which it is known

class Page {
  /** @param {About} about */
  constructor(about) {
    this.about = about;
    this.view = emptyView();
    this.hasLooked = false;
    this.detail = new Detail(failed);
    this.map = new PoolMap(
      (lasso) => this.look({ ...this.view, choice: { ...this.view.choice, lasso } }),
      (row) => this.detail.open({ row }),
      failed,
    );
    this.gallery = new Gallery(
      (image_id) => this.detail.open({ image_id }),
      () => this.count(),
      failed,
    );
    startMarks({ view: () => this.view, target: () => this.target(), learned: (now) => this.learn(now), failed });
    startTabs();
    ofKind(HTMLSelectElement, "color").addEventListener("change", (event) => {
      this.look({ ...this.view, color: selected(event) || null });
    });
    ofKind(HTMLSelectElement, "order").addEventListener("change", (event) => {
      this.look({ ...this.view, order: { by: selected(event), descending: true } });
    });
    ofKind(HTMLSelectElement, "views").addEventListener("change", (event) => this.openSaved(selected(event)));
    byId("find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.find(ofKind(HTMLInputElement, "begins").value.trim()).catch(failed);
    });
    window.addEventListener("hashchange", () => {
      if (location.hash.slice(1) === toHash(this.view)) return;
      const scan = scanOfHash(location.hash);
      this.look(fromHash(location.hash, this.about.columns));
      this.find(scan).catch(failed);
    });
    this.learn(about);
    this.start();
  }

  start() {
    byId("title").textContent = this.about.title;
    document.title = `${this.about.title}: explore`;
    byId("report").hidden = !this.about.has_report;
    byId("missing").textContent = this.about.missing.length ? `Of this run: ${this.about.missing.join("; ")}.` : "";
    const asked = new URLSearchParams(location.hash.slice(1));
    const strange = [...asked.keys()].filter(
      (key) => !["view", "sort", "color", "scan"].includes(key) && !this.column(key),
    );
    if (strange.length)
      failed(new Error(`This run has nothing to show for ${strange.join(", ")}: all scans are shown.`));
    const view = fromHash(location.hash, this.about.columns);
    const scan = scanOfHash(location.hash);
    const first = FIRST_COLORS.find((key) => this.tellsApart(this.column(key))) ?? null;
    this.look({ ...view, color: view.color ?? first });
    document.body.dataset.state = "ready";
    this.find(scan).catch(failed);
  }

  /** @param {Column | undefined} column */
  tellsApart(column) {
    const used = column?.values?.filter(({ num }) => num > 0) ?? [];
    return used.length > 1 && (column?.num_unknown ?? 0) <= (1 - ENOUGH) * this.about.num;
  }

  /** @param {View} view what is to be looked at now */
  look(view) {
    this.view = view;
    history.replaceState(null, "", `#${toHash(view)}`);
    this.showControls();
    const drawn = this.map.show(view, this.column(view.color));
    if (this.hasLooked) this.gallery.show(view);
    else drawn.then(() => this.gallery.show(this.view)); // at first the points: sixty pictures would keep them waiting
    this.hasLooked = true;
  }

  /** @param {About} about columns, tags or views are others now */
  learn(about) {
    this.about = about;
    this.view = withKnown(this.view, about.columns);
    offerTags(about);
    showPresets(about.columns, (view) => this.look({ ...view, color: view.color ?? this.view.color }));
    this.showControls();
  }

  showControls() {
    const { columns, views } = this.about;
    showFilters(columns, this.view, (view) => this.look(view));
    options(
      "color",
      [["", "nothing"], ...columns.map(({ key, title }) => /** @type {const} */ ([key, title]))],
      this.view.color ?? "",
    );
    const orders = columns
      .filter((column) => !column.values)
      .map(({ key, title }) => /** @type {const} */ ([key, title]));
    options("order", [["", "by chance"], ["copies", "copies together"], ...orders], this.view.order.by);
    options(
      "views",
      [["", "a saved view …"], ...views.map(({ name, who }) => /** @type {const} */ ([name, `${name} (${who})`]))],
      "",
    );
    this.showChips();
  }

  showChips() {
    const { choice } = this.view;
    const chips = choice.where.map((clause) => {
      const undo = () => this.look(withClause(this.view, clause.column, null));
      return chip(inWords(clause, this.column(clause.column)), undo);
    });
    /** @param {"lasso" | "named"} part */
    const drop = (part) => this.look({ ...this.view, choice: { ...choice, [part]: [] } });
    if (choice.lasso.length) chips.push(chip("inside the lasso", () => drop("lasso")));
    if (choice.named.length) chips.push(chip(`${choice.named.length} named scans`, () => drop("named")));
    byId("chips").replaceChildren(...chips);
  }

  count() {
    const { num, numSealed, picked } = this.gallery;
    const sealed = numSealed ? `, ${numSealed.toLocaleString()} of them sealed` : "";
    const whole = isAll(this.view.choice) ? "" : ` of ${this.about.num.toLocaleString()}`;
    byId("count").textContent = `${num.toLocaleString()}${whole} scans${sealed}`;
    byId("target").textContent = picked.size
      ? `For the ${picked.size.toLocaleString()} you picked:`
      : `For all ${num.toLocaleString()} chosen scans:`;
    document.body.dataset.chosen = String(num);
  }

  target() {
    const { picked } = this.gallery;
    return picked.size ? { where: [], lasso: [], named: [...picked] } : this.view.choice;
  }

  /** @param {string} begins the first letters of a scan's name */
  async find(begins) {
    if (!begins) return;
    const { named } = await ask("find", { begins });
    const [only] = named;
    if (!only) throw new Error(`No scan of this run has a name that begins with ${begins}.`);
    if (named.length === 1) await this.detail.open({ image_id: only });
    else this.look({ ...this.view, choice: { where: [], lasso: [], named } });
  }

  /** @param {string} name */
  openSaved(name) {
    const saved = this.about.views.find((view) => view.name === name);
    if (saved) this.look(withKnown({ ...emptyView(), ...saved.view }, this.about.columns));
  }

  /** @param {string | null} key @returns {Column | undefined} */
  column(key) {
    return this.about.columns.find((column) => column.key === key);
  }
}

/**
 * @param {string} id
 * @param {(readonly [string, string])[]} rows
 * @param {string} value
 */
function options(id, rows, value) {
  const select = ofKind(HTMLSelectElement, id);
  select.replaceChildren(...rows.map(([key, title]) => element("option", title, { value: key })));
  select.value = value;
}

/**
 * @param {string} text
 * @param {() => void} undo
 */
function chip(text, undo) {
  const button = element("button", `${text} ×`, { type: "button", "aria-label": `no longer: ${text}` });
  button.addEventListener("click", undo);
  return button;
}

/** @param {Event} event */
const selected = ({ target }) => (target instanceof HTMLSelectElement ? target.value : "");

/** @param {unknown} error */
function failed(error) {
  byId("banner-text").textContent = error instanceof Error ? error.message : String(error);
  byId("banner").hidden = false;
}

byId("banner-close").addEventListener("click", () => {
  byId("banner").hidden = true;
});
ask("about", {}).then((about) => new Page(about), failed);
