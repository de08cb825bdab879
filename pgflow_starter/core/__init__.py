"""Pure decisions and values: definitions, states as others see them, backoff, error classes, outcomes, troubles.

Nothing here knows a clock, randomness, threads, actors or SQL: what it needs of them comes in as an argument.
"""
