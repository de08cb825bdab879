// Each flow's graph. A job is one step: its name says it all.

import { attr, el, fill, heading, pill, say, show } from "./dom.js";
import { matches, noneOf } from "./find.js";
import { drawn, easel } from "./graph.js";
import { shortened } from "./long.js";
import { number, plural } from "./times.js";
import { MODULE } from "./tones.js";

export function flows(section) {
  const count = heading(section, "flows", "Flows");
  const graphs = el("div", { class: "flows" });
  const jobs = el("p", { class: "jobs" });
  const none = el("p", { class: "none" });
  const long = shortened(draw);
  section.append(graphs, jobs, none, long.node);
  let last = { modules: [], flows: [] };

  function draw() {
    const states = new Map(last.modules.filter((m) => m.slug).map((m) => [m.slug, m.status]));
    const found = last.flows.filter((flow) => matches(flow.slug));
    const items = found.filter((flow) => flow.kind === "flow").map((flow) => ({ flow, state: states.get(flow.slug) }));
    const single = found.filter((flow) => flow.kind !== "flow").map((flow) => flow.slug);
    fill(graphs, long.cut(items), ({ flow }) => flow.slug, card);
    say(jobs, single.length ? `Jobs, of one step each: ${single.join(", ")}` : "");
    say(count, number(last.flows.filter((flow) => flow.kind === "flow").length));
    say(none, noneOf("None yet: a flow is known when its module's first phase is over."));
    show(graphs, items.length > 0);
    show(jobs, single.length > 0);
    show(none, found.length === 0);
  }

  return {
    count,
    again: draw,
    set(status) {
      last = status;
      draw();
    },
  };
}

function card() {
  const name = el("h3", { class: "name" });
  const size = el("span", { class: "muted" });
  const state = pill();
  const canvas = easel("Graph");
  const node = el("article", { class: "flow" }, el("header", {}, name, size, state.node), canvas);
  let shape = "";
  return {
    node,
    set({ flow, state: status }) {
      show(state.node, status !== undefined && status !== "succeeded");
      if (status !== undefined) state.set(...MODULE[status]);
      const wanted = JSON.stringify(flow);
      if (wanted === shape) return;
      shape = wanted;
      say(name, flow.slug);
      say(size, plural(flow.steps.length, "step"));
      attr(canvas, "aria-label", `Graph of ${flow.slug}`);
      canvas.replaceChildren(drawn(flow));
    },
  };
}
