"""`flow graph`: steps, kinds and dependencies, without a database."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter.cli.flow_drawing import Row, drawing
from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
from tests.support.programs import environment, finished

PROGRAM = ("-m", "pgflow_starter")
SHOP = """
import pgflow_starter as pgflow

print("hello from the import")
order = pgflow.Flow("order", max_attempts=5)

@order.step()
def lines(given, ctx): ...

@order.step(timeout=7, start_delay=3)
def end(given, ctx): ...

@order.map(array="lines")
def price(given, ctx): ...

@order.step(depends_on=["price", "end"])
def invoice(given, ctx): ...

@pgflow.job("mail")
def mail(given, ctx): ...

class Exits:
    @staticmethod
    def __pgflow_definition__():
        raise SystemExit(3)
"""

CONDITIONAL = """
import pgflow_starter as pgflow

conditional = pgflow.Flow("conditional")

@conditional.step(if_={"vip": True, "tags": ["#1"]}, if_not={"test": True}, when_unmet="fail")
def gift(given, ctx): ...

@conditional.step(depends_on=["gift"], when_exhausted="skip-cascade")
def wrap(given, ctx): ...

@conditional.step(depends_on=["wrap"])
def send(given, ctx): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules, to be the current one."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "offers.py").write_text(CONDITIONAL)
    return tmp_path


def test_in_a_pipe_it_is_mermaid_and_nothing_else(folder: Path) -> None:
    done = finished("-P", *PROGRAM, "flow", "graph", "shop:order", cwd=folder)
    assert done.stdout.splitlines() == [
        "---",
        "title: order",
        "---",
        "flowchart TD",
        '    step_lines["lines"]',
        '    step_end["end"]',
        '    step_price[["price"]]',
        '    step_invoice["invoice"]',
        "    step_lines --> step_price",
        "    step_price --> step_invoice",
        "    step_end --> step_invoice",
    ]
    assert (done.returncode, done.stderr) == (0, "hello from the import\n")


def test_conditions_are_told_in_both_forms(folder: Path) -> None:
    graph = (*PROGRAM, "flow", "graph", "offers:conditional")
    mermaid = finished("-P", *graph, cwd=folder).stdout.splitlines()
    patterns = "if {#34;tags#34;: [#34;#35;1#34;], #34;vip#34;: true}<br/>if not {#34;test#34;: true}"
    assert mermaid[4:7] == [
        f'    step_gift["gift<br/>{patterns}<br/>else fail"]',
        '    step_wrap["wrap<br/>exhausted: skip-cascade"]',
        '    step_send["send"]',
    ]
    drawn = finished("-P", *graph, "--format", "terminal", cwd=folder).stdout
    assert "its own options" not in drawn
    assert drawn.splitlines()[2].split() == ["step", "kind", "waits", "for", "conditions"]
    for words in ('if {"tags": ["#1"], "vip": true}', 'if not {"test": true}', "else fail", "exhausted: skip-cascade"):
        assert drawn.count(words) == 1


def test_for_the_terminal_it_is_drawn(folder: Path) -> None:
    done = finished(*PROGRAM, "flow", "graph", "shop:order", "--format", "terminal", cwd=folder)
    told = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert told[0] == [
        "flow",
        "order:",
        "4",
        "steps,",
        "attempts",
        "5,",
        "base",
        "delay",
        "5",
        "s,",
        "timeout",
        "60",
        "s",
    ]
    assert told[1] == ["step", "kind", "waits", "for", "its", "own", "options"]
    assert told[3:] == [
        ["●", "lines", "single"],
        ["│", "●", "end", "single", "timeout", "7", "s,", "start", "delay", "3", "s"],
        ["◆", "│", "price", "map", "lines"],
        ["╰─┤"],
        ["●", "invoice", "single", "price,", "end"],
    ]


def test_a_job_is_one_step_and_an_old_terminal_gets_letters(folder: Path) -> None:
    env = {**environment(), "PYTHONIOENCODING": "ascii:replace", "PGFLOW_FORMAT": "terminal"}
    done = finished(*PROGRAM, "flow", "graph", "shop:mail", env=env, cwd=folder)
    assert done.stdout.startswith("job mail: 1 step, attempts 3, ")
    assert "options" not in done.stdout
    assert "* | mail | single" in done.stdout


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere:order", "importing 'nowhere:order' raised ModuleNotFoundError"),
        ("shop:other", "'shop:other': shop has no attribute 'other'"),
        ("shop", "shop is not a flow: it has no __pgflow_definition__(); pass a Flow, a job, or define it; it holds"),
        ("shop:", "write 'package.module' or 'package.module:attribute'"),
        ("shop:Exits", "importing 'shop:Exits' raised SystemExit: 3"),
    ],
)
def test_a_wrong_path_is_one_line_and_exit_code_1(folder: Path, path: str, words: str) -> None:
    done = finished(*PROGRAM, "flow", "graph", path, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    error = done.stderr.removeprefix("hello from the import\n")
    assert error.startswith("Error: ")
    assert words in error
    assert len(error.splitlines()) == 1
    assert ("shop:order, shop:mail" in error) == (path in ("shop", "shop:other"))


# The drawing


def flow_of(graph: dict[str, tuple[str, ...]]) -> FlowDefinition:
    return FlowDefinition("f", tuple(StepDefinition(slug, print, StepKind.SINGLE, d) for slug, d in graph.items()))


def drawn(graph: dict[str, tuple[str, ...]]) -> list[str]:
    return [f"{row.text:<8} {row.step.slug if row.step else ''}".rstrip() for row in drawing(flow_of(graph))]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("class Odd(BaseException): pass\nraise Odd('so it is')", 1, "importing 'odd' raised Odd: so it is"),
        ("raise SystemExit('so it is')", 1, "importing 'odd' raised SystemExit: so it is"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_a_module_may_raise_anything(tmp_path: Path, source: str, code: int, words: str) -> None:
    (tmp_path / "odd.py").write_text(source)
    done = finished("-P", *PROGRAM, "flow", "graph", "odd", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"Error: {words}\n")


def test_branches_part_and_meet_again() -> None:
    assert drawn({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("d",)}) == [
        "●        a",
        "├─╮",
        "● │      b",
        "│ ●      c",
        "├─╯",
        "●        d",
        "●        e",
    ]


def test_a_line_that_crosses_others_does_not_join_them() -> None:
    assert drawn({"a": (), "b": (), "c": (), "d": ("a", "c"), "e": ("b",)})[2:5] == [
        "│ │ ●    c",
        "├─┼─╯",
        "● │      d",
    ]


def test_steps_that_have_nothing_to_do_with_each_other_are_below_each_other() -> None:
    assert drawn({"a": (), "b": ()}) == ["●        a", "●        b"]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    slugs = [f"s{i}" for i in range(draw(st.integers(1, 9)))]
    return {
        slug: tuple(sorted(draw(st.sets(st.sampled_from(slugs[:i]), max_size=4)) if i else ()))
        for i, slug in enumerate(slugs)
    }


@given(graphs())
def test_every_drawing_can_be_read_back(graph: dict[str, tuple[str, ...]]) -> None:
    assert read_back(drawing(flow_of(graph))) == {slug: set(needs) for slug, needs in graph.items()}


def read_back(rows: tuple[Row, ...]) -> dict[str, set[str]]:
    """The graph that a person sees who follows the lines: each edge begins at the step above it."""
    found: dict[str, set[str]] = {}
    lines: dict[int, set[str]] = {}  # by column: the steps that a line comes from
    here, slug = 0, ""
    for row in rows:
        cells = row.text[::2]
        if row.step is not None:
            here, slug = next(i for i, sign in enumerate(cells) if sign in "●◆"), row.step.slug
            found[slug] = lines.pop(here, set())
            assert {i for i, sign in enumerate(cells) if sign == "│"} == set(lines)
            lines[here] = {slug}
            if not any(slug in step.depends_on for step in (r.step for r in rows) if step):
                del lines[here]
            continue
        (there,) = (i for i, sign in enumerate(cells) if sign not in "│┼─ " and i != here)
        assert set(row.text[2 * min(here, there) + 1 : 2 * max(here, there)]) <= set("─┼")
        lines[there] = {slug} if cells[there] in "╭╮" else {slug, *lines[there]}
        if cells[here] in "╰╯":
            del lines[here]
    return found
