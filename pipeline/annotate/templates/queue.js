(() => {
  "use strict";
  const rows = [...document.querySelectorAll("#sheet li")], done = document.getElementById("done");
  const answered = () => rows.filter((row) => row.querySelector("input:checked"));
  let unsaved = false;
  document.getElementById("sheet").addEventListener("change", (event) => {
    unsaved = true;
    clearOthers(event.target);
    done.textContent = `${answered().length} of ${rows.length} answered`;
  });

  // The latest mark stands: a finding is present or unknown, and no answer to the whole scan stands beside one.
  function clearOthers(input) {
    for (const other of input.closest("fieldset").querySelectorAll("input:checked")) {
      const apart = input.type === "checkbox" && other.type === "checkbox" && input.value !== other.value;
      if (other !== input && !apart) other.checked = false;
    }
  }

  // One answer, or a line such as `effusion|?mass`.
  function label(row) {
    return [...row.querySelectorAll("input:checked")].map(({ name, value }) => (name === "unknown" ? `?${value}` : value)).join("|");
  }

  const origin = JSON.parse(document.getElementById("sheet").dataset.origin); // annotator, round, run
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  document.getElementById("save").addEventListener("click", () => {
    const lines = answered().map((row) => [row.dataset.id, row.dataset.rank, quoted(label(row)), ...origin.map((cell) => quoted(String(cell)))].join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["image_id,rank,label,annotator,round,run", ...lines].join("\n") + "\n"], { type: "text/csv" }));
    link.download = `${document.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.csv`;
    link.click();
    unsaved = false;
  });
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
})();
