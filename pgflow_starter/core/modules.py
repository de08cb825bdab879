"""Flow modules: what one is called, whether two are the same, and how its definition is found."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.flow import Flow, Job
from pgflow_starter.core.generics import Input, Out
from pgflow_starter.core.state import ModuleType
from pgflow_starter.core.text import text_of
from pgflow_starter.errors import DefinitionError


class FlowModule(Protocol[Input, Out]):
    """What can be given to `start`: a `Flow`, a job, a class, an instance or a Python module that has this.

    To a type checker a run of `FlowModule[Input, Out]` has such an input and such a result; without, any.
    """

    def __pgflow_definition__(self) -> FlowDefinition[Input, Out]:
        """The flow. It may raise what it likes, and is called again at each attempt to register it."""


class ModuleSpec(NamedTuple):
    """One entry of the lists given to `start`; `key` is unique in its starter, `name` may not be.

    `type` is the module's own where that is known before any of its code ran, else the list's.
    """

    key: int
    module: Any
    name: str
    type: ModuleType


def module_specs(flows: Iterable[Any], jobs: Iterable[Any]) -> tuple[ModuleSpec, ...]:
    """The modules in the order given, flows first.

    Raises ValueError for one that is listed twice, TypeError for a list that is none.
    """
    listed = [(ModuleType.FLOW, m) for m in _list("flows", flows)] + [(ModuleType.JOB, m) for m in _list("jobs", jobs)]
    specs: list[ModuleSpec] = []
    problems: list[str] = []
    seen: set[object] = set()
    for type_, module in listed:
        name, identity = module_name(module), module_identity(module)
        if identity in seen:
            problems.append(f"{name!r} is listed twice")
        seen.add(identity)
        own = ModuleType.FLOW if isinstance(module, Flow) else ModuleType.JOB if isinstance(module, Job) else type_
        specs.append(ModuleSpec(len(specs), module, name, own))
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return tuple(specs)


def _list(what: str, modules: Iterable[Any]) -> list[Any]:
    if isinstance(modules, str) or not isinstance(modules, Iterable):
        raise TypeError(f"{what} must be a list of modules, got {modules!r}")
    return list(modules)


def same_module(one: object, other: object) -> bool:
    """Identity; for strings equality."""
    return module_identity(one) == module_identity(other)


def module_identity(module: object) -> object:
    """What is equal for one and the same module, while it lives: strings go by value, all else by identity."""
    return module if isinstance(module, str) else id(module)


def module_name(module: Any) -> str:
    """What `ModuleState.module` says: a flow's or job's slug, the path, the Python module's name, else the qualname."""
    if isinstance(module, Flow | Job):
        return module.slug
    if isinstance(module, str):
        return module
    if isinstance(module, types.ModuleType):
        return module.__name__
    try:
        own = getattr(module, "__qualname__", None)
    except Exception:  # somebody's own __getattr__; what is wrong with the module is for its registration to tell
        own = None
    return own if isinstance(own, str) else type(module).__qualname__


def path_of(module: Any, definition: FlowDefinition) -> str | None:
    """The dotted path by which a command finds the module, whose definition that is; None where nobody can tell."""
    if isinstance(module, str):
        return module
    if isinstance(module, types.ModuleType):
        return module.__name__
    # What is declared stands beside its handlers, mostly.
    holders = [module if isinstance(module, type) else type(module), *(step.handler for step in definition.steps)]
    for name in dict.fromkeys(getattr(holder, "__module__", None) for holder in holders):
        found = sys.modules.get(name) if isinstance(name, str) and name != "__main__" else None
        for attribute, value in () if found is None else tuple(vars(found).items()):
            if value is module:
                return f"{name}:{attribute}"
    return None


def definition_of(module: Any) -> FlowDefinition:
    """The module's definition; a dotted path is imported first. Runs the user's code, which may hang or raise anything.

    Raises DefinitionError when it cannot be loaded or is no flow module.
    """
    found = load(module) if isinstance(module, str) else module
    try:
        define = getattr(found, "__pgflow_definition__", None)
        definition = define() if callable(define) else None
    except Exception as error:
        msg = f"the definition of {module_name(module)} raised {type(error).__name__}: {text_of(error)}"
        raise DefinitionError(msg) from error
    if not callable(define):
        raise DefinitionError(
            f"{module_name(module)} is not a flow: it has no __pgflow_definition__(); pass a Flow, a job, or define it"
            f"{_held_by(found)}"
        )
    if not isinstance(definition, FlowDefinition):
        raise DefinitionError(
            f"{module_name(module)}.__pgflow_definition__() returned {type(definition).__name__}, not a FlowDefinition"
        )
    return definition


def load(path: str) -> Any:
    """What a dotted path names: `package.module` or `package.module:attribute.of.it`. Raises DefinitionError."""
    name, colon, attributes = path.partition(":")
    if not name or (colon and not attributes):
        raise DefinitionError(f"{path!r} is no dotted path: write 'package.module' or 'package.module:attribute'")
    try:
        found = importlib.import_module(name)
    except Exception as error:
        split = ":".join(name.rsplit(".", 1))
        fits = isinstance(error, ImportError) and not colon and split != name
        hint = f" (for an attribute of a module write '{split}')" if fits else ""
        raise DefinitionError(f"importing {path!r} raised {type(error).__name__}: {text_of(error)}{hint}") from error
    for attribute in attributes.split(".") if attributes else ():
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise DefinitionError(f"{path!r}: {name} has no attribute {attribute!r}{_held_by(found)}") from error
        except Exception as error:
            raise DefinitionError(f"looking up {path!r} raised {type(error).__name__}: {text_of(error)}") from error
    return found


def _held_by(found: object) -> str:
    """What of a Python module could have been meant, as paths; nothing of anything else."""
    if not isinstance(found, types.ModuleType):
        return ""
    held = [f"{found.__name__}:{name}" for name, value in vars(found).items() if isinstance(value, Flow | Job)]
    return f"; it holds {', '.join(held)}" if held else ""
