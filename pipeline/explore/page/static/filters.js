// The filters: every column with its values and how many scans have each, and shortcuts to what people look for.

/** @import { Clause, Column, View } from "./types" */
import { byId, element } from "./dom.js";
import { emptyView, withClause } from "./view.js";

const GROUPS = {
  marks: "Marks",
  answers: "Answers",
  model: "Model",
  audit: "Audit",
  pool: "Pool",
  scan: "Scan",
};

/**
 * @param {Column[]} columns
 * @param {View} view
 * @param {(view: View) => void} change
 */
export function showFilters(columns, view, change) {
  const place = byId("columns");
  const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.getAttribute("data-key")));
  place.replaceChildren();
  for (const [group, title] of Object.entries(GROUPS)) {
    const own = columns.filter((column) => column.group === group);
    if (own.length) place.append(element("p", title, { class: "group" }));
    for (const column of own) {
      const clause = view.choice.where.find((one) => one.column === column.key);
      const box = element("details", "", { "data-key": column.key });
      box.open = open.has(column.key);
      const summary = element("summary", column.title, column.meaning ? { title: column.meaning } : {});
      summary.classList.toggle("on", clause !== undefined);
      /** @param {Clause | null} next */
      const set = (next) => change(withClause(view, column.key, next));
      box.append(summary, column.values ? valuesOf(column, clause, set) : rangeOf(column, clause, set));
      place.append(box);
    }
  }
}

/**
 * @param {Column} column
 * @param {Clause | undefined} clause
 * @param {(clause: Clause | null) => void} set
 */
function valuesOf(column, clause, set) {
  const list = element("div", "", { class: "values" });
  /** @type {{ name: string | null, num: number }[]} */
  const rows = [...(column.values ?? [])];
  if (column.num_unknown) rows.push({ name: null, num: column.num_unknown });
  for (const { name, num } of rows) {
    const label = element("label");
    const box = element("input", "", { type: "checkbox" });
    box.checked = clause?.values?.includes(name) ?? false;
    box.addEventListener("change", () => {
      const others = (clause?.values ?? []).filter((value) => value !== name);
      const values = box.checked ? [...others, name] : others;
      set(values.length ? { column: column.key, values } : null);
    });
    label.append(box, element("span", name ?? column.unknown), element("small", num.toLocaleString()));
    list.append(label);
  }
  return list;
}

/**
 * @param {Column} column
 * @param {Clause | undefined} clause
 * @param {(clause: Clause | null) => void} set
 */
function rangeOf(column, clause, set) {
  const line = element("div", "", { class: "range" });
  const ends = /** @type {const} */ (["low", "high"]).map((end) => {
    const attributes = {
      type: "number",
      step: "any",
      placeholder: short(column[end]),
      "aria-label": `${column.title}, ${end}`,
    };
    const input = element("input", "", attributes);
    input.value = clause?.[end]?.toString() ?? "";
    return input;
  });
  const [low, high] = ends;
  for (const input of ends) {
    input.addEventListener("change", () => {
      const [from = null, to = null] = [low, high].map((one) => (one?.value ? one.valueAsNumber : null));
      set(from === null && to === null ? null : { column: column.key, low: from, high: to });
    });
  }
  line.append(...ends.slice(0, 1), "to", ...ends.slice(1));
  return line;
}

/**
 * Shortcuts, each a view of its own; those that this run can show.
 * @param {Column[]} columns
 * @param {(view: View) => void} change
 */
export function showPresets(columns, change) {
  /** @type {[string, string, (view: View) => void][]} */
  const presets = [
    ["Mistakes", "mistake", (view) => view.choice.where.push({ column: "mistake", values: ["yes"] })],
    ["Disagreements", "disagreement", (view) => view.choice.where.push({ column: "disagreement", values: ["yes"] })],
    [
      "Copies",
      "copies",
      (view) => {
        view.choice.where.push({ column: "copies", values: ["exact", "near"] });
        view.order.by = "copies";
      },
    ],
    [
      "Unusual",
      "outlier",
      (view) => {
        view.order.by = "outlier";
        view.color = "outlier";
      },
    ],
    [
      "Unsure",
      "uncertainty",
      (view) => {
        view.order.by = "uncertainty";
        view.color = "uncertainty";
      },
    ],
  ];
  const buttons = presets
    .filter(([, key]) => columns.some((column) => column.key === key))
    .map(([title, , fill]) => {
      const button = element("button", title, { type: "button" });
      button.addEventListener("click", () => {
        const view = emptyView();
        fill(view);
        change(view);
      });
      return button;
    });
  byId("presets").replaceChildren(...buttons);
}

/** @param {number | undefined} value */
const short = (value) => (value === undefined ? "" : Number(value.toPrecision(3)).toString());
