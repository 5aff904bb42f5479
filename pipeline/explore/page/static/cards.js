// Scans as small pictures.

/** @import { Card } from "./types" */
import { element } from "./dom.js";

/**
 * @param {Card} card
 * @param {(image_id: string) => void} open
 * @param {{ isPicked: boolean, pick: (image_id: string, on: boolean) => void } | null} picking
 */
export function cardOf(card, open, picking = null) {
  const name = `scan ${card.image_id.slice(0, 8)}`;
  const made = element("div", "", { class: "card", "data-scan": card.image_id });
  const button = element("button", "", { type: "button" });
  const picture = element("img", "", {
    src: `/thumbnail/${card.image_id}`,
    alt: name,
    loading: "lazy",
    decoding: "async",
  });
  picture.addEventListener("error", () => {
    picture.alt = "no picture";
  });
  const text = element("p");
  text.append(element("b", card.image_id.slice(0, 8)), ...card.facts.map((fact) => `\u00a0· ${fact}`));
  if (card.sealed) text.append("\u00a0· sealed");
  button.append(picture, text);
  button.addEventListener("click", () => open(card.image_id));
  made.append(button);
  if (picking) {
    const box = element("input", "", { type: "checkbox", "aria-label": `choose ${name}` });
    box.checked = picking.isPicked;
    made.classList.toggle("picked", picking.isPicked);
    box.addEventListener("change", () => {
      made.classList.toggle("picked", box.checked);
      picking.pick(card.image_id, box.checked);
    });
    made.append(box);
  }
  return made;
}
