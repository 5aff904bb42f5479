// Requests to the server behind the page.

import { post } from "./post.js";

/** @import { Points, Replies } from "./types" */

const PATIENCE_MS = 60000;

/**
 * @param {string} path
 * @param {object} body
 * @returns {Promise<Response>}
 * @throws {Error} whatever goes wrong, in words for people
 */
async function send(path, body) {
  /** @type {Response} */
  let response;
  try {
    response = await post(path, body, PATIENCE_MS);
  } catch {
    throw new Error("The server cannot be reached. Is cxr-ssl explore still running?");
  }
  if (response.ok) return response;
  const reply = await response.json().catch(() => null);
  throw new Error(reply?.error ?? "The server did not understand.");
}

/**
 * @template {keyof Replies} Path
 * @param {Path} path
 * @param {object} body
 * @returns {Promise<Replies[Path]>}
 */
export async function ask(path, body) {
  const response = await send(path, body);
  return response.json();
}

/**
 * @param {object} body
 * @returns {Promise<Points>}
 */
export async function askPoints(body) {
  const response = await send("points", body);
  const data = await response.arrayBuffer();
  const [num = 0, meant = 0] = new Uint32Array(data, 0, 2);
  const after = 8 + 4 * num;
  return {
    meant,
    rows: new Uint32Array(data, 8, num),
    x: new Uint16Array(data, after, num),
    y: new Uint16Array(data, after + 2 * num, num),
    color: new Uint8Array(data, after + 4 * num, num),
  };
}

/**
 * Asks for a table and hands it to the person as a file.
 * @param {object} body
 * @param {string} name
 */
export async function download(body, name) {
  const response = await send("export", body);
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(address), PATIENCE_MS);
}
