"""OpenTelemetry, through its API package alone; nothing else imports it."""
