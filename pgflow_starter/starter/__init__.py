"""The composition root: `start`, the `Starter` handle, its `parts`, and the supervision `tree` written out.

It knows every room and decides nothing: no SQL, no policy.
"""

from pgflow_starter.starter.child import child_spec, starter_of
from pgflow_starter.starter.handle import Starter
from pgflow_starter.starter.proxy import StarterProxy
from pgflow_starter.starter.start import start

__all__ = ["Starter", "StarterProxy", "child_spec", "start", "starter_of"]
