// The answer to "how is it?": one headline, one sentence, four facts.

import { el, icon, say, show } from "./dom.js";
import { ago, number, plural, since, timeOfDay, whole } from "./times.js";
import { lostWorkers, stuckWorkers } from "./tones.js";

const NAMED = 3;

export function banner(section) {
  const headline = el("h1", { id: "headline" }, "Asking the starter");
  const sentence = el("p", { class: "sentence" });
  const outage = el("p", { class: "outage", hidden: "" });
  const mark = el("div", { class: "mark" }, icon("idle"));
  const announced = el("div", { role: "status" }, headline, sentence, outage);
  const facts = el("dl", { class: "facts" });
  const [ready, healthy, database, tasks, up] = ["Ready", "Healthy", "Database", "Tasks", "Up for"].map((name) => {
    const value = el("dd");
    facts.append(el("div", {}, el("dt", {}, name), value));
    return value;
  });
  const stale = el("p", { class: "stale-note", hidden: "" });
  section.append(mark, announced, stale, facts);
  let status = null;
  let known = null; // the problems, once they were asked for

  function judge() {
    const [tone, text, why] = judged(status);
    if (tone !== "good" || known === null) return overall(tone, text, why);
    if (known.length === 0) return overall(tone, text, `${why} Nothing is known to be wrong.`);
    const bad = known.filter((problem) => problem.severity === "bad").length;
    const counted = [[bad, "problem"], [known.length - bad, "warning"]].filter(([count]) => count).map(([count, word]) => plural(count, word));
    overall(bad ? "bad" : "warn", `Ready, with ${counted.join(" and ")}`, `${why} What is wrong is below, the worst first.`);
  }

  // The reason, which may be long, once: on a phone the next step shall not be pushed below the screen.
  function tellOutage() {
    show(outage, status.outage !== null);
    if (status.outage === null) return;
    const below = known?.some((problem) => problem.kind === "database_away");
    say(outage, `The database is away since ${timeOfDay(status.outage.since)}${below ? "." : `: ${status.outage.reason}`}`);
  }

  function overall(tone, text, why) {
    if (section.dataset.tone !== tone) {
      section.dataset.tone = tone;
      mark.replaceChildren(icon(tone));
    }
    say(headline, text);
    say(sentence, why);
  }

  return {
    set(given) {
      status = given;
      show(facts, true);
      judge();
      const [lost, stuck] = [lostWorkers(status).length, stuckWorkers(status).length];
      say(ready, status.ready ? "yes" : "no");
      ready.title = status.ready_at ? `first ready at ${whole(status.ready_at)}` : "never yet";
      say(healthy, lost ? `no, ${plural(lost, "worker")} lost` : stuck ? `no, ${plural(stuck, "worker")} stuck` : status.healthy ? "yes" : "no, nothing registered");
      tellOutage();
      this.tick();
    },
    problems(told) {
      known = told.problems;
      if (status === null) return;
      judge();
      tellOutage();
    },
    headline: () => headline.textContent,
    ended(told) {
      status = null;
      show(facts, false);
      show(outage, false);
      const [text, why] =
        told.error === "StarterStopped"
          ? ["Stopped", "The starter was stopped: nothing registers and no task runs in this process. Below is what was last known."]
          : ["Terminated", `The starter has ended: ${told.reason}. Start its process anew; its log tells why. Below is what was last known.`];
      overall("bad", text, why);
    },
    // Words for a page that nobody feeds any more; null while somebody does. Not announced: they change each second.
    stale(words) {
      show(stale, words !== null);
      say(stale, words);
    },
    tick() {
      if (status === null) return;
      say(database, status.outage ? `away for ${since(status.outage.since)}` : "reachable");
      const sum = (name) => status.workers.reduce((total, worker) => total + worker[name], 0);
      say(tasks, `${number(sum("running"))} running, ${number(sum("completed"))} done`);
      say(up, since(status.started_at));
      up.title = `started at ${whole(status.started_at)}, ${ago(status.started_at)}`;
    },
  };
}

// [tone, headline, sentence] of a status, the worst first.
function judged(status) {
  const { modules, outage } = status;
  const stuck = stuckWorkers(status);
  const troubled = (m) => m.status === "retrying" && m.phase === "worker" && stuck.some((worker) => worker.slug === m.slug);
  const open = modules.filter((m) => (m.status === "retrying" || m.status === "pending") && !troubled(m));
  const failed = modules.filter((m) => m.status === "failed_permanent");
  const lost = lostWorkers(status);
  const parts = [];
  if (lost.length) parts.push(`${plural(lost.length, "worker is", "workers are")} lost: ${named(lost, "slug")}.`);
  if (stuck.length) parts.push(`${plural(stuck.length, "worker", "workers")} can do no work: ${named(stuck, "slug")}.`);
  if (open.length) parts.push(`${open.length} of ${plural(modules.length, "module")} ${open.length === 1 ? "has" : "have"} yet to register: ${named(open, "module")}.`);
  if (failed.length) parts.push(`${plural(failed.length, "module")} failed for good: ${named(failed, "module")}.`);
  const why = parts.join(" ");
  if (!status.ready) return [failed.length || lost.length || stuck.length ? "bad" : "warn", "Not ready", why];
  if (lost.length) return ["bad", "Not healthy", why];
  if (stuck.length) return ["warn", "Ready, but in trouble", why];
  if (!status.healthy) return ["bad", "Not healthy", why];
  if (failed.length) return ["bad", "Ready, but not complete", `${why} The others are registered.`];
  if (outage) return ["warn", "Ready, but the database is away", "Workers wait until it is back, and write then what they have done."];
  if (!modules.length) return ["good", "Ready", "There are no modules."];
  return ["good", "Ready and healthy", `${modules.length === 1 ? "The one module is" : `All ${number(modules.length)} modules are`} registered.`];
}

function named(items, name) {
  const first = items.slice(0, NAMED).map((item) => item[name]);
  const more = items.length - first.length;
  return more > 0 ? `${first.join(", ")} and ${number(more)} more` : first.join(", ");
}
