// The `on…` handlers of a socket.

/** @import { Handler } from "./internal.d.ts" */

const EVENTS = ["open", "message", "error", "close", "gap", "joined", "frame"];

/** An `EventTarget` that has handlers as well. */
export class HandlerTarget extends EventTarget {
  /** By type of event. @type {Map<string, Handler>} */
  #handlers = new Map();
  /** Whether a listener for errors was ever added; without one, the console gets the error. */
  #hasErrorListener = false;

  /** @param {any[]} args */
  addEventListener(...args) {
    this.#hasErrorListener ||= args[0] === "error";
    // @ts-expect-error - what is missing, the platform tells
    super.addEventListener(...args);
  }

  /**
   * Whether somebody ever listened for errors.
   *
   * @param {HandlerTarget} target
   */
  static isHeard(target) {
    return target.#hasErrorListener;
  }

  /**
   * Give a class an `on…` attribute for each event.
   *
   * @param {{ prototype: object }} Class which extends this one
   */
  static addHandlers({ prototype }) {
    for (const type of EVENTS) {
      Object.defineProperty(prototype, `on${type}`, {
        configurable: true,
        /** @this {HandlerTarget} */
        get() {
          return this.#handlers.get(type)?.value ?? null;
        },
        /** @this {HandlerTarget} */
        set(value) {
          this.#setHandler(type, value);
        },
      });
    }
  }

  /**
   * A handler is a listener, in the place where it was set first.
   *
   * @param {string} type
   * @param {unknown} value
   */
  #setHandler(type, value) {
    const handler = this.#handlers.get(type);
    if (Object(value) !== value) {
      // Whatever is no object means: none.
      if (handler) this.removeEventListener(type, handler.listener);
      this.#handlers.delete(type);
    } else if (handler) {
      handler.value = value;
    } else {
      /** @type {Handler} */
      const added = {
        value,
        listener: (event) => {
          if (typeof added.value === "function") added.value.call(this, event);
        },
      };
      this.#handlers.set(type, added);
      this.addEventListener(type, added.listener);
    }
  }
}
