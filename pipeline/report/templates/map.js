(() => {
  "use strict";
  const { findings, points } = JSON.parse(document.getElementById("map-data").textContent);
  const frame = document.getElementById("map-frame"), svg = frame.querySelector("svg");
  const tip = document.getElementById("map-tip"), here = document.getElementById("map-here");
  const pictures = new Map([...document.querySelectorAll("img[data-id]")].map((img) => [img.dataset.id, img.src]));
  const line = (text, strong) => {
    const row = document.createElement("div"), part = document.createElement(strong ? "b" : "span");
    part.textContent = text;
    row.append(part);
    tip.append(row);
  };
  const hide = () => { tip.hidden = true; here.setAttribute("visibility", "hidden"); };
  const show = (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, nearest = (14 * scale) ** 2;
    for (const point of points) {
      const d = (point[0] - x) ** 2 + (point[1] - y) ** 2;
      if (d < nearest) { nearest = d; best = point; }
    }
    if (!best) { hide(); return; }
    const [px, py, id, said, sure, cluster, truth, round, answer] = best;
    tip.replaceChildren();
    if (pictures.has(id)) {
      const img = document.createElement("img");
      img.src = pictures.get(id);
      img.alt = "";
      tip.append(img);
    }
    if (said >= 0) line(`model: ${findings[said]}${sure === null ? "" : ` ${sure}%`}`, true);
    if (truth >= 0) line(`holdout, truth: ${findings[truth]}`, said !== truth);
    if (round !== undefined && round !== null) line(`asked in round ${round}`);
    if (answer) line(`expert: ${answer}`);
    line(`cluster ${cluster}, scan ${id}`);
    here.setAttribute("cx", px);
    here.setAttribute("cy", py);
    here.setAttribute("visibility", "visible");
    tip.hidden = false;
    const left = px / scale + 18, top = py / scale - 20;
    tip.style.left = `${Math.max(4, left + tip.offsetWidth > box.width ? px / scale - tip.offsetWidth - 18 : left)}px`;
    tip.style.top = `${Math.max(4, Math.min(top, box.height - tip.offsetHeight - 4))}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
})();
