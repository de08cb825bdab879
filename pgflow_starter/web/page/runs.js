// Runs, the newest first, and where their steps stand: those that the filter lets through, page by page.

import { go, hrefOf, onMove, place } from "./address.js";
import { asking } from "./asking.js";
import { attr, button, cell, el, fill, heading, icon, pill, say, show, table } from "./dom.js";
import { filter } from "./filter.js";
import { outdated } from "./outdated.js";
import { ago, took, whole } from "./times.js";
import { toneOf, whySkipped } from "./tones.js";

const EVERY = 2;
const COLUMNS = ["Run", "Status", "Began", "Took", "Steps"];

export function runs(section, looking) {
  const count = heading(section, "runs", "Runs");
  const choice = filter();
  const old = outdated();
  const [node, body] = table("runs", "runs-title", COLUMNS);
  const none = el("p", { class: "none", hidden: "" });
  const newest = button("Newest", () => turn(null));
  const older = button("Older", () => turn(next));
  section.append(choice.node, old.node, node, none, el("div", { class: "buttons paging" }, newest, older));
  show(node, false);
  let rows = new Map();
  let next = null;

  function turn(after) {
    const { filters } = place();
    filters.delete("after");
    if (after !== null) filters.append("after", after);
    go({ filters });
    section.scrollIntoView();
  }

  function set({ runs: items, error, reason, as_of: asOf, next: further = null }) {
    if (items === undefined && reason !== undefined) return; // the starter has ended: what was last known stays
    if (items === undefined) return refused(error);
    const { filters } = place();
    rows = fill(body, items, (run) => run.id, row);
    next = further;
    say(count, items.length ? `${items.length}${next ? " and more" : ""}` : "");
    old.set({ error, as_of: asOf });
    show(node, items.length > 0);
    show(none, items.length === 0 && error === null && asOf !== null);
    say(none, next ? "None of the runs that were looked at is so: Older goes on with those before." : filters.size ? "No run is so." : "No runs in this database yet.");
    attr(section, "aria-busy", null);
    show(older, next !== null);
    show(newest, filters.has("after"));
  }

  // Somebody has written into the address what no filter is.
  function refused(error) {
    old.say(`These runs cannot be listed: ${error}`);
    for (const each of [node, none, older, newest]) show(each, false);
  }

  const again = asking(() => (looking() ? path() : null), () => EVERY, set);
  onMove(() => {
    attr(section, "aria-busy", "true");
    again();
  });
  show(older, false);
  show(newest, false);
  return {
    count,
    set: (status) => choice.know(status.flows.map((flow) => flow.slug)),
    tick() {
      for (const each of rows.values()) each.tick();
    },
  };
}

function path() {
  const { filters } = place();
  return filters.size ? `runs?${filters}` : "runs";
}

function row() {
  const name = el("a", { class: "name" });
  const id = el("span", { class: "muted id" });
  const status = pill();
  const [began, duration] = [cell("began"), cell("number took")];
  const steps = el("ul", { class: "steps" });
  const node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name, " ", id), el("td", { role: "cell", class: "status" }, status.node), began, duration, el("td", { role: "cell", class: "of-steps" }, steps));
  let run = null;
  return {
    node,
    set(given) {
      run = given;
      say(name, run.flow_slug);
      attr(name, "href", hrefOf({ run: run.id, filters: place().filters }));
      say(id, run.id.slice(0, 8));
      id.title = run.id;
      status.set(toneOf(run.status), run.status);
      began.title = [run.started_at ? whole(run.started_at) : "", ...run.notes].join("\n").trim();
      say(duration, run.started_at && run.ended_at ? took(run.started_at, run.ended_at) : "");
      fill(steps, run.steps, (step) => step.slug, chip);
      this.tick();
    },
    tick() {
      if (run !== null) say(began, run.started_at ? ago(run.started_at) : "unknown");
    },
  };
}

function chip() {
  const shape = el("span");
  const name = el("span", { class: "name" });
  const word = el("span");
  const rest = el("span");
  const node = el("li", {}, shape, name, word, rest);
  return {
    node,
    set(step) {
      const tone = toneOf(step.status);
      if (node.dataset.tone !== tone) {
        attr(node, "data-tone", tone);
        shape.replaceChildren(icon(tone));
      }
      say(name, step.slug);
      say(word, ` ${step.status}`);
      // The shape says the rest of them; a word in each would drown the few that matter.
      attr(word, "class", step.status === "failed" || step.status === "skipped" ? null : "unseen");
      say(rest, counted(step));
      node.title = `${step.slug} ${step.status}${counted(step)}${because(step)}`;
    },
  };
}

function because({ reason }) {
  return reason ? `: ${whySkipped(reason)}` : "";
}

function counted({ tasks, remaining }) {
  return tasks !== null && remaining !== null && tasks > 1 ? ` ${tasks - remaining} of ${tasks}` : "";
}
