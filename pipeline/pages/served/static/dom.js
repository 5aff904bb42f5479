// The page's elements: found, made, and spoken to those who do not see them.

/**
 * An element that the page's markup always has.
 * @template {HTMLElement} T
 * @param {new () => T} kind
 * @param {string} id
 * @returns {T}
 */
export function ofKind(kind, id) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`this page has no ${kind.name} #${id}`);
  return found;
}

/** @param {string} id */
export const byId = (id) => ofKind(HTMLElement, id);

/** @param {string} id */
export const buttonOf = (id) => ofKind(HTMLButtonElement, id);

/** @param {string} id */
export const dialogOf = (id) => ofKind(HTMLDialogElement, id);

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [text]
 * @param {Record<string, string>} [attributes]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/**
 * Whether something happened within an element that fits.
 * @param {Event} event
 * @param {string} selector
 */
export const isInside = ({ target }, selector) => target instanceof Element && target.closest(selector) !== null;

/**
 * Tells those who listen to the page.
 * @param {string} text
 */
export function say(text) {
  byId("say").textContent = text;
}
