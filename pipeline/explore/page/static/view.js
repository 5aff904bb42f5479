// What is looked at: filters, lasso, order and colour. It lives in the page's address, so that a link opens it.

/** @import { Choice, Clause, Column, View } from "./types" */

/** @returns {View} everything, in no order */
export const emptyView = () => ({
  choice: { where: [], lasso: [], named: [] },
  order: { by: "", descending: true },
  color: null,
});

/**
 * @param {View} view
 * @returns {string} to follow the `#` of the address
 */
export function toHash(view) {
  return `view=${encodeURIComponent(JSON.stringify(view))}`;
}

/** @param {string} hash of the address @returns {string} name of the scan it asks for; blank: none */
export function scanOfHash(hash) {
  return new URLSearchParams(hash.slice(1)).get("scan") ?? "";
}

/**
 * The view an address names: a whole one, or, in links, columns and what they must say (`mistake=yes`, `outlier=1..`).
 * @param {string} hash
 * @param {Column[]} columns
 * @returns {View}
 */
export function fromHash(hash, columns) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const whole = parts.get("view");
  if (whole) {
    try {
      return withKnown({ ...emptyView(), ...JSON.parse(whole) }, columns);
    } catch {
      return emptyView();
    }
  }
  const view = emptyView();
  for (const [key, text] of parts) {
    if (key === "sort") view.order.by = text;
    else if (key === "color") view.color = text;
    else if (key !== "scan") view.choice.where.push(clauseOf(key, text, columns)); // a scan is opened, not chosen
  }
  return withKnown(view, columns);
}

/**
 * @param {string} key
 * @param {string} text
 * @param {Column[]} columns
 * @returns {Clause}
 */
function clauseOf(key, text, columns) {
  const column = columns.find((one) => one.key === key);
  if (!column || column.values) return { column: key, values: text.split("|") };
  const [low = "", high = ""] = text.split("..");
  return { column: key, low: low ? Number(low) : null, high: high ? Number(high) : null };
}

/**
 * The view without what this run does not have.
 * @param {View} view
 * @param {Column[]} columns
 * @returns {View}
 */
export function withKnown(view, columns) {
  const keys = new Set(columns.map((column) => column.key));
  const where = view.choice.where.filter((clause) => keys.has(clause.column));
  const by = keys.has(view.order.by) || view.order.by === "copies" ? view.order.by : "";
  const color = view.color && keys.has(view.color) ? view.color : null;
  return { choice: { ...view.choice, where }, order: { ...view.order, by }, color };
}

/**
 * The view with another clause for a column; null: none.
 * @param {View} view
 * @param {string} key
 * @param {Clause | null} clause
 * @returns {View}
 */
export function withClause(view, key, clause) {
  const others = view.choice.where.filter((one) => one.column !== key);
  return { ...view, choice: { ...view.choice, where: clause ? [...others, clause] : others } };
}

/**
 * A clause in words.
 * @param {Clause} clause
 * @param {Column | undefined} column
 */
export function inWords(clause, column) {
  const title = column?.title ?? clause.column;
  if (clause.values)
    return `${title}: ${clause.values.map((value) => value ?? column?.unknown ?? "not known").join(" or ")}`;
  const low = clause.low ?? null;
  const high = clause.high ?? null;
  if (low !== null && high !== null) return `${title}: ${low} to ${high}`;
  return low !== null ? `${title} ≥ ${low}` : `${title} ≤ ${high}`;
}

/** @param {Choice} choice */
export const isAll = (choice) => !choice.where.length && !choice.lasso.length && !choice.named.length;
