// Asks for a path again and again, while somebody looks at the page.

import { ask } from "./live.js";

const all = [];

// `path()` is null while there is nothing to ask for, `seconds()` the pause; `told` gets each answer. Returned: ask now.
export function asking(path, seconds, told) {
  let timer = 0;
  let round = 0;
  async function again() {
    const mine = ++round;
    clearTimeout(timer);
    const where = document.hidden ? null : path();
    const answer = where === null ? null : await ask(where);
    if (mine !== round) return;
    timer = setTimeout(again, 1000 * seconds());
    if (answer !== null) told(answer);
  }
  document.addEventListener("visibilitychange", () => document.hidden || again());
  all.push(again);
  again();
  return again;
}

// Something was done: whatever is asked for is asked for at once.
export function askAll() {
  for (const again of all) document.hidden || again();
}
