// Tables as files.

/** @typedef {string | number | null} Cell */

/** @param {Cell | undefined} value */
function quoted(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (/^'*[=+\-@\t\r\n]/.test(text)) text = `'${text}`; // a spreadsheet would run it as a formula
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Hands the reader a table to keep.
 * @param {string} name of the file
 * @param {string[]} columns
 * @param {{ [column: string]: Cell }[]} rows
 */
export function saveTable(name, columns, rows) {
  const lines = [columns.join(","), ...rows.map((row) => columns.map((column) => quoted(row[column])).join(","))];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
