// The workers of all processes, by flow: this one's, other machines', and those that died lately.

import { asking } from "./asking.js";
import { el, fill, heading, pill, say, show } from "./dom.js";
import { matches, noneOf } from "./find.js";
import { shortened } from "./long.js";
import { outdated } from "./outdated.js";
import { ago, number, whole } from "./times.js";

const EVERY = 5;

export function processes(section, looking) {
  const count = heading(section, "processes", "Workers of all processes");
  const old = outdated();
  const list = el("ul", { class: "processes" });
  const none = el("p", { class: "none", hidden: "" });
  const long = shortened(draw);
  section.append(old.node, list, none, long.node);
  let told = { workers: [], error: null, as_of: null };

  function draw() {
    const flows = byFlow(told.workers.filter((worker) => matches(worker.flow_slug, worker.worker_id)));
    fill(list, long.cut(flows), (flow) => flow.slug, branch);
    say(count, number(told.workers.length));
    say(none, noneOf("No worker has registered in this database yet."));
    show(none, flows.length === 0 && told.as_of !== null);
    old.set(told, "nothing newer is known.");
    show(section, told.workers.length > 0);
  }

  asking(() => (looking() ? "workers" : null), () => EVERY, (answer) => {
    if (!answer.workers) return;
    told = answer;
    draw();
  });
  return { count, again: draw };
}

// {slug, workers}: those first of which a worker is dead.
function byFlow(workers) {
  const found = new Map();
  for (const worker of workers) found.set(worker.flow_slug, [...(found.get(worker.flow_slug) ?? []), worker]);
  const flows = [...found].map(([slug, those]) => ({ slug, workers: those.sort((a, b) => (a.started_at < b.started_at ? 1 : -1)) }));
  return flows.sort((a, b) => dead(b).length - dead(a).length || (a.slug < b.slug ? -1 : 1));
}

function dead({ workers }) {
  return workers.filter((worker) => !worker.alive && worker.deprecated_at === null);
}

function branch() {
  const name = el("span", { class: "name" });
  const told = el("span", { class: "muted" });
  const state = pill();
  const list = el("ul");
  const node = el("li", {}, el("details", {}, el("summary", { class: "member" }, name, told, state.node), list));
  return {
    node,
    set(flow) {
      const [alive, lost] = [flow.workers.filter((worker) => worker.alive), dead(flow)];
      const here = alive.filter((worker) => worker.here).length;
      say(name, flow.slug);
      say(told, here === alive.length ? "" : here ? `${here} here` : "none here");
      state.set(...(lost.length ? ["bad", `${alive.length} alive, ${lost.length} dead`] : alive.length ? ["good", `${alive.length} alive`] : ["idle", "none alive"]));
      fill(list, flow.workers, (worker) => worker.worker_id, leaf);
    },
  };
}

function leaf() {
  const state = pill();
  const id = el("span", { class: "id" });
  const facts = el("span", { class: "muted" });
  return {
    node: el("li", { class: "process" }, state.node, id, facts),
    set(worker) {
      state.set(...stateOf(worker));
      say(id, worker.worker_id.slice(0, 8));
      id.title = `worker ${worker.worker_id}, function ${worker.function_name}`;
      const times = [["began", worker.started_at], ["heard of", worker.last_heartbeat_at]].filter(([, at]) => at !== null);
      say(facts, [worker.here ? "in this process" : "elsewhere", ...times.map(([word, at]) => `${word} ${ago(at)}`)].join(", "));
      facts.title = times.map(([word, at]) => `${word} ${whole(at)}`).join(", ");
    },
  };
}

function stateOf({ alive, deprecated_at: deprecated }) {
  if (alive) return deprecated ? ["warn", "told to stop"] : ["good", "alive"];
  return deprecated ? ["idle", "retired"] : ["bad", "dead"];
}
