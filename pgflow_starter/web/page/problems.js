// What is wrong, the worst first, and what to do about it. Where nothing is, nothing is here.

import { about } from "./about.js";
import { allowed } from "./actions.js";
import { hrefOf } from "./address.js";
import { asking } from "./asking.js";
import { attr, button, el, fill, heading, pill, say, show } from "./dom.js";
import { shortened } from "./long.js";
import { outdated } from "./outdated.js";
import { ago, number, since, whole } from "./times.js";
import { ended, tryNow } from "./trying.js";

const EVERY = 2;
const FEW = 6;
const BLIND = ["database_away", "not_seen", "missing_grant"];
const RETRIED = ["module_failed", "module_retrying", "missing_grant"];
const OVER = ["schedule_missed"];
const SEVERITY = { bad: ["bad", "problem"], warn: ["warn", "warning"] };

export function problems(section, told) {
  const count = heading(section, "problems", "What is wrong");
  const list = el("ul", { class: "problems" });
  const old = outdated();
  const long = shortened(draw, FEW);
  section.append(old.node, list, long.node);
  let last = { problems: [], error: null };
  let rows = new Map();

  function draw() {
    rows = fill(list, long.cut(numbered(last.problems)), ({ key }) => key, row);
    say(count, number(last.problems.length));
    // That the database says nothing is a problem itself.
    if (!last.problems.some(({ kind }) => BLIND.includes(kind))) old.set(last);
    else show(old.node, false);
    show(section, last.problems.length > 0);
  }

  const look = asking(() => "problems", () => EVERY, (answer) => {
    if (!answer.problems) return;
    last = answer;
    draw();
    told(answer);
  });
  return {
    count,
    again: draw,
    set: (status) => ended(status) && look(),
    tick() {
      for (const each of rows.values()) each.tick();
    },
  };
}

// Each is the first, the second … of its kind: counts and runs change in it while somebody reads and presses.
function numbered(problems) {
  const counts = new Map();
  return problems.map((problem) => {
    const number = counts.get(problem.kind) ?? 0;
    counts.set(problem.kind, number + 1);
    return { problem, key: `${problem.kind} ${number}` };
  });
}

function row() {
  const severity = pill();
  const title = el("h3", { class: "name" });
  const lasting = el("span", { class: "muted" });
  const detail = el("p", { class: "detail" });
  const todo = el("span");
  const next = el("p", { class: "next" }, el("b", {}, "Next: "), todo);
  const more = about();
  const look = el("a", { class: "button" });
  const retry = button("", () => tryNow(problem.link.module, said));
  const said = el("span", { class: "muted", role: "status" });
  const node = el("li", { class: "problem" }, el("header", {}, severity.node, title, lasting), detail, next, el("div", { class: "buttons" }, look, retry, said), ...more.nodes);
  let problem = null;
  return {
    node,
    set({ problem: given }) {
      if (problem?.link?.module !== given.link?.module) say(said, null);
      problem = given;
      const [tone, word] = SEVERITY[problem.severity] ?? SEVERITY.warn;
      attr(node, "data-tone", tone);
      severity.set(tone, word);
      say(title, problem.title);
      spell(detail, problem.detail);
      show(detail, Boolean(problem.detail));
      spell(todo, problem.next);
      const [href, words] = whereTo(problem);
      show(look, href !== null);
      attr(look, "href", href);
      say(look, words);
      show(retry, Boolean(problem.link?.module) && RETRIED.includes(problem.kind) && allowed());
      say(retry, problem.link?.module ? `Try ${problem.link.module} now` : null);
      more.set(problem.more);
      this.tick();
    },
    tick() {
      if (problem === null) return;
      say(lasting, !problem.since ? "" : OVER.includes(problem.kind) ? ago(problem.since) : `for ${since(problem.since)}`);
      lasting.title = problem.since ? `since ${whole(problem.since)}` : "";
    },
  };
}

// What stands between two ` is code.
function spell(node, words) {
  const plain = words.replaceAll("`", "");
  if (node.textContent !== plain) node.replaceChildren(...words.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part)));
}

function whereTo({ kind, link }) {
  if (kind.startsWith("schedule")) return ["#schedules", "Look at the schedule"];
  if (link?.run) return [hrefOf({ run: link.run }), "Look at the run"];
  if (link?.flow) return [hrefOf({ filters: new URLSearchParams({ status: "failed", flow: link.flow }) }), "Its failed runs"];
  if (link?.module) return ["#modules", "Look at the module"];
  if (link?.queue) return ["#queues", "Look at the queue"];
  return [null, "Look"];
}
