// What must not be lost, in the order it was done: kept by the browser before anything else happens to it.

/** @param {number} key */
const padded = (key) => String(key).padStart(16, "0");

// crypto.randomUUID is missing on plain http to another machine.
export const newKey = () => {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

/**
 * Items of one kind, each under a key that tells its place.
 * @template Item
 */
export class Outbox {
  fragile = false; // the browser keeps nothing: closing the page would lose what waits
  last = 0;
  /** @type {Map<string, Item>} */
  items = new Map();

  /** @param {string} owner names run and annotator, in a file the round too: nobody else's answers are ever read */
  constructor(owner) {
    this.prefix = `cxr-ssl|${encodeURIComponent(owner)}|`;
    this.refresh();
  }

  // Takes in what another window kept or dropped meanwhile.
  refresh() {
    const keys = new Set(this.#keys());
    if (!this.fragile) for (const key of this.items.keys()) if (!keys.has(key)) this.items.delete(key);
    for (const key of keys) if (!this.items.has(key)) this.#read(key);
    this.items = new Map([...this.items].sort(([a], [b]) => (a < b ? -1 : 1)));
    for (const key of this.items.keys()) this.last = Math.max(this.last, parseInt(key.slice(this.prefix.length), 10));
  }

  get size() {
    return this.items.size;
  }

  get all() {
    return [...this.items.values()];
  }

  get first() {
    const [entry] = this.items;
    return entry ?? null;
  }

  /**
   * Keeps an item; returns its key.
   * @param {Item} item
   */
  put(item) {
    this.last = Math.max(this.last + 1, Date.now()); // a clock that is set back changes no order
    const key = `${this.prefix}${padded(this.last)}-${newKey().slice(0, 8)}`;
    this.items.set(key, item);
    try {
      localStorage.setItem(key, JSON.stringify(item));
    } catch {
      this.fragile = true;
    }
    return key;
  }

  /** @param {string} key */
  drop(key) {
    this.items.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      this.fragile = true;
    }
  }

  /** @param {string} key */
  #read(key) {
    try {
      this.items.set(key, JSON.parse(localStorage.getItem(key) ?? ""));
    } catch {
      // half written when the machine stopped: the answer was never shown as given
    }
  }

  #keys() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
    } catch {
      this.fragile = true;
      return [];
    }
  }
}

// A setting of this device.
export const device = {
  /** @param {string} key */
  get(key) {
    try {
      return localStorage.getItem(`cxr-ssl-${key}`);
    } catch {
      return null;
    }
  },
  /**
   * @param {string} key
   * @param {string} value
   */
  set(key, value) {
    try {
      localStorage.setItem(`cxr-ssl-${key}`, value);
    } catch {
      // it is asked for again next time
    }
  },
};
