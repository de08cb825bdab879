// What the tasks of a run failed with: what many failed with is said once.

import { attr, el, fill, say, show } from "./dom.js";
import { shortened } from "./long.js";
import { plural } from "./times.js";

const FEW = 6;

export function errors() {
  const list = el("ul", { class: "errors" });
  const long = shortened(draw, FEW);
  const node = el("section", { "aria-labelledby": "errors-title" }, el("h3", { id: "errors-title" }, "What went wrong"), list, long.node);
  let found = [];

  function draw() {
    fill(list, long.cut(found), (group) => group.key, (group) => row(group === found[0]));
    show(node, found.length > 0);
  }

  return {
    node,
    set(run) {
      found = grouped(run.tasks);
      draw();
    },
  };
}

function grouped(tasks) {
  const groups = new Map();
  for (const task of tasks) {
    if (!task.error) continue;
    const key = JSON.stringify([task.step, task.error]);
    const group = groups.get(key) ?? { key, step: task.step, error: task.error, tasks: [], traceback: task.traceback };
    group.tasks.push(task);
    groups.set(key, group);
  }
  const last = (group) => group.tasks.some((task) => task.status === "failed");
  return [...groups.values()].sort((a, b) => last(b) - last(a) || b.tasks.length - a.tasks.length);
}

function row(open) {
  const step = el("b");
  const error = el("p", { class: "reason" });
  const where = el("p", { class: "muted" });
  const trace = el("pre", { tabindex: "0", "aria-label": "Traceback" });
  const details = el("details", { open }, el("summary", {}, "Traceback"), trace);
  const node = el("li", { class: "error" }, error, where, details);
  return {
    node,
    set(group) {
      const failed = group.tasks.filter((task) => task.status === "failed");
      attr(node, "data-tone", failed.length ? "bad" : "warn");
      say(step, group.step);
      say(error, group.error);
      where.replaceChildren("in ", step, `: ${told(group, failed)}`);
      say(trace, group.traceback);
      show(details, Boolean(group.traceback));
    },
  };
}

function told({ tasks }, failed) {
  const attempts = Math.max(...tasks.map((task) => task.attempts));
  const tries = `${tasks.length > 1 ? "up to " : ""}${plural(attempts, "attempt")}`;
  if (tasks.length === 1) return failed.length ? `failed after ${tries}` : `${tasks[0].status} at last, ${tries}`;
  const which = tasks.slice(0, 3).map((task) => task.index).join(", ");
  return `${plural(tasks.length, "task")} (${which}${tasks.length > 3 ? ", …" : ""}), ${failed.length} failed, ${tries}`;
}
