"""Every span, event, attribute and instrument name, in one place."""

SCOPE = "pgflow_starter"

SPAN_START = "pgflow.starter start"
SPAN_READY = "pgflow.starter ready"
SPAN_RESTART = "pgflow.actor restart"
SPAN_RECONNECT = "pgflow.notify reconnect"


def span_register(module: str) -> str:
    """The span of one attempt."""
    return f"register {module}"


def span_phase(phase: str) -> str:
    """The span of one phase of an attempt."""
    return f"phase {phase}"


def span_send(queue: str) -> str:
    """The span of starting runs."""
    return f"send {queue}"


def span_receive(queue: str) -> str:
    """The span of a claim that got messages."""
    return f"receive {queue}"


def span_process(queue: str) -> str:
    """The span of one task's handler."""
    return f"process {queue}"


EVENT_ATTEMPT = "pgflow.starter.module.attempt"
EVENT_SUCCESS = "pgflow.starter.module.success"
EVENT_RETRY_SCHEDULED = "pgflow.starter.module.retry_scheduled"
EVENT_FAILED_PERMANENT = "pgflow.starter.module.failed_permanent"
EVENT_READY = "pgflow.starter.ready"
EVENT_CRASH = "pgflow.actor.crash"
EVENT_RESTART = "pgflow.actor.restart"
EVENT_DISCONNECTED = "pgflow.notify.disconnected"
EVENT_EXCEPTION = "exception"
EVENT_RECONNECTED = "pgflow.notify.reconnected"

MODULE = "pgflow.starter.module"
MODULE_SLUG = "pgflow.starter.module.slug"
MODULE_TYPE = "pgflow.starter.module.type"
MODULE_STATUS = "pgflow.starter.module.status"
MODULE_COUNT = "pgflow.starter.module.count"
ATTEMPT = "pgflow.starter.attempt"
PHASE = "pgflow.starter.phase"
ERROR_CLASS = "pgflow.starter.error.class"
RETRY_DELAY = "pgflow.starter.retry.delay"
ERROR_TYPE = "error.type"
DB_STATUS = "db.response.status_code"
SUPERVISOR = "pgflow.actor.supervisor"
ACTOR = "pgflow.actor.id"


def module_count(status: str) -> str:
    """How many modules have that status, where it is told as an attribute."""
    return f"{MODULE_COUNT}.{status}"


# OpenTelemetry's messaging conventions, which are in development still.
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_BATCH_COUNT = "messaging.batch.message_count"

EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

TROUBLE_SCOPE = "pgflow.worker.trouble.scope"

RUN_ID = "pgflow.run.id"
STEP = "pgflow.step"
TASK_INDEX = "pgflow.task.index"
TASK_ATTEMPT = "pgflow.task.attempt"
TASK_OUTCOME = "pgflow.task.outcome"

METRIC_READY = "pgflow.starter.ready"
METRIC_MODULES = "pgflow.starter.module.count"
METRIC_ATTEMPT = "pgflow.starter.attempt.duration"
METRIC_STARTUP = "pgflow.starter.startup.duration"
METRIC_RESTARTS = "pgflow.actor.restarts"
METRIC_WAKEUPS = "pgflow.worker.wakeups"
METRIC_ACTIVE = "pgflow.worker.task.active"
METRIC_TROUBLE = "pgflow.worker.trouble"
METRIC_PROCESS = "messaging.process.duration"
