"""What the phases and the workers read and write, statement by statement. Knows no thread, no actor and no retry."""
