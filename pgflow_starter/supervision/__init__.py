"""OTP supervision on pykka actors, usable by itself: it knows no modules, no workers, no database, no OpenTelemetry.

    sup = SupervisorActor.start("root", [ChildSpec("a", functools.partial(MyActor.start, 1))])
    sup.proxy().which_children().get()

Children derive from `Actor`. A supervisor answers `which_children`, `count_children`, `start_child`, `terminate_child`,
`restart_child` and `delete_child` through its proxy; what it refuses raises SupervisionError with OTP's word for it as
its `reason`. A child must only ever `tell` its supervisor.
"""

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.state import ChildInfo
from pgflow_starter.supervision.actor import Actor
from pgflow_starter.supervision.errors import ChildStartError, Refusal, RestartIntensityExceededError, SupervisionError
from pgflow_starter.supervision.link import AbandonedError
from pgflow_starter.supervision.specs import ChildSpec, ChildType, Restart, Strategy, SupervisorFlags
from pgflow_starter.supervision.supervisor import DynamicSupervisorActor, SupervisorActor

__all__ = [
    "AbandonedError",
    "Actor",
    "ChildInfo",
    "ChildSpec",
    "ChildStartError",
    "ChildType",
    "DynamicSupervisorActor",
    "Refusal",
    "Restart",
    "RestartIntensityExceededError",
    "Strategy",
    "SupervisionError",
    "SupervisorActor",
    "SupervisorFlags",
    "SystemClock",
]
