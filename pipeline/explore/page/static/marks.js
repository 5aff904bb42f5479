// What is done with the chosen scans: tags, saved views, wishes for the next queue, tables to take away.

/** @import { About, Choice, View } from "./types" */
import { buttonOf, byId, element, ofKind } from "./dom.js";
import { ask, download } from "./server_calls.js";

const NAME_KEY = "cxr-ssl-explore-name";
const BUTTONS = ["do-tag", "do-untag", "do-view", "do-wish", "do-unwish", "do-csv", "do-manifest"];

/**
 * What the page tells of itself.
 * @typedef {object} Page
 * @property {() => View} view
 * @property {() => Choice} target the scans that are picked, or else all that are chosen
 * @property {(about: About) => void} learned columns, tags or views are others now
 * @property {(error: unknown) => void} failed
 */

/** @param {Page} page */
export function startMarks(page) {
  const who = ofKind(HTMLInputElement, "who");
  const words = ofKind(HTMLInputElement, "tag");
  who.value = localStorage.getItem(NAME_KEY) ?? "";
  who.addEventListener("change", () => localStorage.setItem(NAME_KEY, who.value));
  ofKind(HTMLFormElement, "actions").addEventListener("submit", (event) => event.preventDefault());
  /** @param {string} id @param {() => Promise<string>} work */
  const on = (id, work) => byId(id).addEventListener("click", () => run(work, page));
  /** @param {boolean} give */
  const tag = async (give) => {
    const body = { who: named(who), tag: worded(words, "tag"), choice: page.target(), give };
    const reply = await ask("tag", body);
    page.learned(reply.about);
    return `“${reply.tag}” ${give ? "given to" : "taken from"} ${scans(reply.num)}.`;
  };
  /** @param {boolean} give */
  const wish = async (give) => {
    const reply = await ask("wish", { who: named(who), choice: page.target(), give });
    page.learned(reply.about);
    const others = Object.entries(reply.left_out).map(([why, num]) => `${num} ${why}`);
    const rest = others.length ? ` Left out: ${others.join("; ")}.` : "";
    return `${scans(reply.num)} ${give ? "wait for the next queue that is drawn" : "taken off the wishes"}.${rest}`;
  };
  /** @param {boolean} manifest */
  const table = async (manifest) => {
    await download(
      { choice: page.target(), order: page.view().order, manifest },
      manifest ? "manifest.csv" : "scans.csv",
    );
    return manifest ? "Saved as manifest.csv, without sealed scans." : "Saved as scans.csv.";
  };
  on("do-tag", () => tag(true));
  on("do-untag", () => tag(false));
  on("do-wish", () => wish(true));
  on("do-unwish", () => wish(false));
  on("do-csv", () => table(false));
  on("do-manifest", () => table(true));
  on("do-view", async () => {
    const { choice, order, color } = page.view();
    const reply = await ask("view", { who: named(who), name: worded(words, "view"), choice, order, color });
    page.learned(reply.about);
    return "The view is saved.";
  });
}

/**
 * @param {() => Promise<string>} work
 * @param {Page} page
 */
async function run(work, page) {
  const buttons = BUTTONS.map(buttonOf);
  for (const button of buttons) button.disabled = true;
  byId("done").textContent = "";
  try {
    byId("done").textContent = await work();
  } catch (error) {
    page.failed(error);
  }
  for (const button of buttons) button.disabled = false;
}

/** @param {About} about */
export function offerTags(about) {
  const tags = about.columns.filter(({ key }) => key.startsWith("tag.")).map(({ key }) => key.slice("tag.".length));
  byId("tags").replaceChildren(...tags.map((tag) => element("option", "", { value: tag })));
}

/** @param {HTMLInputElement} input */
function named(input) {
  if (input.value.trim()) return input.value;
  input.focus();
  throw new Error("Give your name first: what you mark is kept with it.");
}

/**
 * @param {HTMLInputElement} input
 * @param {string} what
 */
function worded(input, what) {
  if (input.value.trim()) return input.value;
  input.focus();
  throw new Error(`Name the ${what} first, in a few words.`);
}

/** @param {number} num */
const scans = (num) => (num === 1 ? "1 scan" : `${num.toLocaleString()} scans`);
