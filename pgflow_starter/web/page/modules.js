// The modules, those that need somebody first.

import { attr, el, fill, heading, pill, say, show } from "./dom.js";
import { plural, secondsUntil, span, timeOfDay, whole } from "./times.js";
import { MODULE, MODULE_ORDER } from "./tones.js";

const SQLSTATE = /^(?=.*[0-9])[0-9A-Z]{5}$/;
const PHASES = { registry: "registry", worker: "worker", notify_db: "notify_db", notify_register: "notify_register" };
const COLUMNS = ["Module", "Status", "Attempts", "Phase", "Next attempt", "Last error"];

export function modules(section) {
  const count = heading(section, "modules", "Modules");
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...COLUMNS.map((c) => el("th", { scope: "col", role: "columnheader" }, c))));
  const body = el("tbody", { role: "rowgroup" });
  const table = el("table", { class: "modules", role: "table", "aria-labelledby": "modules-title" }, head, body);
  const none = el("p", { class: "none", hidden: "" }, "No modules.");
  section.append(table, none);
  let rows = new Map();
  return {
    count,
    set(status) {
      const items = status.modules.map((module, index) => ({ module, index }));
      items.sort((a, b) => rank(a.module) - rank(b.module) || a.index - b.index);
      rows = fill(body, items, (item) => item.index, row);
      say(count, status.modules.length);
      show(table, items.length > 0);
      show(none, items.length === 0);
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
  const error = el("td", { class: "error", role: "cell" }, reason, facts);
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

function cell(className = null) {
  return el("td", { role: "cell", class: className });
}
