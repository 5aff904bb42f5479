(() => {
  "use strict";
  const rows = [...document.querySelectorAll("#sheet li")], done = document.getElementById("done");
  const answered = () => rows.filter((row) => row.querySelector("input:checked"));
  let unsaved = false;
  document.getElementById("sheet").addEventListener("change", () => {
    unsaved = true;
    done.textContent = `${answered().length} of ${rows.length} answered`;
  });
  const origin = JSON.parse(document.getElementById("sheet").dataset.origin); // annotator, round, run
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  document.getElementById("save").addEventListener("click", () => {
    const lines = answered().map((row) => {
      const input = row.querySelector("input:checked");
      return [row.dataset.id, row.dataset.rank, quoted(input.value), ...origin.map((cell) => quoted(String(cell)))].join(",");
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["image_id,rank,label,annotator,round,run", ...lines].join("\n") + "\n"], { type: "text/csv" }));
    link.download = `${document.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.csv`;
    link.click();
    unsaved = false;
  });
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
})();
