// Only what is called so, in all lists of names: with a thousand modules nobody scrolls.

import { el, show } from "./dom.js";

const FEW = 20;
let wanted = "";

export function finder(parent, changed) {
  const input = el("input", { type: "search", id: "find", placeholder: "part of a name", autocomplete: "off", spellcheck: "false" });
  const field = el("label", { class: "field find", hidden: "" }, "Only names with ", input);
  input.addEventListener("input", () => {
    wanted = input.value.trim().toLowerCase();
    changed();
  });
  parent.append(field);
  return { set: (status) => show(field, status.modules.length > FEW || wanted !== "") };
}

export function matches(...names) {
  return wanted === "" || names.some((name) => name?.toLowerCase().includes(wanted));
}

// What an empty list says.
export function noneOf(words) {
  return wanted === "" ? words : `Nothing here has “${wanted}” in its name.`;
}
