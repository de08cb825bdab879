"""Flow modules: what one is called, which are the same, and how its definition is found."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of, module_name, module_specs, path_of, same_module
from pgflow_starter.core.state import ModuleType

STEP = pgflow.StepDefinition("a", lambda _input, _ctx: None)
SHOP = pgflow.FlowDefinition("shop", (STEP,))


def flow(slug: str = "shop") -> pgflow.Flow:
    made = pgflow.Flow(slug)
    made.step("a")(STEP.handler)
    return made


def returning(value: Any) -> Any:
    return types.SimpleNamespace(__pgflow_definition__=lambda: value)


class Instance:
    def __pgflow_definition__(self) -> pgflow.FlowDefinition:
        return SHOP


AN_INSTANCE = Instance()


class OfAClass:
    @classmethod
    def __pgflow_definition__(cls) -> pgflow.FlowDefinition:
        return SHOP


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


# Names and sameness


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (flow("process_order"), "process_order"),
        (pgflow.job("send_email")(STEP.handler), "send_email"),
        ("shop.flows", "shop.flows"),
        ("shop.flows:order", "shop.flows:order"),
        (types.ModuleType("shop.mod"), "shop.mod"),
        (Instance, "Instance"),
        (Instance(), "Instance"),
        (OfAClass, "OfAClass"),
        (STEP.handler, "<lambda>"),
        (3, "int"),
        (None, "NoneType"),
    ],
)
def test_a_module_is_called_by_what_it_is(module: Any, name: str) -> None:
    assert module_name(module) == name


def test_a_module_that_has_no_peace_to_give_its_name_is_called_by_its_class() -> None:
    class Raising:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert module_name(Raising()).endswith("Raising")


def test_sameness_is_identity_and_for_strings_equality() -> None:
    one = flow()
    assert same_module(one, one)
    assert not same_module(one, flow())
    assert same_module("shop:order", str(b"shop:order", "ascii"))
    assert not same_module("shop", one)


def test_the_modules_are_listed_flows_first_and_typed_by_their_list_until_their_own_kind_is_known() -> None:
    order, email = flow("order"), pgflow.job("email")(STEP.handler)
    specs = module_specs(flows=[email, "shop:a"], jobs=(m for m in [order, Instance]))
    assert [(s.key, s.name, s.type) for s in specs] == [
        (0, "email", "job"),
        (1, "shop:a", "flow"),
        (2, "order", "flow"),
        (3, "Instance", "job"),
    ]
    assert [s.module for s in specs] == [email, "shop:a", order, Instance]
    assert module_specs([], []) == ()


def test_a_module_listed_twice_is_refused_in_one_list_and_across_both() -> None:
    order, one = flow("order"), Instance()
    with pytest.raises(ValueError, match=r"^'order' is listed twice; 'shop:a' is listed twice; 'Instance' is"):
        module_specs([order, "shop:a", order, order], ["shop:a", one, one])


def test_two_modules_of_one_name_are_two_modules() -> None:
    assert len(module_specs([Instance(), Instance()], [flow("a"), flow("a")])) == 4


@pytest.mark.parametrize("value", ["shop", 3, None, flow()])
def test_a_list_of_modules_that_is_none_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="flows must be a list of modules"):
        module_specs(value, [])
    with pytest.raises(TypeError, match="jobs must be a list of modules"):
        module_specs([], value)


HERE = flow()


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("shop.flows:order", "shop.flows:order"),
        (types.ModuleType("shop.mod"), "shop.mod"),
        (HERE, f"{__name__}:HERE"),
        (OfAClass, f"{__name__}:OfAClass"),
        (AN_INSTANCE, f"{__name__}:AN_INSTANCE"),
        (flow(), None),
        (returning(SHOP), None),
    ],
)
def test_a_module_s_path_is_where_its_python_module_has_it(module: Any, path: str | None) -> None:
    assert path_of(module, SHOP) == path


# Definitions


@pytest.mark.parametrize("module", [flow(), Instance(), OfAClass, OfAClass(), returning(SHOP)], ids=module_name)
def test_whatever_returns_a_definition_is_a_flow_module(module: Any) -> None:
    found = definition_of(module)
    assert replace(found, kind=None) == SHOP
    assert found.kind is (ModuleType.FLOW if isinstance(module, pgflow.Flow) else None)


def test_a_python_module_is_one_and_so_is_its_path(package: Path) -> None:
    (package / "pgf_shop").mkdir()
    (package / "pgf_shop" / "__init__.py").write_text("")
    (package / "pgf_shop" / "flows.py").write_text(
        "import pgflow_starter as pgflow\n"
        "class Orders:\n"
        "    order = pgflow.Flow('order')\n"
        "    order.step('a')(lambda deps, ctx: None)\n"
        "def __pgflow_definition__():\n"
        "    return Orders.order.__pgflow_definition__()\n"
    )
    assert definition_of("pgf_shop.flows").slug == "order"
    assert definition_of("pgf_shop.flows:Orders.order").slug == "order"
    assert definition_of(sys.modules["pgf_shop.flows"]).slug == "order"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "'' is no dotted path: write 'package.module' or"),
        (":order", "':order' is no dotted path"),
        ("pgf_broken:", "'pgf_broken:' is no dotted path"),
        (".relative", "importing '.relative' raised"),
        ("pgf_nowhere", "importing 'pgf_nowhere' raised ModuleNotFoundError: No module named 'pgf_nowhere'$"),
        ("json.dumper", r"\(for an attribute of a module write 'json:dumper'\)"),
        ("json:nothing", "'json:nothing': json has no attribute 'nothing'"),
        ("json:dumps..x", "has no attribute ''"),
        ("json:dumps", r"json:dumps is not a flow: it has no __pgflow_definition__\(\)"),
        ("pgf_broken", "importing 'pgf_broken' raised ZeroDivisionError: division by zero"),
        ("pgf_mute", "importing 'pgf_mute' raised MuteError"),
        ("pgf_lazy:order", "looking up 'pgf_lazy:order' raised RuntimeError: not today"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(package: Path, path: str, told: str) -> None:
    (package / "pgf_broken.py").write_text("1 / 0\n")
    (package / "pgf_mute.py").write_text(
        "class MuteError(Exception):\n    def __str__(self):\n        return self\nraise MuteError\n"
    )
    (package / "pgf_lazy.py").write_text("def __getattr__(name):\n    raise RuntimeError('not today')\n")
    with pytest.raises(pgflow.DefinitionError, match=told):
        definition_of(path)


@pytest.mark.parametrize("module", [3, None, object(), SHOP, Path(), types.SimpleNamespace(__pgflow_definition__=3)])
def test_what_has_no_definition_is_no_flow_and_says_what_to_do(module: Any) -> None:
    with pytest.raises(pgflow.DefinitionError, match=r"is not a flow.*pass a Flow, a job, or define it"):
        definition_of(module)


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "NoneType"), ({"slug": "a"}, "dict"), (flow(), "Flow"), (pgflow.Flow, "type")]
)
def test_a_definition_that_is_none_is_refused_by_what_it_is(value: Any, kind: str) -> None:
    with pytest.raises(pgflow.DefinitionError, match=f"returned {kind}, not a FlowDefinition"):
        definition_of(returning(value))


def test_a_definition_that_raises_is_told_with_its_cause() -> None:
    empty = pgflow.Flow("empty")
    with pytest.raises(pgflow.DefinitionError, match="definition of empty raised ValueError: flow 'empty' has no"):
        definition_of(empty)


def test_a_definition_that_cannot_even_be_looked_at_is_told_as_one_that_raised() -> None:
    class Raising:
        @property
        def __pgflow_definition__(self) -> Any:
            raise pgflow.TransientError("later")

    with pytest.raises(pgflow.DefinitionError, match="raised TransientError: later"):
        definition_of(Raising())


def test_a_class_whose_definition_needs_an_instance_is_told_as_one_that_raised() -> None:
    with pytest.raises(pgflow.DefinitionError, match=r"definition of Instance raised TypeError"):
        definition_of(Instance)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_definition_that_wants_to_end_the_process_is_not_held_up(error: BaseException) -> None:
    def define() -> None:
        raise error

    with pytest.raises(type(error)):
        definition_of(types.SimpleNamespace(__pgflow_definition__=define))
