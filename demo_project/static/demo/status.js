// How a page shows the state of its socket.

/** What close codes mean to a person. */
const MEANINGS = {
  1001: "the server is going away",
  1006: "connection lost",
  1009: "message too big",
  1011: "the server had an error",
  1013: "try again later",
  4400: "invalid frame",
  4401: "session ended",
  4406: "no acceptable profile",
  4408: "handshake took too long",
};

/** Show the state of a socket in `element`. */
export function show(element, state, text) {
  element.dataset.state = state;
  element.textContent = text;
}

export const closeText = ({ code, reason }) =>
  `closed ${code}: ${reason || MEANINGS[code] || "ended"}`;
