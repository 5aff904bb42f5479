// What is said when no scan is left on the list: all done, or the others are with somebody else.

import { actionButton } from "./message.js";
import { count } from "./words.js";

/** @import { Message } from "./message.js" */
/** @import { Desk } from "./types" */

/**
 * @param {Desk} desk
 * @returns {Message}
 */
export function nothingLeft(desk) {
  const { done, left, team_done, team_total } = desk.progress();
  if (left) {
    const others = "The scans still open are being read by others. New ones appear here by themselves.";
    return { title: "Nothing for you right now", lines: [others] };
  }
  if (desk.waiting) {
    const wait = "Some answers still wait on this device. Leave this page open until they are saved.";
    return { title: "All answered", lines: [wait] };
  }
  if (desk.kind === "file") {
    const back = "Save your answers, and send the file answers.csv back to whoever gave you this folder.";
    const save = actionButton("Save answers", () => desk.save());
    return { title: "All done", lines: [`You have answered all ${done} scans. ${back}`], actions: [save] };
  }
  const team = `The team has answered ${team_done} of ${team_total}.`;
  const others = team_done < team_total ? team : "The whole queue is answered.";
  return {
    title: "All done",
    lines: [
      `Thank you. You have answered ${count(done, "scan")}, and all of them are saved. ${others}`,
      "You can close this page. Whoever runs the project goes on with cxr-ssl run --resume.",
    ],
  };
}
