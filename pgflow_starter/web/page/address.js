// What the address says behind its #: the filters of the runs, a run that is looked at, or a section's name alone.
// So what one sees can be sent to a colleague, and the browser's Back goes back.

const FILTERS = ["status", "flow", "since", "until", "id", "after"];
const followers = [];

// {run, filters}: the id of a run or null; the filters as a URLSearchParams, in the words that `runs` is asked with.
export function place() {
  const said = location.hash.includes("=") ? new URLSearchParams(location.hash.slice(1)) : new URLSearchParams();
  const filters = new URLSearchParams();
  for (const word of FILTERS) for (const value of said.getAll(word)) if (value) filters.append(word, value);
  return { run: said.get("run"), filters };
}

export function hrefOf({ run = null, filters = new URLSearchParams() }) {
  const words = new URLSearchParams(run === null ? "" : { run });
  for (const [word, value] of filters) words.append(word, value);
  return `#${words}`;
}

// Goes there without a jump to the top, as a link to # would.
export function go(to) {
  history.pushState(null, "", hrefOf(to));
  for (const follower of followers) follower();
}

export function onMove(follower) {
  followers.push(follower);
  addEventListener("popstate", follower);
}
