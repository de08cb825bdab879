"""What becomes of a module, as log lines: one warning when it turns to retrying, however often it fails after that.

None in an outage, which is everybody's and told by the part that found it.
"""

from __future__ import annotations

import logging

from pgflow_starter.core.state import ModuleState, ModuleStatus
from pgflow_starter.core.symptoms import see_error
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.modules.cell import ModuleCell

logger = logging.getLogger("pgflow_starter.modules")


def log_began(state: ModuleState) -> None:
    """An attempt began."""
    _log_of(state).debug("attempt %d begins in phase %s", state.attempts, state.phase, attempt=state.attempts)


def log_turned(cell: ModuleCell, state: ModuleState, delay: float | None = None, *, quiet: bool = False) -> None:
    """An attempt ended, or the module's worker did; `delay` seconds until the next attempt, where one is scheduled.

    `quiet` where another part logs the cause and the module will be tried again: then this is no news of this module.
    """
    log, error = _log_of(state), state.last_error
    says = (state.status, None if error is None else (error.phase, error.error_type))
    after = "" if delay is None else f"; next attempt in {delay:.1f} s"
    quiet = quiet and state.status is ModuleStatus.RETRYING
    before = cell.logged
    if not quiet:
        cell.logged = says
    if error is None:
        log.info("%s in attempt %d", state.status, state.attempts, attempt=state.attempts)
        return
    if state.status is ModuleStatus.FAILED_PERMANENT:
        tell, after = log.error, see_error(error)
    elif quiet:
        tell = log.debug
    elif before is None or before[0] is not state.status:
        tell = log.warning
    else:
        tell = log.debug if before == says else log.info
    tell(
        "%s after attempt %d, phase %s: %s [%s]%s",
        state.status,
        state.attempts,
        error.phase,
        error.reason,
        error.error_type,
        after,
        attempt=state.attempts,
        phase=str(error.phase),
        error_type=error.error_type,
    )


def _log_of(state: ModuleState) -> ModuleLog:
    return ModuleLog(logger, state.module, state.slug)
