"""What a starter tells OpenTelemetry and the log."""
