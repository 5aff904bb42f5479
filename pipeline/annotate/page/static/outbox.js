"use strict";
// What must not be lost, in the order it was done: kept by the browser before anything else happens to it.
(() => {
  const name = (key) => String(key).padStart(16, "0");

  class Outbox {
    // `owner` names run and annotator, in a file the round too: nobody else's answers are ever read.
    constructor(owner) {
      this.prefix = `cxr-ssl|${encodeURIComponent(owner)}|`;
      this.fragile = false; // the browser keeps nothing: closing the page would lose what waits
      this.items = new Map();
      this.last = 0;
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
      return this.items.entries().next().value ?? null;
    }

    put(item) {
      this.last = Math.max(this.last + 1, Date.now()); // a clock that is set back changes no order
      const key = `${this.prefix}${name(this.last)}-${cxr.newKey().slice(0, 8)}`;
      this.items.set(key, item);
      try {
        localStorage.setItem(key, JSON.stringify(item));
      } catch {
        this.fragile = true;
      }
      return key;
    }

    drop(key) {
      this.items.delete(key);
      try {
        localStorage.removeItem(key);
      } catch {
        this.fragile = true;
      }
    }

    #read(key) {
      try {
        this.items.set(key, JSON.parse(localStorage.getItem(key)));
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

  // crypto.randomUUID is missing on plain http to another machine.
  const newKey = () => {
    if (crypto.randomUUID) return crypto.randomUUID();
    return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  // A setting of this device.
  const device = {
    get(key) {
      try {
        return localStorage.getItem(`cxr-ssl-${key}`);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        localStorage.setItem(`cxr-ssl-${key}`, value);
      } catch {
        // it is asked for again next time
      }
    },
  };

  Object.assign(window.cxr, { Outbox, newKey, device });
})();
