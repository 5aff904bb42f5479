// A request to the server behind a page.

/**
 * @param {string} path
 * @param {object} body
 * @param {number} patienceMs
 * @returns {Promise<Response>}
 * @throws {Error} without a reply
 */
export const post = (path, body, patienceMs) =>
  fetch(`/api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(patienceMs),
    cache: "no-store",
  });
