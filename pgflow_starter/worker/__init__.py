"""One worker for each queue: claims tasks, runs their handlers on threads, writes the outcomes, drains at its end.

It sees the database through `ports`, no SQL text, and knows nothing of modules: these start it and hear of its death.
"""
