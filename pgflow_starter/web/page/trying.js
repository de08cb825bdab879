// An attempt of a module that somebody asked for, and what became of it.

import { act } from "./actions.js";
import { say } from "./dom.js";

const awaited = new Map(); // by module: how many attempts there were before, and where to say how it ended
let modules = new Map();

export async function tryNow(module, said) {
  awaited.set(module, { before: modules.get(module)?.attempts ?? 0, said });
  const told = await act("retry-now", { module });
  if (told.error) {
    awaited.delete(module);
    say(said, `Not done: ${told.error}`);
  } else if (awaited.has(module)) say(said, "An attempt begins at once.");
}

// Whether an attempt that was waited for has ended by now.
export function ended(status) {
  modules = new Map(status.modules.map((module) => [module.module, module]));
  let some = false;
  for (const [name, { before, said }] of awaited) {
    const module = modules.get(name);
    if (module && (module.attempts <= before || module.phase !== null)) continue;
    awaited.delete(name);
    say(said, module?.status === "succeeded" ? "It has registered." : "It was tried, and failed again.");
    some = true;
  }
  return some;
}
