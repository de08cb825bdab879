// The steps of a run and their tasks: when each waited, when it worked, how often it was tried.

import { attr, cell, el, fill, pill, say, show, table } from "./dom.js";
import { lasted, now, number, plural, secondsUntil, span, took, whole } from "./times.js";
import { toneOf, whySkipped } from "./tones.js";

const COLUMNS = ["Step", "Status", "Attempts", "Took", "Waited and worked"];

export function timeline() {
  const [node, body] = table("timeline", "steps-title", COLUMNS);
  const more = el("p", { class: "muted", hidden: "" });
  const scale = el("p", { class: "muted scale" });
  const section = el("section", { "aria-labelledby": "steps-title" }, el("h3", { id: "steps-title" }, "Steps"), scale, node, more);
  let run = null;
  let rows = new Map();

  function draw() {
    const from = Date.parse(run.started_at ?? "") || now();
    const to = Math.max(run.ended_at ? Date.parse(run.ended_at) : now(), from + 1);
    const place = (at) => Math.min(100, Math.max(0, (100 * (Date.parse(at) - from)) / (to - from)));
    for (const each of rows.values()) each.draw(place);
    say(scale, `Thin: waited, put off, or tried before. Thick: the last attempt. The whole line is ${lasted(from, to)}.`);
  }

  return {
    node: section,
    set(given, left) {
      run = given;
      const tasks = Map.groupBy(run.tasks, (task) => task.step);
      rows = fill(body, run.steps.map((step) => ({ step, tasks: tasks.get(step.slug) ?? [] })), ({ step }) => step.slug, row);
      show(more, left > 0);
      say(more, `${plural(left, "further task")} of this run ${left === 1 ? "is" : "are"} not shown; the command line's runs show lists all.`);
      draw();
    },
    tick: () => run !== null && !run.ended_at && draw(),
  };
}

function row() {
  const name = el("span", { class: "name" });
  const why = el("span", { class: "muted" });
  const state = pill();
  const [attempts, time] = [cell("muted"), cell("muted number")];
  const bars = bar();
  const list = el("ul", { tabindex: "0", "aria-label": "Tasks" });
  const summary = el("summary");
  const details = el("details", {}, summary, list);
  const below = el("td", { role: "cell", class: "tasks" }, details);
  const node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name, " ", why), el("td", { role: "cell", class: "status" }, state.node), attempts, time, el("td", { role: "cell", class: "bars" }, bars.node), below);
  let leaves = new Map();
  let shown = null;
  let last = null;
  details.addEventListener("toggle", () => drawLeaves());

  function drawLeaves() {
    if (details.open && last !== null) for (const each of leaves.values()) each.draw(last);
  }

  return {
    node,
    set({ step, tasks }) {
      const one = step.tasks === 1 && tasks.length === 1 ? tasks[0] : null;
      shown = { step, one };
      attr(node, "data-tone", toneOf(step.status));
      say(name, step.slug);
      say(why, noted(step, tasks, one));
      state.set(toneOf(step.status), step.status);
      say(attempts, told(step, tasks));
      say(time, step.started_at && step.ended_at ? took(step.started_at, step.ended_at) : "");
      show(below, tasks.length > 0 && one === null);
      say(summary, words(tasks));
      if (one === null) {
        const order = [...tasks].sort((a, b) => rank(a) - rank(b) || a.index - b.index);
        leaves = fill(list, order, (task) => task.index, leaf);
      }
    },
    draw(place) {
      const { step, one } = shown;
      bars.draw(place, one ?? { queued_at: step.started_at, started_at: step.started_at, ended_at: step.ended_at, status: step.status });
      last = place;
      drawLeaves();
    },
  };
}

function leaf() {
  const state = pill();
  const name = el("span", { class: "number" });
  const facts = el("span", { class: "muted" });
  const bars = bar();
  let shown = null;
  return {
    node: el("li", {}, name, state.node, facts, bars.node),
    set(task) {
      shown = task;
      say(name, task.index);
      state.set(toneOf(task.status), task.status);
      const said = [plural(task.attempts, "attempt"), later(task)];
      if (task.started_at && task.ended_at) said.push(took(task.started_at, task.ended_at));
      if (task.worker) said.push(`worker ${task.worker.slice(0, 8)}`);
      say(facts, said.filter(Boolean).join(", "));
    },
    draw: (place) => bars.draw(place, shown),
  };
}

// Two lengths in a line: what is before the last attempt, and that attempt.
function bar() {
  const [wait, work] = [el("span", { class: "wait" }), el("span", { class: "work" })];
  const node = el("div", { class: "bar", "aria-hidden": "true" }, wait, work);
  const lay = (part, from, to) => {
    part.style.setProperty("left", `${from.toFixed(2)}%`);
    part.style.setProperty("width", `${Math.max(0, to - from).toFixed(2)}%`);
  };
  return {
    node,
    draw(place, { queued_at: queued, started_at: started, ended_at: ended, status }) {
      const end = ended ? place(ended) : 100;
      const began = started ? place(started) : end;
      const untouched = status === "created" || status === "skipped" || (!queued && !started);
      show(wait, !untouched && Boolean(queued));
      show(work, !untouched && Boolean(started));
      attr(node, "data-tone", toneOf(status));
      if (queued) lay(wait, place(queued), began);
      if (started) lay(work, began, end);
      node.title = [["queued", queued], ["began", started], ["ended", ended]].filter(([, at]) => at).map(([word, at]) => `${word} ${whole(at)}`).join("\n");
    },
  };
}

// What is not told elsewhere: the tasks' own errors stand above.
function noted(step, tasks, one) {
  if (step.reason) return `skipped: ${whySkipped(step.reason)}`;
  if (step.error && !tasks.some((task) => task.error)) return step.error;
  return one ? later(one) : "";
}

function told(step, tasks) {
  const most = Math.max(0, ...tasks.map((task) => task.attempts));
  const done = step.tasks > 1 && step.remaining !== null ? `${number(step.tasks - step.remaining)} of ${number(step.tasks)}, ` : "";
  return most ? `${done}${step.tasks > 1 ? "up to " : ""}${plural(most, "attempt")}` : done.replace(/, $/, "");
}

// A task that is tried later, or was put off.
function later({ status, visible_at: at }) {
  const seconds = status === "queued" && at ? secondsUntil(at) : 0;
  return seconds > 1 ? `again in ${span(seconds)}` : "";
}

function words(tasks) {
  const counts = [...Map.groupBy([...tasks].sort((a, b) => rank(a) - rank(b)), (task) => task.status)];
  return `${plural(tasks.length, "task")}: ${counts.map(([status, those]) => `${number(those.length)} ${status}`).join(", ")}`;
}

function rank({ status }) {
  return ["failed", "started", "queued"].indexOf(status) + 1 || 9;
}
