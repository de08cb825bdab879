// The line above a list that says why there is nothing newer. Of an answer that is a moment old nothing is said.

import { el, say, show } from "./dom.js";
import { ago, secondsUntil } from "./times.js";

const FRESH = 5; // seconds

export function outdated() {
  const node = el("p", { class: "note", role: "status", hidden: "" });
  return {
    node,
    // `why` instead of the whole error, where that stands elsewhere on the page.
    set({ error, as_of: asOf }, why = error) {
      const old = asOf === null || secondsUntil(asOf) < -FRESH;
      show(node, error !== null && old);
      if (error !== null) say(node, asOf ? `As it was ${ago(asOf)}: ${why}` : why);
    },
    say(words) {
      show(node, true);
      say(node, words);
    },
  };
}
