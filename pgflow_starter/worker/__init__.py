"""A worker a queue: it claims tasks, runs their handlers on threads, writes what became of them, and drains at its end.

It sees the database through `ports`, no SQL text, and knows nothing of modules: they start workers and hear of them.
"""
