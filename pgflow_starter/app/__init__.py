"""The composition root: `start`, the `Starter` handle and the supervision tree behind it."""

from pgflow_starter.app.child import child_spec, starter_of
from pgflow_starter.app.start import start
from pgflow_starter.app.starter import Starter, StarterProxy

__all__ = ["Starter", "StarterProxy", "child_spec", "start", "starter_of"]
