"""Under its public name a thing is documented, and references to where it is defined lead there."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import pgflow_starter
import pgflow_starter.supervision
import pgflow_starter.testing
import pgflow_starter.web

_MADE_BY_US = (
    {
        "FlowModule",
        "Starter",
        "StarterProxy",
        "Job",
        "Run",
        "AioClient",
        "AioRun",
        "ModuleActor",
        "StarterActor",
        "SupervisorActor",
    }  # pgflow_starter
    | {"Server", "Application"}  # pgflow_starter.web
)
"""Classes that nobody else makes: how is no part of what they promise."""

_ROOMS = (pgflow_starter, pgflow_starter.supervision, pgflow_starter.testing, pgflow_starter.web)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}


def _resolve(app: Sphinx, env: BuildEnvironment, node: Any, inner: nodes.TextElement) -> nodes.reference | None:
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    for room in _ROOMS:
        if name in room.__all__:
            public = f"{room.__name__}.{name}"
            found: nodes.reference | None = env.domains.python_domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", public, node, inner
            )
            if found is not None:
                return found
    return None


def _signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    hidden = what == "class" and name.rpartition(".")[2] in _MADE_BY_US
    return ("", None) if hidden else None
