// The map of the pool: what a dot stands for, beside the pointer. The page carries this script, which imports nothing.
// It goes through the page's template: two braces in a row would be taken for a place to fill in.

/**
 * What is known of a dot (`scan_map.py`): where it is, its scan, and what was said of that.
 * @typedef {[x: number, y: number, id: string, said: number, percent: number | null, cluster: number, truth: number,
 *   round?: number | null, answer?: string]} Dot
 */
/**
 * What the page carries beside this script.
 * @typedef {object} PageData
 * @property {string[]} findings
 * @property {Dot[]} points
 */

const REACH = 14; // px around the pointer

const svg = /** @type {SVGSVGElement} */ (document.querySelector("#map-frame svg"));
const tip = /** @type {HTMLElement} */ (document.getElementById("map-tip"));
const here = /** @type {HTMLElement} */ (document.getElementById("map-here"));
const data = /** @type {HTMLElement} */ (document.getElementById("map-data"));
/** @type {PageData} */
const { findings, points } = JSON.parse(data.textContent ?? "");
/** @type {NodeListOf<HTMLImageElement>} */
const images = document.querySelectorAll("img[data-id]");
const pictures = new Map([...images].map((img) => [img.dataset.id, img.src]));

/**
 * @param {string} text
 * @param {boolean} strong
 */
function line(text, strong = false) {
  const row = document.createElement("div");
  const part = document.createElement(strong ? "b" : "span");
  part.textContent = text;
  row.append(part);
  tip.append(row);
}

function hide() {
  tip.hidden = true;
  here.setAttribute("visibility", "hidden");
}

/**
 * @param {number} x
 * @param {number} y
 * @param {number} reach
 */
function nearest(x, y, reach) {
  /** @type {Dot | null} */
  let best = null;
  let least = reach ** 2;
  for (const point of points) {
    const distance = (point[0] - x) ** 2 + (point[1] - y) ** 2;
    if (distance < least) [least, best] = [distance, point];
  }
  return best;
}

/** @param {Dot} dot */
function describe([, , id, said, percent, cluster, truth, round, answer]) {
  tip.replaceChildren();
  const picture = pictures.get(id);
  if (picture) {
    const img = document.createElement("img");
    img.src = picture;
    img.alt = "";
    tip.append(img);
  }
  if (said >= 0) line(`model: ${findings[said]}${percent === null ? "" : ` ${percent}%`}`, true);
  if (truth >= 0) line(`holdout, truth: ${findings[truth]}`, said !== truth);
  if (round !== undefined && round !== null) line(`asked in round ${round}`);
  if (answer) line(`expert: ${answer}`);
  line(`cluster ${cluster}, scan ${id}`);
}

/** @param {PointerEvent} event */
function show(event) {
  const box = svg.getBoundingClientRect();
  const scale = svg.viewBox.baseVal.width / box.width;
  const dot = nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, REACH * scale);
  if (!dot) return hide();
  describe(dot);
  const [x, y] = dot;
  here.setAttribute("cx", String(x));
  here.setAttribute("cy", String(y));
  here.setAttribute("visibility", "visible");
  tip.hidden = false;
  const [right, top] = [x / scale + 18, y / scale - 20];
  const left = right + tip.offsetWidth > box.width ? x / scale - tip.offsetWidth - 18 : right;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(top, box.height - tip.offsetHeight - 4))}px`;
}

svg.addEventListener("pointermove", show);
svg.addEventListener("pointerdown", show);
svg.addEventListener("pointerleave", hide);
