// The queues: what waits, for how long, and how the last hour went.

import { asking } from "./asking.js";
import { cell, el, fill, heading, say, show, table } from "./dom.js";
import { matches, noneOf } from "./find.js";
import { shortened } from "./long.js";
import { outdated } from "./outdated.js";
import { folded, most, plot, sum } from "./plot.js";
import { number, span } from "./times.js";

const EVERY = 5;
const COLUMNS = ["Queue", "Now", "Waiting in the last hour", "Done", "Failed"];

export function queues(section, looking) {
  const count = heading(section, "queues", "Queues");
  const old = outdated();
  const note = el("p", { class: "muted" }, "The last hour, a bar a minute; where there is a gap, nobody looked. Failed are attempts in this process.");
  const [node, body] = table("queues", "queues-title", COLUMNS);
  const none = el("p", { class: "none", hidden: "" });
  const long = shortened(draw);
  section.append(old.node, note, node, none, long.node);
  let told = { queues: [], error: null, as_of: null };

  function draw() {
    const items = told.queues.filter((queue) => matches(queue.queue, queue.flow_slug));
    items.sort((a, b) => (b.oldest_age ?? -1) - (a.oldest_age ?? -1) || b.waiting - a.waiting || (a.queue < b.queue ? -1 : 1));
    fill(body, long.cut(items), (queue) => queue.queue, row);
    say(count, number(told.queues.length));
    say(none, noneOf("No queues yet: a queue is made with its flow."));
    show(node, items.length > 0);
    show(none, items.length === 0 && told.as_of !== null);
    old.set(told, "nothing newer is known.");
    show(section, told.queues.length > 0);
  }

  asking(() => (looking() ? "queues" : null), () => EVERY, (answer) => {
    if (!answer.queues) return;
    told = answer;
    draw();
  });
  return { count, again: draw };
}

function row() {
  const name = el("span", { class: "name" });
  const flow = el("span", { class: "muted" });
  const now = cell("now");
  const lately = [["busy", "waiting"], ["good", "done"], ["bad", "failed"]].map(([tone, kind]) => {
    const drawn = plot(tone);
    const words = el("span", { class: "muted" });
    return { ...drawn, kind, words, at: el("td", { role: "cell", class: "lately" }, drawn.node, words) };
  });
  const node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name, " ", flow), now, ...lately.map((each) => each.at));
  return {
    node,
    set(queue) {
      say(name, queue.queue);
      say(flow, queue.flow_slug === queue.queue ? "" : `of ${queue.flow_slug}`);
      const said = [`${number(queue.waiting)} waiting`];
      if (queue.oldest_age !== null) said.push(`the oldest for ${span(queue.oldest_age)}`);
      if (queue.hidden) said.push(`${number(queue.hidden)} at work or put off`);
      say(now, said.join(", "));
      for (const { kind, set, words } of lately) {
        const values = folded(queue.history[kind], kind === "waiting" ? most : sum);
        const text = kind === "waiting" ? `up to ${number(most(values))} waiting` : `${number(sum(values))} ${kind}`;
        set(values, most(values), `In the last hour ${text}`);
        say(words, text);
      }
    },
  };
}
