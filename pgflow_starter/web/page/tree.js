// The supervision tree, as nested lists; long branches begin closed.

import { attr, el, fill, heading, icon, say, show } from "./dom.js";
import { number, plural } from "./times.js";

const LONG = 12;

export function tree(section) {
  const count = heading(section, "supervision", "Supervision");
  const list = el("ul", { class: "tree" });
  section.append(list);
  return {
    count,
    set(status) {
      fill(list, nested(status.children), (item) => item.child.id, branch);
      say(count, number(status.children.length));
    },
  };
}

// The flat list as {child, below: [...]}; parents come before their children in it.
function nested(children) {
  const roots = [];
  const supervisors = new Map();
  for (const child of children) {
    const item = { child, below: [] };
    (supervisors.get(child.parent)?.below ?? roots).push(item);
    if (child.type === "supervisor") supervisors.set(child.id, item);
  }
  return roots;
}

function branch(first) {
  const said = line();
  if (first.child.type !== "supervisor") {
    return { node: el("li", {}, el("div", { class: "member" }, ...said.parts)), set: (item) => said.set(item) };
  }
  const list = el("ul");
  const details = el("details", { open: first.below.length <= LONG }, el("summary", { class: "member" }, ...said.parts), list);
  let closedByLength = first.below.length > LONG;
  return {
    node: el("li", {}, details),
    set(item) {
      // A branch that grows long closes once; from then on it is the reader's.
      if (!closedByLength && item.below.length > LONG) {
        closedByLength = true;
        details.open = false;
      }
      said.set(item);
      fill(list, item.below, ({ child }) => child.id, branch);
    },
  };
}

function line() {
  const mark = el("span", { class: "state" });
  const name = el("span", { class: "name" });
  const facts = el("span", { class: "muted" });
  let tone = "";
  return {
    parts: [mark, name, facts],
    set({ child, below }) {
      const wanted = child.alive ? "good" : "bad";
      if (tone !== wanted) {
        tone = wanted;
        mark.replaceChildren(icon(tone), el("span", { class: "unseen" }, child.alive ? "alive" : "not alive"));
        attr(mark, "data-tone", tone);
      }
      // Modules are children by name and number; the number is of no use to people.
      say(name, child.id.replace(/#\d+$/, ""));
      const told = [];
      if (child.type === "supervisor") told.push(plural(below.length, "child", "children"));
      if (!child.alive) told.push("not alive");
      if (child.restarts) told.push(plural(child.restarts, "restart"));
      const restartsBelow = sum(below);
      if (restartsBelow) told.push(`${plural(restartsBelow, "restart")} below`);
      say(facts, told.join(", "));
      show(facts, told.length > 0);
    },
  };
}

function sum(items) {
  return items.reduce((total, item) => total + item.child.restarts + sum(item.below), 0);
}
