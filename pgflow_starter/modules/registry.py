"""`FlowRegistry`: which module stands for which slug, in this starter."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.flow import Flow, Job
from pgflow_starter.core.modules import ModuleSpec, same_module
from pgflow_starter.errors import SlugTakenError


class Registration(NamedTuple):
    """A module and the definition it gave, with the kind of its list where it had none."""

    spec: ModuleSpec
    definition: FlowDefinition


class FlowRegistry:
    """Registrations by module and by slug. Thread-safe; never blocks."""

    def __init__(self, specs: Iterable[ModuleSpec] = ()) -> None:
        self._lock = threading.Lock()
        self._by_slug: dict[str, Registration] = {}
        self._by_key: dict[int, Registration] = {}
        # Modules register at the same time, yet of two with one slug the first listed shall have it. Where the slug is
        # known before any user code ran, it is kept for that one.
        self._reserved: dict[str, ModuleSpec] = {}
        for spec in specs:
            if isinstance(spec.module, Flow | Job):
                self._reserved.setdefault(spec.module.slug, spec)

    def register(self, spec: ModuleSpec, definition: FlowDefinition) -> Registration:
        """Register a module, or again with a new definition. Raises SlugTakenError when another module has the slug."""
        with self._lock:
            registered = self._by_slug.get(definition.slug)
            taken = registered.spec if registered is not None else self._reserved.get(definition.slug, spec)
            if taken.key != spec.key:
                msg = (
                    f"slug {definition.slug!r} of {spec.name} is taken by {taken.name}:"
                    " give one of them another slug, or list the module once"
                )
                raise SlugTakenError(msg)
            if definition.kind is None:
                definition = replace(definition, kind=spec.type)
            before = self._by_key.get(spec.key)
            if before is not None:
                del self._by_slug[before.definition.slug]
            registration = Registration(spec, definition)
            self._by_slug[definition.slug] = self._by_key[spec.key] = registration
            return registration

    def unregister(self, module: object) -> None:
        """Forget a module, given as itself or by its slug; nothing for an unknown one."""
        with self._lock:
            found = self._find(module)
            if found is not None:
                del self._by_slug[found.definition.slug], self._by_key[found.spec.key]

    def get(self, module: object) -> Registration | None:
        """The registration of a module, given as itself, by its name or by its slug."""
        with self._lock:
            return self._find(module)

    def by_slug(self, slug: str) -> Registration | None:
        """The registration that has the slug."""
        with self._lock:
            return self._by_slug.get(slug)

    def of(self, spec: ModuleSpec) -> Registration:
        """The registration of a starter's entry. Raises KeyError when it has none."""
        found = self._by_key.get(spec.key)
        if found is None:
            raise KeyError(spec.name)
        return found

    def list(self) -> tuple[Registration, ...]:
        """All registrations, in the order of registering."""
        with self._lock:
            return tuple(self._by_slug.values())

    def _find(self, module: object) -> Registration | None:
        listed = sorted(self._by_slug.values(), key=lambda r: r.spec.key)
        for registration in listed:
            if same_module(registration.spec.module, module):
                return registration
        if not isinstance(module, str):
            return None
        named = (r for r in listed if r.spec.name == module)
        return next(named, None) or self._by_slug.get(module)
