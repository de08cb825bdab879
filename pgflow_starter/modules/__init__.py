"""How a module gets registered: its actor, machine, board and phases. It knows no SQL, no driver, no OpenTelemetry."""
