// What the documentation says of a problem, opened below it and asked for then: where to read on, when one cannot.

import { el, say, show } from "./dom.js";
import { ask } from "./live.js";

const SECTION = "docs/troubleshooting.md#";

export function about() {
  const words = el("summary", {}, "About it");
  const body = el("div", { class: "section" });
  const node = el("details", { class: "about" }, words, body);
  const elsewhere = el("p", { class: "muted" });
  let place = null;
  let there = null; // of which place the body tells

  async function read() {
    if (!node.open || there === place) return;
    const wanted = place;
    const found = await ask(`sections/${encodeURIComponent(wanted.slice(SECTION.length))}`);
    if (wanted !== place) return;
    there = found?.parts ? wanted : null;
    body.replaceChildren(...(found?.parts ?? []).map(part), el("p", { class: "muted" }, `In the documentation: ${wanted}`));
  }

  node.addEventListener("toggle", read);
  return {
    nodes: [node, elsewhere],
    set(given) {
      const here = Boolean(given?.startsWith(SECTION));
      show(node, here);
      show(elsewhere, Boolean(given) && !here);
      say(elsewhere, given ? `More in the documentation: ${given}` : "");
      if (given === place) return;
      place = given;
      node.open = false;
      body.replaceChildren();
      there = null;
      if (here) say(words, `About “${given.slice(SECTION.length).replaceAll("-", " ")}”: how to make sure, and what to do`);
    },
  };
}

function part({ code, text }) {
  if (code) return el("pre", { tabindex: "0", "aria-label": "To be copied" }, text);
  return el("p", {}, ...spelled(text));
}

// What stands between two ` is code, and between two ** strong.
function spelled(words) {
  return words.split(/(`[^`]*`|\*\*.*?\*\*)/).map((each) => {
    if (each.startsWith("`")) return el("code", {}, each.slice(1, -1));
    return each.startsWith("**") ? el("strong", {}, each.slice(2, -2)) : each;
  });
}
