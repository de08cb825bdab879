"""Threads of our own and what they carry: the cache, lanes, timers, the dispatcher, work off the main thread."""
