"""Schedules: `SchedulerActor`, the board of what each schedule does, and how a tick of one is started."""
