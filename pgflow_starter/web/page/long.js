// A long list begins short, so that what comes after it is found: its first items, and a button for the rest.

import { attr, button, say, show } from "./dom.js";
import { number } from "./times.js";

const SHORT = 20;

// `again` draws the list anew. `cut(items)` gives those that are to be drawn.
export function shortened(again, first = SHORT) {
  let all = false;
  const node = button("", () => {
    all = !all;
    again();
  }, { class: "button more", hidden: "" });
  return {
    node,
    cut(items) {
      show(node, items.length > first);
      attr(node, "aria-expanded", all);
      say(node, all ? `Show the first ${first} only` : `Show all ${number(items.length)}`);
      return all ? items : items.slice(0, first);
    },
  };
}
