// Frames as they look on the wire: hex (or, in gcrypt.v1, JSON text) coloured by field.

const SHOWN = 96; // bytes of a field; the rest is counted
const TAG = 16;

const encoder = new TextEncoder();

/** Bytes of `frame` on the wire. */
const sizeOf = (frame) =>
  typeof frame === "string" ? encoder.encode(frame).length : frame.byteLength;

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The fields of a frame before what is sealed, and its tag: [class, title, length]. Not of gcrypt.v1. */
function layout(kind) {
  switch (kind & 0x3f) {
    case 0x01:
      return [
        ["f-type", "type: HELLO", 1],
        ["f-key", "key id", 8],
        ["f-key", "ephemeral key", 32],
      ];
    case 0x02:
      return [
        ["f-type", "type: REPLY", 1],
        ["f-key", "ephemeral key", 32],
      ];
    case 0x10:
      return [["f-type", "type: TEXT", 1]];
    case 0x11:
      return [["f-type", "type: BINARY", 1]];
    default:
      return [["f-type", "type: CONTROL", 1]];
  }
}

function abbreviated(bytes, shown) {
  const cut = bytes.length - shown;
  return hex(bytes.subarray(0, shown)) + (cut > 0 ? `…+${cut}` : "");
}

function secureFields(bytes, shown) {
  const fields = [];
  let at = 0;
  for (const [name, title, length] of layout(bytes[0])) {
    fields.push([name, title, abbreviated(bytes.subarray(at, at + length), shown)]);
    at += length;
  }
  const ciphertext = bytes.subarray(at, -TAG);
  if (ciphertext.length) fields.push(["f-ct", "ciphertext", abbreviated(ciphertext, shown)]);
  fields.push(["f-tag", "tag", hex(bytes.subarray(-TAG))]);
  return fields;
}

function classicFields(text, shown) {
  const classes = { ct: "f-ct", iv: "f-key", s: "f-key" };
  const parts = text.split(/("(?:ct|iv|s)":"[^"]*")/);
  return parts.filter(Boolean).map((part) => {
    const name = part.match(/^"(ct|iv|s)":/)?.[1];
    if (!name) return ["", "", part];
    const cut = part.length - 2 * shown;
    return [classes[name], name, cut > 0 ? `${part.slice(0, 2 * shown)}…+${cut}"` : part];
  });
}

/**
 * An element that shows `frame`, a Uint8Array or a string, and its size; `shown` is how many bytes
 * of a field are spelled out.
 */
export function wire(frame, shown = SHOWN) {
  const element = document.createElement("code");
  element.className = "wire";
  const fieldsOf = typeof frame === "string" ? classicFields : secureFields;
  const fields = fieldsOf(frame, shown);
  fields.forEach(([name, title, text], index) => {
    const span = document.createElement("span");
    span.className = name;
    span.title = title;
    span.textContent = text;
    if (index && typeof frame !== "string") element.append(" ");
    element.append(span);
  });
  const size = document.createElement("span");
  size.className = "size";
  size.textContent = ` ${sizeOf(frame)} bytes`;
  element.append(size);
  return element;
}
