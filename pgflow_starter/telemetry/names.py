"""Every span, event, attribute and instrument name, in one place."""

SCOPE = "pgflow_starter"

SPAN_START = "pgflow.starter start"
SPAN_READY = "pgflow.starter ready"
SPAN_RESTART = "pgflow.actor restart"
SPAN_RECONNECT = "pgflow.notify reconnect"

# Each to be formatted with the module, the phase, the queue or the flow that it is of.
SPAN_REGISTER = "register {}"
SPAN_PHASE = "phase {}"
SPAN_SEND = "send {}"
SPAN_RECEIVE = "receive {}"
SPAN_PROCESS = "process {}"
SPAN_RUN = "run {}"

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
EVENT_TICKS_MISSED = "pgflow.schedule.ticks_missed"

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

SCHEDULE_NAME = "pgflow.schedule.name"
SCHEDULE_TICKS = "pgflow.schedule.ticks"

QUEUE_STATE = "pgflow.queue.state"
FAST_LANE_STATE = "pgflow.fast_lane.state"

# OpenTelemetry's conventions for databases.
POOL_NAME = "db.client.connection.pool.name"
POOL_STATE = "db.client.connection.state"
DATABASE = "db.namespace"

FLOW = "pgflow.flow"
RUN_ID = "pgflow.run.id"
RUN_STATUS = "pgflow.run.status"
RERUN_OF = "pgflow.rerun_of"
STEP = "pgflow.step"
TASK_INDEX = "pgflow.task.index"
TASK_ATTEMPT = "pgflow.task.attempt"
TASK_OUTCOME = "pgflow.task.outcome"
TASK_WAIT = "pgflow.task.wait"

METRIC_READY = "pgflow.starter.ready"
METRIC_MODULES = "pgflow.starter.module.count"
METRIC_ATTEMPT = "pgflow.starter.attempt.duration"
METRIC_STARTUP = "pgflow.starter.startup.duration"
METRIC_RESTARTS = "pgflow.actor.restarts"
METRIC_WAKEUPS = "pgflow.worker.wakeups"
METRIC_ACTIVE = "pgflow.worker.task.active"
METRIC_TROUBLE = "pgflow.worker.trouble"
METRIC_LATENESS = "pgflow.schedule.lateness"
METRIC_LAST_LATENESS = "pgflow.schedule.last.lateness"
METRIC_FAILING = "pgflow.schedule.failing"
METRIC_MISSED = "pgflow.schedule.missed"
METRIC_PROCESS = "messaging.process.duration"
METRIC_RETRIES = "pgflow.task.retries"
METRIC_RUNS = "pgflow.run.ended"
METRIC_DEPTH = "pgflow.queue.depth"
METRIC_OLDEST = "pgflow.queue.oldest.age"
METRIC_AWAY = "pgflow.database.away"
METRIC_FAST_LANE = "pgflow.fast_lane"
METRIC_POOL = "db.client.connection.count"
METRIC_POOL_MAX = "db.client.connection.max"
METRIC_POOL_AWAITED = "db.client.connection.pending_requests"

ATTRIBUTES_OF = {
    METRIC_READY: (),
    METRIC_MODULES: (MODULE_STATUS,),
    METRIC_ATTEMPT: (MODULE, MODULE_TYPE, MODULE_STATUS, ERROR_TYPE),
    METRIC_STARTUP: (),
    METRIC_RESTARTS: (SUPERVISOR, ACTOR),
    METRIC_WAKEUPS: (MESSAGING_DESTINATION,),
    METRIC_ACTIVE: (MESSAGING_DESTINATION,),
    METRIC_TROUBLE: (MESSAGING_DESTINATION, TROUBLE_SCOPE),
    METRIC_LATENESS: (SCHEDULE_NAME,),
    METRIC_LAST_LATENESS: (SCHEDULE_NAME,),
    METRIC_FAILING: (SCHEDULE_NAME,),
    METRIC_MISSED: (SCHEDULE_NAME,),
    METRIC_PROCESS: (MESSAGING_SYSTEM, MESSAGING_DESTINATION, MESSAGING_OPERATION_NAME, STEP, ERROR_TYPE),
    METRIC_RETRIES: (MESSAGING_DESTINATION, STEP),
    METRIC_RUNS: (FLOW, RUN_STATUS),
    METRIC_DEPTH: (DATABASE, MESSAGING_DESTINATION, QUEUE_STATE),
    METRIC_OLDEST: (DATABASE, MESSAGING_DESTINATION),
    METRIC_AWAY: (),
    METRIC_FAST_LANE: (FAST_LANE_STATE,),
    METRIC_POOL: (POOL_NAME, POOL_STATE),
    METRIC_POOL_MAX: (POOL_NAME,),
    METRIC_POOL_AWAITED: (POOL_NAME,),
}
"""What each metric is told by, none of it a run or a worker: there is no end of those."""
