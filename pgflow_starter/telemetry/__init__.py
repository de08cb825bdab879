"""What a starter does, told to OpenTelemetry. No other room imports OpenTelemetry."""
