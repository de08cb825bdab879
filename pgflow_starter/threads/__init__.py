"""Threads of our own and what they carry: the cache, lanes, timers, the dispatcher, calls off the main thread.

Knows no pykka, no modules and no workers: only calls.
"""
