"""The fast lane: what the core's functions do to one task at a time, done to many by one statement.

Only on cores whose functions it was proven to equal, and of those only what nearly all tasks need; all else is the
core's. Nothing outside this room knows how a run's rows change.
"""
