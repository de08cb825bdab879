"""The registry: who has which slug, and who is found under which name."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.modules.registry import FlowRegistry


def definition(slug: str, **options: Any) -> pgflow.FlowDefinition:
    return pgflow.FlowDefinition(slug, (pgflow.StepDefinition("a", lambda _input, _ctx: None),), **options)


class Shop:
    """A module whose slug is known only once it is asked."""


def registry(*modules: Any) -> tuple[FlowRegistry, tuple[ModuleSpec, ...]]:
    specs = module_specs(modules, ())
    return FlowRegistry(specs), specs


def test_a_registered_module_is_found_by_itself_its_name_and_its_slug() -> None:
    shop = Shop()
    flows, (spec,) = registry(shop)
    registered = flows.register(spec, definition("orders"))
    assert registered.definition.slug == "orders"
    for key in (shop, "Shop", "orders"):
        assert flows.get(key) is registered
    assert flows.of(spec) is registered
    assert flows.list() == (registered,)


def test_what_is_not_registered_is_not_found() -> None:
    flows, (spec,) = registry(Shop())
    for key in (spec.module, "Shop", "orders", Shop(), None, 3):
        assert flows.get(key) is None
    with pytest.raises(KeyError, match="Shop"):
        flows.of(spec)
    flows.unregister("orders")


def test_registering_again_replaces_the_definition() -> None:
    flows, (spec,) = registry(Shop())
    flows.register(spec, definition("orders"))
    flows.register(spec, definition("orders", timeout=7))
    assert [r.definition.timeout for r in flows.list()] == [7]


def test_registering_again_under_another_slug_frees_the_old_one() -> None:
    flows, (one, other) = registry(Shop(), Shop())
    flows.register(one, definition("old"))
    flows.register(one, definition("new"))
    assert flows.get("old") is None
    assert flows.register(other, definition("old")).spec is other


def test_a_second_module_of_a_slug_is_refused_and_both_are_named() -> None:
    flows, (one, other) = registry(Shop(), "shop:order")
    flows.register(one, definition("orders"))
    with pytest.raises(pgflow.SlugTakenError, match="slug 'orders' of shop:order is taken by Shop") as told:
        flows.register(other, definition("orders"))
    assert isinstance(told.value, pgflow.PermanentError)
    assert flows.of(one).spec is one
    with pytest.raises(KeyError):
        flows.of(other)


def test_the_refused_one_keeps_what_it_had() -> None:
    flows, (one, other) = registry(Shop(), Shop())
    flows.register(one, definition("a"))
    flows.register(other, definition("b"))
    with pytest.raises(pgflow.SlugTakenError):
        flows.register(other, definition("a"))
    assert flows.of(other).definition.slug == "b"


def test_a_slug_that_is_known_beforehand_is_kept_for_its_module() -> None:
    # The path is the quicker one, yet the flow it leads to is listed itself.
    flows, (path, flow) = registry("shop:order", pgflow.Flow("order"))
    with pytest.raises(pgflow.SlugTakenError, match="taken by order"):
        flows.register(path, definition("order"))
    assert flows.register(flow, definition("order")).spec is flow


def test_of_two_flows_with_one_slug_the_first_listed_has_it() -> None:
    flows, (one, other) = registry(pgflow.Flow("order"), pgflow.Flow("order"))
    with pytest.raises(pgflow.SlugTakenError):
        flows.register(other, definition("order"))
    flows.register(one, definition("order"))


def test_unregistering_frees_the_slug() -> None:
    flows, (one, other) = registry(Shop(), Shop())
    flows.register(one, definition("orders"))
    flows.unregister(one.module)
    assert flows.register(other, definition("orders")).spec is other


def test_a_name_goes_before_a_slug() -> None:
    flows, (named, slugged) = registry("orders", Shop())
    flows.register(slugged, definition("orders"))
    by_name = flows.register(named, definition("process_order"))
    assert flows.get("orders") is by_name


def test_where_several_have_the_name_the_first_listed_is_found() -> None:
    flows, (one, other) = registry(Shop(), Shop())
    flows.register(other, definition("b"))
    first = flows.register(one, definition("a"))
    assert flows.get("Shop") is first


def test_of_many_that_register_at_once_exactly_one_gets_the_slug() -> None:
    flows, specs = registry(*(Shop() for _ in range(8)))
    start = threading.Barrier(8)

    def register(spec: ModuleSpec) -> bool:
        start.wait(10)
        try:
            flows.register(spec, definition("orders"))
        except pgflow.SlugTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(register, specs))
    assert won.count(True) == 1
    assert flows.list()[0].spec is specs[won.index(True)]
