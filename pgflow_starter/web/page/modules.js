// The modules, those that need somebody first.

import { allowed } from "./actions.js";
import { attr, button, cell, el, fill, heading, pill, say, show, table } from "./dom.js";
import { matches, noneOf } from "./find.js";
import { shortened } from "./long.js";
import { number, plural, secondsUntil, span, timeOfDay, whole } from "./times.js";
import { MODULE, MODULE_ORDER } from "./tones.js";
import { tryNow } from "./trying.js";

const SQLSTATE = /^(?=.*[0-9])[0-9A-Z]{5}$/;
const PHASES = { registry: "registry", worker: "worker", notify_db: "notify_db", notify_register: "notify_register" };
const COLUMNS = ["Module", "Status", "Attempts", "Phase", "Next attempt", "Last error"];

export function modules(section) {
  const count = heading(section, "modules", "Modules");
  const [node, body] = table("modules", "modules-title", COLUMNS);
  const none = el("p", { class: "none", hidden: "" });
  const long = shortened(draw);
  section.append(node, none, long.node);
  let rows = new Map();
  let all = [];

  function draw() {
    const items = all.map((module, index) => ({ module, index })).filter(({ module: m }) => matches(m.module, m.slug));
    items.sort((a, b) => rank(a.module) - rank(b.module) || a.index - b.index);
    rows = fill(body, long.cut(items), (item) => item.index, row);
    say(count, number(all.length));
    say(none, noneOf("No modules."));
    show(node, items.length > 0);
    show(none, items.length === 0);
  }

  return {
    count,
    again: draw,
    set(status) {
      all = status.modules;
      draw();
    },
    tick() {
      for (const each of rows.values()) each.tick();
    },
  };
}

function rank(module) {
  return MODULE_ORDER.indexOf(module.status);
}

function row() {
  const name = el("span", { class: "name" });
  const kind = el("span", { class: "muted" });
  const status = pill();
  const [attempts, phase, next] = [cell("number"), cell(), cell("number")];
  const reason = el("p", { class: "reason" });
  const facts = el("p", { class: "muted" });
  const said = el("span", { class: "muted", role: "status" });
  const retry = el("div", { class: "buttons" }, button("Try now", () => tryNow(module.module, said)), said);
  const error = el("td", { class: "error", role: "cell" }, reason, facts, retry);
  const node = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name, " ", kind), el("td", { role: "cell", class: "status" }, status.node), attempts, phase, next, error);
  let module = null;
  return {
    node,
    set(item) {
      if (module !== null && same(module, item.module)) return;
      module = item.module;
      const [tone, word] = MODULE[module.status];
      say(name, module.module);
      say(kind, module.slug && module.slug !== module.module ? `${module.type} ${module.slug}` : module.type);
      status.set(tone, word);
      attr(node, "data-tone", tone);
      say(attempts, plural(module.attempts, "attempt"));
      say(phase, module.phase ? `in phase ${PHASES[module.phase] ?? module.phase}` : "");
      show(error, module.last_error !== null);
      say(said, null);
      if (module.last_error) {
        const { reason: why, error_type: type, error_class: kindOfError, phase: where, at } = module.last_error;
        say(reason, why);
        say(facts, `${SQLSTATE.test(type) ? "SQLSTATE " : ""}${type} · ${kindOfError} · in phase ${where} · ${timeOfDay(at)}`);
        facts.title = whole(at);
      }
      this.tick();
    },
    tick() {
      if (module === null) return;
      say(next, nextOf(module));
      show(retry, allowed() && (module.status === "retrying" || module.status === "failed_permanent"));
    },
  };
}

function nextOf(module) {
  if (module.phase) return module.status === "succeeded" ? "" : "now";
  if (module.next_attempt_at === null) return module.status === "retrying" ? "when it can" : "";
  const seconds = secondsUntil(module.next_attempt_at);
  return seconds > 0.5 ? `in ${span(seconds)}` : "now";
}

function same(a, b) {
  return a.updated_at === b.updated_at && JSON.stringify(a) === JSON.stringify(b);
}
