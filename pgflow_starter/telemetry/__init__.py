"""What a starter does, told to OpenTelemetry through its API package, which no other room imports."""
