"""A module's way to being registered: actor, machine, board and phases. It knows no SQL, driver or OpenTelemetry."""
