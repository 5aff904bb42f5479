// The contact sheet: what is ticked becomes a table. The page carries this script, which imports nothing.
// It goes through the page's template: two braces in a row would be taken for a place to fill in.

const sheet = /** @type {HTMLElement} */ (document.getElementById("sheet"));
const done = /** @type {HTMLElement} */ (document.getElementById("done"));
const save = /** @type {HTMLElement} */ (document.getElementById("save"));
/** @type {HTMLElement[]} */
const rows = [...sheet.querySelectorAll("li")];
/** @type {(string | number)[]} */
const origin = JSON.parse(sheet.dataset.origin ?? ""); // annotator, round, run
let unsaved = false;

/**
 * @param {Element | null} part
 * @returns {HTMLInputElement[]}
 */
const ticked = (part) => [...(part?.querySelectorAll("input") ?? [])].filter((input) => input.checked);

const answered = () => rows.filter((row) => ticked(row).length);

/**
 * The latest mark stands: a finding is present or unknown, and no answer to the whole scan stands beside one.
 * @param {HTMLInputElement} input
 */
function clearOthers(input) {
  for (const other of ticked(input.closest("fieldset"))) {
    const apart = input.type === "checkbox" && other.type === "checkbox" && input.value !== other.value;
    if (other !== input && !apart) other.checked = false;
  }
}

/**
 * One answer, or a line such as `effusion|?mass`.
 * @param {HTMLElement} row
 */
function label(row) {
  const marks = ticked(row).map(({ name, value }) => (name === "unknown" ? `?${value}` : value));
  return marks.join("|");
}

/** @param {string | number} cell */
const quoted = (cell) => `"${String(cell).replaceAll('"', '""')}"`;

sheet.addEventListener("change", ({ target }) => {
  unsaved = true;
  if (target instanceof HTMLInputElement) clearOthers(target);
  done.textContent = `${answered().length} of ${rows.length} answered`;
});
save.addEventListener("click", () => {
  const lines = answered().map((row) => {
    const { id, rank } = row.dataset;
    return [id, rank, quoted(label(row)), ...origin.map(quoted)].join(",");
  });
  const table = ["image_id,rank,label,annotator,round,run", ...lines].join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${table}\n`], { type: "text/csv" }));
  link.download = `${document.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.csv`;
  link.click();
  unsaved = false;
});
window.addEventListener("beforeunload", (event) => {
  if (unsaved) event.preventDefault();
});
