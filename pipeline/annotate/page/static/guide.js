// What each answer means, with pictures that show it.

import { byId, dialogOf, element } from "./dom.js";
import { replyText, t } from "./texts.js";

/** @import { Definition } from "./types" */

/**
 * @param {Definition} definition
 * @param {number} at its place among the definitions
 */
function entryOf({ reply, text, num_examples }, at) {
  const entry = element("section");
  entry.append(element("h3", replyText(reply)));
  if (text) entry.append(element("p", text));
  const row = element("p", "", { class: "examples" });
  for (let number = 0; number < num_examples; number++) {
    const alt = t("guide_example", { finding: replyText(reply) });
    row.append(element("img", "", { src: `/example/${at}/${number}`, alt, loading: "lazy" }));
  }
  if (num_examples) entry.append(row);
  return entry;
}

/** @param {Definition[]} definitions */
export function fillGuide(definitions) {
  byId("guide-open").hidden = !definitions.length;
  byId("guide-entries").replaceChildren(...definitions.map(entryOf));
}

export function openGuide() {
  if (!byId("guide-open").hidden) dialogOf("guide").showModal();
}
