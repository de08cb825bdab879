"""The composition root: `start`, the `Starter` handle and the supervision tree behind it."""

from pgflow_starter.app.start import start
from pgflow_starter.app.starter import Starter, StarterProxy

__all__ = ["Starter", "StarterProxy", "start"]
