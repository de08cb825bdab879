// Puts the sections up and hands them the news.

import { learn } from "./actions.js";
import { onMove, place } from "./address.js";
import { askAll } from "./asking.js";
import { banner } from "./banner.js";
import { attr, el, say, show } from "./dom.js";
import { finder } from "./find.js";
import { flows } from "./flows.js";
import { follow } from "./live.js";
import { modules } from "./modules.js";
import { problems } from "./problems.js";
import { processes } from "./processes.js";
import { queues } from "./queues.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { schedules } from "./schedules.js";
import { setNow, span } from "./times.js";
import { tree } from "./tree.js";
import { workers } from "./workers.js";

const at = (id) => document.getElementById(id);
const overview = () => place().run === null;
const overall = banner(at("banner"));
const single = run(at("run"));
const sections = {
  problems: problems(at("problems"), (told) => {
    overall.problems(told);
    tick();
  }),
  runs: runs(at("runs"), overview),
  queues: queues(at("queues"), overview),
  modules: modules(at("modules")),
  flows: flows(at("flows")),
  workers: workers(at("workers")),
  processes: processes(at("processes"), overview),
  schedules: schedules(at("schedules")),
  supervision: tree(at("supervision")),
};
const find = finder(at("nav"), () => Object.values(sections).forEach((section) => section.again?.()));
const linkState = at("link");
const word = el("span");
linkState.append(el("span", { class: "dot", "aria-hidden": "true" }), word);
let link = "connecting";
const LINKS = { connecting: "Connecting", live: "Live", polling: "Every 2 seconds", lost: "Connection lost" };
let newsAt = null;

for (const [id, section] of Object.entries(sections)) {
  if (id === "problems") continue; // they are just above
  const title = at(`${id}-title`).firstChild.textContent;
  const count = el("span", { class: "count" });
  const link = el("a", { href: `#${id}` }, title, " ", count);
  at("links").append(link);
  section.countAgain = () => {
    say(count, section.count.textContent);
    show(link, !at(id).hidden);
  };
}

// A link to a section leaves the filters in the address; one to filtered runs leads to the runs.
document.addEventListener("click", (event) => {
  const href = event.target.closest("a[href^='#']")?.getAttribute("href") ?? "#run=";
  const whole = href.includes("=");
  if (href.startsWith("#run=") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const target = whole ? at("runs") : place().filters.size ? at(href.slice(1)) : null;
  if (target === null) return;
  if (!whole) event.preventDefault();
  target.scrollIntoView();
  target.focus({ preventScroll: true });
});

let leftAt = 0;

// The overview and a run take turns; who comes back finds the overview where it was left.
function moved() {
  const { run: wanted } = place();
  const before = document.body.classList.contains("of-run");
  if (wanted !== null && !before) leftAt = scrollY;
  document.body.classList.toggle("of-run", wanted !== null);
  single.open(wanted);
  if (wanted !== null && !before) scrollTo(0, 0);
  else if (wanted === null && before) scrollTo(0, leftAt);
  tick();
}

function told(news) {
  link = news.link;
  if (news.link !== "lost") newsAt = Date.now();
  if (news.status) {
    setNow(news.status.now);
    document.body.classList.remove("ended");
    overall.set(news.status);
    find.set(news.status);
    for (const section of Object.values(sections)) section.set?.(news.status);
  } else if (news.ended) {
    document.body.classList.add("ended");
    overall.ended(news.ended);
  }
  document.body.classList.toggle("stale", link === "lost");
  tick();
}

function tick() {
  attr(linkState, "data-link", link);
  say(word, LINKS[link]);
  const silent = link === "lost" && newsAt !== null;
  overall.stale(silent ? `Nobody has answered for ${span((Date.now() - newsAt) / 1000)}. This is how it was.` : null);
  if (!silent) overall.tick();
  for (const section of Object.values(sections)) {
    if (!silent) section.tick?.();
    section.countAgain?.();
  }
  if (!overview() && !silent) single.tick();
  const title = `${overview() ? "" : `${single.title()} · `}${overall.headline()} · pgflow starter`;
  if (document.title !== title) document.title = title;
}

learn().then((allowed) => {
  if (!allowed) return;
  say(at("manner"), "Actions are on: runs can be run again and cancelled here.");
  askAll(); // what was drawn before has no buttons
});
onMove(moved);
moved();
if (place().filters.size) at("runs").scrollIntoView();
follow(told);
setInterval(tick, 1000);
