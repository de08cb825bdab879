// Puts the sections up and hands them the news.

import { banner } from "./banner.js";
import { attr, el, say, show } from "./dom.js";
import { flows } from "./flows.js";
import { follow } from "./live.js";
import { modules } from "./modules.js";
import { runs } from "./runs.js";
import { schedules } from "./schedules.js";
import { setNow, span } from "./times.js";
import { tree } from "./tree.js";
import { workers } from "./workers.js";

const at = (id) => document.getElementById(id);
const overall = banner(at("banner"));
const sections = { modules: modules(at("modules")), runs: runs(at("runs")), flows: flows(at("flows")), workers: workers(at("workers")), schedules: schedules(at("schedules")), supervision: tree(at("supervision")) };
const linkState = at("link");
const word = el("span");
linkState.append(el("span", { class: "dot", "aria-hidden": "true" }), word);
let link = "connecting";
const LINKS = { connecting: "Connecting", live: "Live", polling: "Every 2 seconds", lost: "Connection lost" };
let newsAt = null;

for (const [id, section] of Object.entries(sections)) {
  const title = at(`${id}-title`).firstChild.textContent;
  const count = el("span", { class: "count" });
  const link = el("a", { href: `#${id}` }, title, " ", count);
  at("nav").append(link);
  section.countAgain = () => {
    say(count, section.count.textContent);
    show(link, !at(id).hidden);
  };
}

function told(news) {
  link = news.link;
  if (news.link !== "lost") newsAt = Date.now();
  if (news.status) {
    setNow(news.status.now);
    document.body.classList.remove("ended");
    overall.set(news.status);
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
    section.countAgain();
  }
}

follow(told);
setInterval(tick, 1000);
