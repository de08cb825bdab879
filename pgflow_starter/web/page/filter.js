// Which runs are listed: by status, flow, time and id. What is chosen stands in the address.

import { go, onMove, place } from "./address.js";
import { attr, button, el, fill, show } from "./dom.js";
import { now } from "./times.js";

const STATUSES = [["", "All"], ["failed", "Failed"], ["started", "Started"], ["completed", "Completed"]];
const LATELY = [["Last hour", 1], ["Last 12 hours", 12], ["Last 7 days", 168]];
const ID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";

export function filter() {
  const statuses = STATUSES.map(([status, word]) => button(word, () => change({ status }), { class: "button choice" }));
  const slugs = el("datalist", { id: "slugs" });
  const flow = field("Flow", { type: "text", list: "slugs", placeholder: "any", autocomplete: "off", spellcheck: "false", maxlength: "128" }, "flow");
  const since = field("From", { type: "datetime-local" }, "since", fromLocal);
  const until = field("Until", { type: "datetime-local" }, "until", fromLocal);
  const id = field("Run id", { type: "text", placeholder: "any", autocomplete: "off", spellcheck: "false", pattern: ID, title: "the whole id of a run, 36 characters" }, "id");
  const lately = LATELY.map(([word, hours]) => button(word, () => change({ since: new Date(now() - 3600000 * hours).toISOString().slice(0, 16) + "Z", until: "" })));
  const further = el("details", { class: "further" }, el("summary", {}, "Time and id"), el("div", { class: "fields" }, since.node, until.node, id.node, el("div", { class: "buttons" }, ...lately)));
  const clear = button("Clear", () => go({}), { class: "button", hidden: "" });
  const node = el("div", { class: "filter", role: "search", "aria-label": "Which runs" }, el("div", { class: "choices", role: "group", "aria-label": "Status" }, ...statuses), flow.node, clear, further, slugs);

  function shown() {
    const { filters } = place();
    const status = filters.getAll("status").join();
    STATUSES.forEach(([value], index) => attr(statuses[index], "aria-pressed", value === status));
    flow.put(filters.get("flow"));
    since.put(toLocal(filters.get("since")));
    until.put(toLocal(filters.get("until")));
    id.put(filters.get("id"));
    if (["since", "until", "id"].some((word) => filters.has(word))) further.open = true;
    show(clear, [...filters.keys()].some((word) => word !== "after"));
  }

  onMove(shown);
  shown();
  return {
    node,
    know: (names) => fill(slugs, names, (name) => name, option),
  };
}

// Any change begins at the newest run again.
function change(words) {
  const { filters } = place();
  filters.delete("after");
  for (const [word, value] of Object.entries(words)) {
    filters.delete(word);
    if (value) filters.append(word, value);
  }
  go({ filters });
}

function field(name, attributes, word, read = (text) => text.trim()) {
  const input = el("input", attributes);
  input.addEventListener("change", () => input.reportValidity() && change({ [word]: read(input.value) }));
  return {
    node: el("label", { class: "field" }, name, " ", input),
    put(text) {
      if (document.activeElement !== input || text) input.value = text ?? "";
    },
  };
}

// The reader's own time in the field, UTC in the address.
function fromLocal(text) {
  return text ? new Date(text).toISOString() : "";
}

function toLocal(iso) {
  const at = Date.parse(iso ?? "");
  return Number.isNaN(at) ? "" : new Date(at - 60000 * new Date(at).getTimezoneOffset()).toISOString().slice(0, 16);
}

function option() {
  const node = el("option");
  return { node, set: (name) => attr(node, "value", name) };
}
