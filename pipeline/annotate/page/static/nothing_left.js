// What is said when no scan is left on the list: all done, or the others are with somebody else.

import { actionButton } from "./message.js";
import { counted, t } from "./texts.js";

/** @import { Message } from "./message.js" */
/** @import { Desk } from "./types" */

/**
 * @param {Desk} desk
 * @returns {Message}
 */
export function nothingLeft(desk) {
  const { done, left, team_done, team_total } = desk.progress();
  if (left) return { title: t("nothing_now"), lines: [t("read_by_others")] };
  if (desk.waiting) return { title: t("all_answered"), lines: [t("answers_wait_here")] };
  if (desk.kind === "file") {
    const save = actionButton(t("save_answers"), () => desk.save());
    return { title: t("all_done"), lines: [t("file_done", { done })], actions: [save] };
  }
  const others = team_done < team_total ? t("team_done", { done: team_done, total: team_total }) : t("queue_done");
  const thanks = t("thanks", { scans: counted("scans", done), others });
  return { title: t("all_done"), lines: [thanks, t("can_close")] };
}
