// What each state is called and which colour and shape it has.

export const MODULE = {
  failed_permanent: ["bad", "failed for good"],
  retrying: ["warn", "retrying"],
  pending: ["idle", "pending"],
  succeeded: ["good", "succeeded"],
};

const PGFLOW = {
  created: "idle",
  started: "busy",
  completed: "good",
  failed: "bad",
  skipped: "idle",
  queued: "idle",
  cancelled: "idle",
};

const SKIPPED = {
  condition_unmet: "its condition was not met",
  handler_failed: "its handler failed, and the step says to skip it then",
  dependency_skipped: "a step that it depends on was skipped",
};

export function whySkipped(reason) {
  return SKIPPED[reason] ?? reason.replaceAll("_", " ");
}

export function toneOf(status) {
  return PGFLOW[status] ?? "idle";
}

export const MODULE_ORDER = Object.keys(MODULE);

export function stuckWorkers(status) {
  return status.workers.filter((worker) => worker.trouble?.scope === "all");
}

export function lostWorkers(status) {
  return status.workers.filter((worker) => worker.lost);
}
