// Building and changing the page. Texts go in as texts only, so nothing that a module is called can become markup.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  good: ["M3.5 8.5l3 3 6-7"],
  bad: ["M4 4l8 8", "M12 4l-8 8"],
  warn: ["M13 8a5 5 0 1 1-1.6-3.7", "M13 2.2v2.6h-2.6"],
  busy: ["M5 3.5l7 4.5-7 4.5z"],
  idle: ["M3.5 8h.01", "M8 8h.01", "M12.5 8h.01"],
};

export function el(tag, attributes = {}, ...children) {
  return built(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return built(document.createElementNS(SVG, tag), attributes, children);
}

function built(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) attr(node, name, value);
  node.append(...children);
  return node;
}

export function attr(node, name, value) {
  if (value === null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

export function say(node, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

export function icon(tone) {
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, ...shapeOf(tone));
}

// A tone's lines, in a square of 16.
export function shapeOf(tone) {
  return SHAPES[tone].map((d) => svg("path", { d }));
}

// A word with a colour and a shape that mean the same.
export function pill() {
  const word = el("span");
  const node = el("span", { class: "pill" }, word);
  return {
    node,
    set(tone, text) {
      if (node.dataset.tone !== tone) {
        node.dataset.tone = tone;
        node.replaceChildren(icon(tone), word);
      }
      say(word, text);
    },
  };
}

export function button(words, pressed, attributes = {}) {
  const node = el("button", { type: "button", class: "button", ...attributes }, words);
  node.addEventListener("click", pressed);
  return node;
}

// [table, body]; the roles are said, for the style sheet lays the rows out as it likes.
export function table(className, labelledBy, columns) {
  const names = columns.map((column) => el("th", { scope: "col", role: "columnheader" }, column));
  const body = el("tbody", { role: "rowgroup" });
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...names));
  return [el("table", { class: className, role: "table", "aria-labelledby": labelledBy }, head, body), body];
}

export function cell(className = null) {
  return el("td", { role: "cell", class: className });
}

const rowsOf = new WeakMap();

// Makes the parent's children follow the items: `make()` gives {node, set(item)}, kept for as long as the key is there.
export function fill(parent, items, keyOf, make) {
  const before = rowsOf.get(parent) ?? new Map();
  const after = new Map();
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const row = before.get(key) ?? make(item);
    before.delete(key);
    after.set(key, row);
    row.set(item);
    if (row.node === next) next = next.nextElementSibling;
    else parent.insertBefore(row.node, next);
  }
  for (const row of before.values()) row.node.remove();
  rowsOf.set(parent, after);
  return after;
}

export function heading(section, id, text) {
  const count = el("span", { class: "count" });
  const title = el("h2", { id: `${id}-title` }, text, " ", count);
  section.append(title);
  return count;
}
