// The schedules: what each does next, and what became of its last tick. Nothing where there are none.

import { attr, cell, el, fill, heading, pill, say, show, table } from "./dom.js";
import { ago, plural, secondsUntil, span, whole } from "./times.js";

const COLUMNS = ["Schedule", "State", "Next", "Last", "Problem"];
const STATES = { started: ["good", "started"], "there already": ["good", "there already"], failed: ["bad", "failed"] };

export function schedules(section) {
  const count = heading(section, "schedules", "Schedules");
  const [node, body] = table("schedules", "schedules-title", COLUMNS);
  section.append(node);
  let rows = new Map();
  return {
    count,
    set(status) {
      rows = fill(body, status.schedules, (schedule) => schedule.name, row);
      say(count, status.schedules.length);
      show(section, status.schedules.length > 0);
    },
    tick() {
      for (const each of rows.values()) each.tick();
    },
  };
}

function row() {
  const name = el("span", { class: "name" });
  const cron = el("span", { class: "muted cron" });
  const state = pill();
  const [next, last, problem] = ["next", "last", "notes"].map(cell);
  const node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name, " ", cron), el("td", { role: "cell", class: "status" }, state.node), next, last, problem);
  let schedule = null;
  return {
    node,
    set(given) {
      schedule = given;
      say(name, schedule.name);
      name.title = schedule.name === schedule.slug ? "" : `starts ${schedule.slug}`;
      say(cron, schedule.timezone === "UTC" ? schedule.cron : `${schedule.cron} ${schedule.timezone}`);
      state.set(...(STATES[schedule.last_result] ?? ["idle", "not yet"]));
      next.title = schedule.next_at ? whole(schedule.next_at) : "";
      last.title = schedule.last_tick ? `${whole(schedule.last_tick)}${schedule.last_run_id ? `, run ${schedule.last_run_id}` : ""}` : "";
      const missed = schedule.missed && `${plural(schedule.missed.count, "tick")} missed: ${schedule.missed.reason}`;
      say(problem, schedule.last_error ?? missed);
      show(problem, Boolean(schedule.last_error ?? missed));
      attr(node, "data-tone", schedule.last_error !== null ? "bad" : missed ? "warn" : null);
      this.tick();
    },
    tick() {
      say(next, schedule.next_at ? `next in ${span(secondsUntil(schedule.next_at))}` : "never again");
      say(last, schedule.last_tick ? `last due ${ago(schedule.last_tick)}` : "");
    },
  };
}
