// On a small screen one part of the page shows at a time.

import { byId } from "./dom.js";

export function startTabs() {
  const buttons = [...byId("tabs").querySelectorAll("button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      document.body.dataset.tab = button.dataset.tab;
      for (const one of buttons) one.setAttribute("aria-pressed", String(one === button));
    });
  }
}
