// The g-crypt article's page: a plain WebSocket, and g-crypt around each message.
// Nothing of gcrypt_channels runs here; only the passphrase comes from its key endpoint.

/* global Crypt */
import { closeText, show } from "./status.js";
import { wire } from "./wire.js";

const status = document.getElementById("status");
const log = document.getElementById("log");
const config = JSON.parse(document.getElementById("gcrypt-config").textContent);

async function fetchPassphrase() {
  const cookie = document.cookie.match(`(?:^|; )${config.csrfCookie}=([^;]*)`);
  const response = await fetch(config.keyUrl, {
    method: "POST",
    headers: { [config.csrfHeader]: cookie[1] },
  });
  return (await response.json())["gcrypt.v1"].passphrase;
}

function addRow(direction, content, frame) {
  const row = document.createElement("li");
  row.className = direction;
  const plain = document.createElement("span");
  plain.className = "plain";
  plain.textContent = JSON.stringify(content);
  row.append(plain, wire(frame));
  log.append(row);
  while (log.children.length > 6) log.firstChild.remove();
}

const gcrypt = Crypt(await fetchPassphrase());
const socket = new WebSocket(`ws${location.protocol.slice(4)}//${location.host}/ws/counter/`);
let id = 0;

function count() {
  const frame = gcrypt.encrypt({ id });
  addRow("outbound", { id }, frame);
  socket.send(frame);
}

socket.addEventListener("message", ({ data }) => {
  const content = gcrypt.decrypt(data);
  id = content.id;
  addRow("inbound", content, data);
});
socket.addEventListener("open", () => {
  show(status, "open", "open, gcrypt.v1");
  document.getElementById("count").addEventListener("click", count);
  count();
});
socket.addEventListener("close", (event) => show(status, "closed", closeText(event)));
