"""Breaking everything on purpose, under load, and accounting for every message afterwards. `make chaos`."""
