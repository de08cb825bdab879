"""What the phases and the workers read and write, statement by statement."""
