// What stands beside the scan: how far the reader is, what went wrong, and which buttons are of use now.

import { buttonOf, byId, ofKind } from "./dom.js";
import { t } from "./texts.js";
import { duration } from "./words.js";

/** @import { Desk, Progress, Task } from "./types" */

/** @param {Progress} progress */
function showProgress({ done, left, team_done, team_total, seconds_per_scan: pace }) {
  const total = done + left;
  const bar = ofKind(HTMLProgressElement, "bar");
  byId("count").textContent = t("done_of", { done, total });
  bar.max = Math.max(1, total);
  bar.value = done;
  byId("pace").textContent = pace && left ? t("pace", { pace: duration(pace), left: duration(pace * left) }) : "";
  byId("team").textContent = team_total > total ? t("team", { done: team_done, total: team_total }) : "";
}

/** @param {Desk} desk */
function showNotice(desk) {
  const notice = desk.notice();
  if (byId("banner-text").textContent !== notice) byId("banner-text").textContent = notice;
  byId("dismiss").hidden = !desk.canDismiss;
  byId("banner").hidden = !notice;
}

/**
 * @param {boolean} unsaved
 * @param {number} done
 */
function showSaving(unsaved, done) {
  const save = buttonOf("save");
  save.classList.toggle("main", unsaved);
  save.textContent = done && !unsaved ? t("saved_as") : t("save_answers");
  save.disabled = !done;
}

/**
 * Brings all of it up to date.
 * @param {Desk} desk
 * @param {Task | null} task the scan shown
 * @param {HTMLButtonElement[]} answers the buttons that answer it
 */
export function report(desk, task, answers) {
  const progress = desk.progress();
  const { done, left } = progress;
  showProgress(progress);
  showNotice(desk);
  document.title = `${t("done_of", { done, total: done + left })} · ${desk.question.title}`;
  byId("title").textContent = desk.question.title;
  byId("prior-open").hidden = !task?.num_priors;
  byId("why").hidden = !task?.reason;
  byId("undo").hidden = !done;
  for (const button of answers) button.disabled = !task;
  if (desk.kind === "file") showSaving(desk.unsaved, done);
}
