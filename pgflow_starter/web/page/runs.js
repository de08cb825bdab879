// The runs that began last, and where their steps stand.

import { attr, el, fill, heading, icon, pill, say, show } from "./dom.js";
import { ask } from "./live.js";
import { ago, took, whole } from "./times.js";
import { toneOf } from "./tones.js";

const EVERY = 2000;
const COLUMNS = ["Run", "Status", "Began", "Took", "Steps"];

export function runs(section) {
  const count = heading(section, "runs", "Recent runs");
  const problem = el("p", { class: "note", role: "status", hidden: "" });
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...COLUMNS.map((c) => el("th", { scope: "col", role: "columnheader" }, c))));
  const body = el("tbody", { role: "rowgroup" });
  const table = el("table", { class: "runs", role: "table", "aria-labelledby": "runs-title", hidden: "" }, head, body);
  const none = el("p", { class: "none", hidden: "" }, "No runs in this database yet.");
  section.append(problem, table, none);
  let rows = new Map();

  async function refresh() {
    const told = document.hidden ? null : await ask("runs");
    if (told?.runs) set(told);
    setTimeout(refresh, EVERY);
  }

  function set({ runs: items, error, as_of: asOf }) {
    rows = fill(body, items, (run) => run.id, row);
    say(count, items.length || "");
    show(problem, error !== null);
    if (error !== null) say(problem, asOf ? `As they were ${ago(asOf)}: ${error}` : error);
    show(table, items.length > 0);
    show(none, items.length === 0 && error === null && asOf !== null);
  }

  refresh();
  return {
    count,
    tick() {
      for (const each of rows.values()) each.tick();
    },
  };
}

function row() {
  const name = el("span", { class: "name" });
  const id = el("span", { class: "muted id" });
  const status = pill();
  const [began, duration] = [el("td", { role: "cell", class: "began" }), el("td", { role: "cell", class: "number took" })];
  const steps = el("ul", { class: "steps" });
  const node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name, " ", id), el("td", { role: "cell", class: "status" }, status.node), began, duration, el("td", { role: "cell", class: "of-steps" }, steps));
  let run = null;
  return {
    node,
    set(given) {
      run = given;
      say(name, run.flow_slug);
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
  return reason ? `: ${reason.replaceAll("_", " ")}` : "";
}

function counted({ tasks, remaining }) {
  return tasks !== null && remaining !== null && tasks > 1 ? ` ${tasks - remaining} of ${tasks}` : "";
}
