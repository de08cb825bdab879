"""Pure decisions: definitions, module states and their transitions, backoff, error classes, restart intensity.

Nothing here knows a clock, randomness, threads, actors or SQL: what it needs of them comes in as an argument.
"""
