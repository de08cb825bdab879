"""A module's way to being registered: its actor, the machine that decides, the board of all states, the phases."""
