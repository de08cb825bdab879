"""What phases and workers read and write, statement by statement. Knows no actor, and not when it is called again."""
