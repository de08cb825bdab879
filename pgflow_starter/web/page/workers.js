// The workers: what they run, and what they have done.

import { attr, el, fill, heading, pill, say, show, table } from "./dom.js";
import { matches, noneOf } from "./find.js";
import { shortened } from "./long.js";
import { number, timeOfDay } from "./times.js";

const COLUMNS = ["Worker", "State", "Tasks running", "Tasks done", "Failed attempts", "Notes"];

export function workers(section) {
  const count = heading(section, "workers", "Workers");
  const [node, body] = table("workers", "workers-title", COLUMNS);
  const none = el("p", { class: "none", hidden: "" });
  const long = shortened(draw);
  section.append(node, none, long.node);
  let all = [];

  function draw() {
    const items = all.filter((worker) => matches(worker.slug)).sort((a, b) => gravity(b) - gravity(a));
    fill(body, long.cut(items), (worker) => worker.slug, row);
    say(count, number(all.length));
    say(none, noneOf("None yet: a worker starts when its module registers."));
    show(node, items.length > 0);
    show(none, items.length === 0);
  }

  return {
    count,
    again: draw,
    set(status) {
      all = status.workers;
      draw();
    },
  };
}

function row() {
  const name = el("span", { class: "name" });
  const state = pill();
  const level = el("span", { class: "level" });
  const running = el("span");
  const [done, failed, notes] = ["number", "number", "notes"].map((c) => el("td", { role: "cell", class: c }));
  const node = el(
    "tr",
    { role: "row" },
    el("th", { scope: "row", role: "rowheader" }, name),
    el("td", { role: "cell", class: "status" }, state.node),
    el("td", { role: "cell", class: "running" }, el("span", { class: "meter", "aria-hidden": "true" }, level), running),
    done,
    failed,
    notes,
  );
  let width = 0;
  level.style.setProperty("width", "0%");
  return {
    node,
    set(worker) {
      say(name, worker.slug);
      name.title = `worker ${worker.worker_id}`;
      state.set(...stateOf(worker));
      attr(node, "data-tone", worker.lost || worker.trouble?.scope === "all" ? "bad" : null);
      const wanted = (100 * Math.min(worker.running, worker.slots)) / Math.max(1, worker.slots);
      if (wanted !== width) {
        width = wanted;
        level.style.setProperty("width", `${width}%`);
      }
      say(running, `${worker.running} of ${worker.slots} running`);
      say(done, `${number(worker.completed)} done`);
      say(failed, `${number(worker.failed)} failed`);
      attr(failed, "data-some", worker.failed > 0 ? "" : null);
      const said = [];
      if (worker.unwritten) said.push(`${number(worker.unwritten)} done but not written yet: the database has to take them`);
      if (worker.abandoned) said.push(`${number(worker.abandoned)} given up, still holding a thread`);
      if (worker.trouble) said.push(`in trouble since ${timeOfDay(worker.trouble.since)}: ${worker.trouble.reason}`);
      if (worker.lost) said.push("its module registers again");
      say(notes, said.join("; "));
      show(notes, said.length > 0);
    },
  };
}

// The graver, the further up.
function gravity(worker) {
  return worker.lost ? 3 : worker.trouble ? (worker.trouble.scope === "all" ? 2 : 1) : 0;
}

function stateOf(worker) {
  if (worker.lost) return ["bad", "lost"];
  if (worker.trouble?.scope === "all") return ["bad", "can do no work"];
  if (worker.draining) return ["warn", worker.alive ? "draining" : "retired"];
  return worker.running ? ["busy", "working"] : ["good", "idle"];
}
