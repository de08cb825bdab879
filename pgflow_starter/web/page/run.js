// One run by itself: where it stands, what went wrong, what each step did and when.

import { act, allowed, confirmed } from "./actions.js";
import { hrefOf, place } from "./address.js";
import { asking } from "./asking.js";
import { attr, button, el, pill, say, show } from "./dom.js";
import { errors } from "./errors.js";
import { drawn, easel } from "./graph.js";
import { payload } from "./payload.js";
import { outdated } from "./outdated.js";
import { timeline } from "./timeline.js";
import { ago, since, took, whole } from "./times.js";
import { toneOf } from "./tones.js";

const EVERY = 2;
const SELDOM = 15; // a run that has ended changes no more, unless somebody deletes it
const DEEDS = {
  rerun: ["Run again", "Run it again?", "A new run of the same flow begins with the same input. This one stays as it is."],
  cancel: ["Cancel", "Cancel this run?", "The run fails. Its waiting tasks are not started, and those at work are told to stop. It cannot be undone."],
};

export function run(section) {
  const back = el("a", { class: "back" }, "‹ All runs");
  const title = el("h2", { id: "run-title", tabindex: "-1" }, "Run");
  const state = pill();
  const id = el("span", { class: "id" });
  const old = outdated();
  const facts = el("dl", { class: "facts" });
  const told = Object.fromEntries(["Began", "Took", "Rerun of", "Trace"].map((name) => [name, fact(facts, name)]));
  const deeds = Object.fromEntries(Object.entries(DEEDS).map(([what, [word]]) => [what, button(word, () => ask(what))]));
  const done = el("p", { class: "done", role: "status" });
  const failure = el("p", { class: "failure" });
  const canvas = easel("Graph of the run");
  const [wrong, steps, payloads] = [errors(), timeline(), payload()];
  const body = el("div", { class: "whole" }, facts, el("div", { class: "buttons" }, ...Object.values(deeds)), done, failure, wrong.node, canvas, steps.node, payloads.node);
  section.append(back, el("header", {}, title, state.node, id), old.node, body);
  let wanted = null;
  let given = null;
  let drawnFor = "";

  const again = asking(() => (wanted === null ? null : `runs/${encodeURIComponent(wanted)}`), () => (given?.ended_at ? SELDOM : EVERY), set);

  function set({ run: found, error, as_of: asOf = null, reason }) {
    if (reason !== undefined) return; // the starter has ended: what was last known stays
    old.set({ error, as_of: asOf });
    if (!found) {
      if (given === null) state.set("idle", "not known");
      return;
    }
    given = found;
    show(body, true);
    say(title, given.flow_slug);
    state.set(toneOf(given.status), given.status);
    say(id, given.id);
    say(failure, given.error);
    show(failure, Boolean(given.error) && !given.tasks.some((task) => task.status === "failed" && task.error));
    link(told["Rerun of"], given.rerun_of && hrefOf({ run: given.rerun_of }), given.rerun_of?.slice(0, 8));
    link(told.Trace, given.trace_url, "Open the trace");
    for (const [what, each] of Object.entries(deeds)) show(each, allowed() && given.actions.includes(what));
    graph();
    wrong.set(given);
    steps.set(given, given.more_tasks);
    payloads.set(given.payloads ?? null);
    tick();
  }

  function graph() {
    const states = new Map(given.steps.map((step) => [step.slug, { tone: toneOf(step.status), words: inWords(step) }]));
    const wants = JSON.stringify([...states]);
    if (wants === drawnFor || given.steps.length === 0) return;
    drawnFor = wants;
    const shape = given.steps.map(({ slug, type, depends_on }) => ({ slug, kind: type, depends_on }));
    canvas.replaceChildren(drawn({ slug: given.flow_slug, steps: shape }, states));
  }

  async function ask(what) {
    const [word, question, consequence] = DEEDS[what];
    if (!(await confirmed(question, `${given.flow_slug}, run ${given.id}. ${consequence}`, word))) return;
    const answer = await act(what, { run: given.id });
    const fresh = answer.new_run ?? null;
    if (answer.error) done.replaceChildren(`Not done: ${answer.error}`);
    else if (fresh) done.replaceChildren("It runs again, as ", el("a", { href: hrefOf({ run: fresh }) }, fresh), ".");
    else done.replaceChildren("Done.");
  }

  function tick() {
    if (given === null) return;
    say(told.Began, given.started_at ? ago(given.started_at) : "unknown");
    told.Began.title = given.started_at ? whole(given.started_at) : "";
    say(told.Took, !given.started_at ? "" : given.ended_at ? took(given.started_at, given.ended_at) : `${since(given.started_at)} so far`);
    steps.tick();
  }

  return {
    // Shows that run, or none with null.
    open(run) {
      attr(back, "href", hrefOf({ filters: place().filters }));
      say(back, place().filters.size ? "‹ The runs that were filtered" : "‹ All runs");
      if (wanted === run) return;
      [wanted, given, drawnFor] = [run, null, ""];
      say(title, "Run");
      say(id, run);
      state.set("idle", "asking");
      show(body, false);
      show(old.node, false);
      done.replaceChildren();
      again();
      if (run !== null) title.focus();
    },
    title: () => (given === null ? "Run" : `${given.flow_slug} ${given.status}`),
    tick,
  };
}

function fact(list, name) {
  const value = el("dd");
  list.append(el("div", {}, el("dt", {}, name), value));
  return value;
}

function link(at, href, words) {
  show(at.parentElement, Boolean(href));
  if (href && at.firstChild?.getAttribute("href") !== href) at.replaceChildren(el("a", { href, rel: "noreferrer" }, words));
}

function inWords({ status, tasks, remaining }) {
  return tasks > 1 && remaining !== null ? `${status}, ${tasks - remaining} of ${tasks}` : status;
}
