"""What holds on every pgflow core: on 0.8.1 as npm ships it, and on stand-ins with the newer ones' signatures."""
