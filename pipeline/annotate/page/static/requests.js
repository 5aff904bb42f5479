// Requests to the server behind the page.

import { post as send } from "./post.js";
import { t } from "./texts.js";

/** @import { Replies } from "./types" */

const PATIENCE_MS = 20000;

/** A request that failed, with HTTP's status; 0: without a reply. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
  // The request itself is at fault: asking again would not help.
  get final() {
    return [400, 404, 413, 415, 422].includes(this.status);
  }
}

/**
 * @template {keyof Replies} Path
 * @param {Path} path
 * @param {object} body
 * @returns {Promise<Replies[Path]>}
 * @throws {Problem} whatever goes wrong
 */
export async function post(path, body) {
  /** @type {Response | undefined} */
  let response;
  let reply;
  try {
    response = await send(path, body, PATIENCE_MS);
    reply = await response.json();
  } catch {
    throw new Problem(response?.ok === false ? response.status : 0, t("unreachable"));
  }
  if (!response.ok) throw new Problem(response.status, reply?.error ?? t("not_understood"));
  return reply;
}

/**
 * Why a picture did not come; null: there is none, and asking again would not help.
 * @param {string} address
 */
export async function pictureProblem(address) {
  try {
    const { status } = await fetch(address, { method: "HEAD" });
    if (status === 404) return null;
    return status === 401 ? t("link_expired") : t("cannot_read");
  } catch {
    return t("unreachable");
  }
}
