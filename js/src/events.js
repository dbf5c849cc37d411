// Events with members of their own.

/**
 * An event class whose instances also have the members of `init` that the class of the DOM does not
 * know. Libraries copy events by `new event.constructor(event.type, event)`: so the copies have
 * these members, too.
 *
 * @param {new (type: string, init?: object) => Event} Base
 * @returns {new (type: string, init: object) => Event}
 */
const withMembers = (Base) =>
  class extends Base {
    /**
     * @param {string} type
     * @param {object} init
     */
    constructor(type, init) {
      super(type, init);
      // Not Object.entries: the members of an event are not its own.
      for (const name in init) {
        if (!(name in this)) Object.assign(this, { [name]: Reflect.get(init, name) });
      }
    }
  };

export const OwnEvent = withMembers(Event);

export const OwnMessageEvent = withMembers(MessageEvent);

/** A `CloseEvent` where the runtime has that class. */
export const OwnCloseEvent = withMembers(globalThis.CloseEvent ?? Event);
