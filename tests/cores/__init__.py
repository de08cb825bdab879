"""What holds on every pgflow core: on 0.8.1 as npm ships it, and on a stand-in with the newer ones' signatures."""
