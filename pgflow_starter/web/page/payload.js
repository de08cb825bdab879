// What a run was given and what it returned, where the server tells it at all.

import { el, say, show } from "./dom.js";

export function payload() {
  const [input, output] = ["Input", "Output"].map((name) => el("pre", { tabindex: "0", "aria-label": name }));
  const node = el("div", { class: "payloads" }, el("details", {}, el("summary", {}, "Input"), input), el("details", {}, el("summary", {}, "Output"), output));
  return {
    node,
    set(payloads) {
      show(node, payloads !== null);
      say(input, payloads && (payloads.input ?? "none"));
      say(output, payloads && (payloads.output ?? "none"));
    },
  };
}
