// Libraries that construct the global WebSocket themselves, as docs/javascript.md says to use them.
// Each function sends a text to an echo, and returns what its library got back.

import { useWebSocket } from "@vueuse/core";
import { EncryptedWebSocket } from "gcrypt_channels";
import htmx from "htmx.org";
import { createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";
import reactUseWebSocket from "react-use-websocket"; // a CommonJS module
import { effectScope, watch } from "vue";

const { default: useReactWebSocket } = reactUseWebSocket;

window.WebSocket = EncryptedWebSocket;

function ReactEcho({ path, text, onAnswer }) {
  const { sendMessage, lastMessage, getWebSocket } = useReactWebSocket(path);
  useEffect(() => sendMessage(text), [sendMessage, text]);
  useEffect(() => {
    if (lastMessage) onAnswer([lastMessage.data, getWebSocket().profile]);
  }, [lastMessage, getWebSocket, onAnswer]);
  return null;
}

/** react-use-websocket */
export async function react(path, text) {
  const root = createRoot(document.createElement("div"));
  const answer = await new Promise((onAnswer) => {
    root.render(createElement(ReactEcho, { path, text, onAnswer }));
  });
  root.unmount();
  return answer;
}

/** vueuse */
export const vue = (path, text) =>
  new Promise((resolve) => {
    const scope = effectScope();
    scope.run(() => {
      const { data, send, ws } = useWebSocket(path);
      send(text);
      watch(data, (answer) => {
        resolve([answer, ws.value.profile]);
        scope.stop();
      });
    });
  });

/** htmx's extension ws */
export async function htmxWs(path, text) {
  window.htmx = htmx;
  await import("htmx-ext-ws");
  let socket;
  htmx.createWebSocket = (url) => {
    socket = new EncryptedWebSocket(url);
    return socket;
  };
  const element = document.createElement("div");
  element.innerHTML = `<div hx-ext="ws" ws-connect="${path}"></div>`;
  document.body.append(element);
  const answer = new Promise((resolve) => {
    element.addEventListener("htmx:wsOpen", ({ detail }) => detail.socketWrapper.send(text));
    element.addEventListener("htmx:wsAfterMessage", ({ detail }) => {
      resolve([detail.message, socket.profile]);
    });
  });
  htmx.process(element);
  return answer;
}
