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
};

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
