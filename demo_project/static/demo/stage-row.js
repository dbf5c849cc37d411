// One row of the stage: what alice wrote, the wire, Redis, and what bob reads.

const FRAME_BYTES = 60; // shown of a sealed frame
const PACKET = 2200; // milliseconds from alice to bob
const SHAPES = {
  eye: [
    "M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12z",
    "M12 9.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 1 1 0-5.6",
  ],
  open: ["M12 3.5L22 20.5H2z", "M12 10v4.5M12 17.4v.1"],
  sealed: ["M4 11h16v10H4z", "M8 11V8a4 4 0 0 1 8 0v3"],
  refused: ["M6 6l12 12M18 6L6 18"],
  none: ["M6 12h12"],
};
const SVG = "http://www.w3.org/2000/svg";

/** A small picture beside a word, for the eye alone. */
export function sign(name) {
  const svg = document.createElementNS(SVG, "svg");
  const look = {
    viewBox: "0 0 24 24",
    fill: "none",
    stroke: "currentColor",
    "stroke-width": "2.4",
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
    "aria-hidden": "true",
  };
  for (const [attribute, value] of Object.entries(look)) svg.setAttribute(attribute, value);
  for (const shape of SHAPES[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    svg.append(path);
  }
  return svg;
}

function make(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Text with `words` under the marker. */
function marked(text, words) {
  const at = words ? text.indexOf(words) : -1;
  if (at < 0) return [text];
  return [text.slice(0, at), make("mark", "", words), text.slice(at + words.length)];
}

function groups(hex) {
  return hex.match(/.{1,8}/g).join(" ");
}

function chips() {
  return [
    make("span", "chip reads is-plain", sign("eye"), "reads everything"),
    make("span", "chip noise is-gcrypt", sign("sealed"), "sees noise"),
  ];
}

export class Row {
  constructor(text, calm) {
    this.text = text;
    this.calm = calm;
    this.ended = new Set(); // the sides on which the message arrived, or was refused
    this.onEnd = () => {};
    this.cells = {};
    this.element = make("li", "");
    this.#cell("alice's page", "alice", make("span", "bubble", text));
    this.#both("wire", "The wire", "mid onwire");
    this.#hop("↓ Django reads it: it is your server", "↓ Django opens it: it is your server");
    this.#both("redis", "Redis", "mid redis");
    this.#hop("↓ Django hands it on to bob", "↓ Django seals it anew, for bob");
    this.#both("bob", "bob's page", "bob");
  }

  #cell(title, className, ...children) {
    const station = make("div", "station", make("h2", "", title));
    if (className.startsWith("mid")) station.append(make("div", "both", ...chips()));
    this.element.append(make("div", `cell ${className}`, station, ...children));
  }

  #both(name, title, className) {
    const sides = { plain: make("div", "is-plain"), gcrypt: make("div", "is-gcrypt") };
    for (const side of Object.values(sides)) side.append(make("span", "none", "nothing yet"));
    this.cells[name] = sides;
    this.#cell(title, className, make("div", "both", sides.plain, sides.gcrypt));
  }

  #hop(plain, gcrypt) {
    const both = make(
      "div",
      "both",
      make("span", "is-plain", plain),
      make("span", "is-gcrypt", gcrypt),
    );
    this.element.append(make("div", "hop", both));
  }

  #add(cell, side, ...children) {
    const place = this.cells[cell][side];
    place.querySelector(".none")?.remove();
    place.append(...children);
  }

  #end(side) {
    this.ended.add(side);
    if (this.ended.size === 2) this.onEnd();
  }

  /** Wait until the message has arrived or was refused on both sides, or for `limit` milliseconds. */
  complete(limit) {
    return new Promise((resolve) => {
      this.onEnd = resolve;
      setTimeout(resolve, limit);
      if (this.ended.size === 2) resolve();
    });
  }

  /** Show an observation of the server's. */
  observe({ at, side, ...facts }) {
    if (at === "wire" && facts.to === "server" && facts.actor === "alice" && facts.is_text) {
      this.#add(
        "wire",
        side,
        ...(side === "plain" ? this.#plainFrame(facts) : this.#sealedFrame(facts)),
      );
    } else if (
      at === "wire" &&
      facts.to === "client" &&
      facts.actor === "bob" &&
      side === "gcrypt"
    ) {
      if (facts.is_text)
        this.#add("bob", side, make("span", "meta mono", `as ${facts.data.slice(0, 20)}…`));
    } else if (at === "request") {
      const what = make(
        "code",
        "frame",
        make("del", "", facts.was),
        " ",
        make("mark", "", facts.now),
      );
      this.#add("wire", side, what);
    } else if (at === "close" && facts.actor === "alice" && facts.code >= 4000) {
      const word = facts.code === 4401 ? "closed: 4401 logged out" : `refused: close ${facts.code}`;
      this.#add("wire", side, make("span", "stamp", `✕ ${word}`));
      this.#end(side);
    } else if (at === "redis") {
      this.#add("redis", side, ...this.#layerMessage(side, facts));
    } else if (at === "bob") {
      const again = this.cells.bob[side].querySelector(".bubble");
      const strange = facts.message !== this.text || again;
      this.#add("bob", side, make("span", strange ? "bubble got" : "bubble", facts.message), " ");
      this.#end(side);
    }
  }

  #plainFrame({ data }) {
    let words = this.text;
    if (!data.includes(words)) words = JSON.parse(data).message;
    return [
      make("code", "frame", ...marked(data, words)),
      make(
        "span",
        "meta",
        words === this.text ? `text frame, ${data.length} bytes` : "one bit changed",
      ),
    ];
  }

  #sealedFrame({ data }) {
    const bytes = data.length / 2;
    const shown = groups(data.slice(0, 2 * FRAME_BYTES)) + (bytes > FRAME_BYTES ? " …" : "");
    const frame = make("code", "frame hex", shown);
    frame.setAttribute("aria-hidden", "true");
    return [frame, make("span", "meta", `sealed, ${bytes} bytes`)];
  }

  #layerMessage(side, { data, group }) {
    if (side === "plain") {
      const start = Math.max(0, data.indexOf("user") - 4);
      const end = data.indexOf("__asgi_channel__");
      const shown = data.slice(start, end < 0 ? undefined : end).replace(/\\x[0-9a-f]{2}$/, "");
      return [
        make("code", "frame", ...marked(`…${shown}`, this.text)),
        make("span", "meta", `group ${group}`),
      ];
    }
    const frame = make("code", "frame hex", `${data.slice(0, 96)}…`);
    frame.setAttribute("aria-hidden", "true");
    return [frame, make("span", "meta", `group ${group.slice(0, 20)}… (a hash)`)];
  }

  /** Move the message along the rail: readable at the ends and in Django, sealed in between. */
  travel() {
    const rail = document.querySelector(".rail");
    const packet = rail?.querySelector(".packet");
    if (this.calm || !packet || !rail.offsetWidth) return;
    const left = rail.getBoundingClientRect().left;
    const heads = [...document.querySelectorAll(".head")].map((each) =>
      each.getBoundingClientRect(),
    );
    const middle = (head) => head.left - left + head.width / 2;
    const edge = (head) => head.left - left;
    const seals = document.documentElement.dataset.mode === "gcrypt";
    const word = this.text.split(" ").pop().slice(0, 8);
    const stops = [
      [middle(heads[0]), 0, word],
      [edge(heads[1]), 0.14, "9f3c71"],
      [edge(heads[2]), 0.42, word],
      [edge(heads[2]), 0.5, "kQ2vXw"],
      [edge(heads[3]), 0.74, word],
      [edge(heads[3]), 0.82, "d10b88"],
      [middle(heads[3]), 0.96, word],
      [middle(heads[3]), 1, word],
    ];
    for (const animation of packet.getAnimations()) animation.cancel();
    packet.animate(
      stops.map(([x, offset]) => ({ transform: `translateX(${x}px)`, offset, opacity: 1 })),
      { duration: PACKET },
    );
    for (const [, offset, text] of stops) {
      setTimeout(() => {
        packet.textContent = seals ? text : word;
        packet.classList.toggle("sealed", seals && text !== word);
      }, offset * PACKET);
    }
  }
}
