"""Tables made from the code, so that they say what it does: settings, commands, names of the telemetry."""

import inspect
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, cast

import click
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from benchmarks import headline
from pgflow_starter import config
from pgflow_starter.cli.commands import commands
from pgflow_starter.core.symptoms import SYMPTOMS
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.gauges import Gauges
from pgflow_starter.telemetry.instruments import instruments_of


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    tables = {
        "settings": settings,
        "commands": every_command,
        "instruments": every_instrument,
        "telemetry-names": telemetry,
        "symptoms": every_symptom,
        "measured": headline.lines,
    }
    for name, lines in tables.items():
        app.add_directive(name, type(name, (Generated,), {"lines": staticmethod(lines)}))
    return {"parallel_read_safe": True}


class Generated(SphinxDirective):
    """A directive without content of its own; `lines` gives Markdown."""

    @staticmethod
    def lines() -> Iterable[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        container = nodes.section()
        container.document = self.state.document
        self.state.nested_parse(
            StringList(list(self.lines()), source="generated"), self.content_offset, container, match_titles=True
        )
        return list(container.children)


def settings() -> Iterator[str]:
    """A row for each setting: default and bounds by the code, the meaning by its docstring."""
    told = ModuleAnalyzer.for_module(config.__name__).find_attr_docs()
    defaults = config.Settings()
    yield from ("| setting | default | allowed | meaning |", "|---|---|---|---|")
    for field in fields(config.Settings):
        meaning = " ".join(line.strip() for line in told[("Settings", field.name)]).strip()
        default = getattr(defaults, field.name)
        shown = "" if default is None else f"`{default if isinstance(default, float | int) else repr(default)}`"
        if isinstance(default, str):
            shown = f'`"{default}"`'
        yield f"| `{field.name}` | {shown} | {config.bounds(field.name)} | {meaning} |"


def every_command() -> Iterator[str]:
    """A section for each command: what its --help says, and its options with their variables."""
    yield from _command(commands, ("pgflow-starter",))


def _command(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from _command(command.commands[name], (*path, name))
        return
    usage = " ".join((*path, *(p.metavar or p.human_readable_name for p in _arguments(command))))
    yield from (f"### `{' '.join(path[1:])}`", "", "```text", f"{usage} [OPTIONS]", "```", "")
    yield from _help(inspect.cleandoc(command.help or ""))
    yield from ("", "| option | variable | |", "|---|---|---|")
    for option in command.params:
        if isinstance(option, click.Option):
            flag = (
                option.opts[0] if option.is_flag else f"{option.opts[0]} {option.metavar or option.type.name.upper()}"
            )
            yield f"| `{flag}` | `{option.envvar}` | {option.help} |"
    for argument in _arguments(command):
        if argument.envvar:
            yield f"| `{argument.metavar}` | `{argument.envvar}` | Instead of the argument. |"
    yield ""


def _arguments(command: click.Command) -> list[click.Argument]:
    return [p for p in command.params if isinstance(p, click.Argument)]


def _help(text: str) -> Iterator[str]:
    """click's help as Markdown: what follows a \\b stays as it is."""
    for verbatim, group in itertools.groupby(_marked(text), key=lambda pair: pair[0]):
        lines = [line for _, line in group]
        yield from ("```text", *lines, "```", "") if verbatim else (*lines, "")


def _marked(text: str) -> Iterator[tuple[bool, str]]:
    verbatim = False
    for line in text.splitlines():
        if line == "\b" or (verbatim and not line.strip()):
            verbatim = line == "\b"
        else:
            yield verbatim, line


def every_instrument() -> Iterator[str]:
    """A row for each instrument, as the code asks OpenTelemetry for it."""
    meter = _Meter()
    instruments_of(meter)
    gauges = Gauges(meter, cast("Any", meter))
    gauges.open()
    gauges.close()
    yield from ("| name, and what Prometheus calls it | kind | unit | attributes | |", "|---|---|---|---|---|")
    for name, kind, unit, told in sorted(meter.made):
        attributes = ", ".join(f"`{attribute}`" for attribute in names.ATTRIBUTES_OF[name])
        yield f"| `{name}` `{prometheus_name(name, kind, unit)}` | {kind} | `{unit}` | {attributes} | {told} |"
    yield ""


def prometheus_name(name: str, kind: str, unit: str) -> str:
    """As the exporter makes it of an instrument's; a histogram's has `_bucket`, `_count` or `_sum` behind it."""
    suffixes = ("_seconds" if unit == "s" else "", "_total" if kind == "counter" else "")
    return name.replace(".", "_") + "".join(suffixes)


class _Meter:
    """A provider and its meter that write down what is asked of them."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, str, str]] = []

    def get_meter(self, *_: object, **__: object) -> "_Meter":
        return self

    def create_histogram(self, name: str, unit: str, description: str, **_: object) -> None:
        self.made.append((name, "histogram", unit, description))

    def create_counter(self, name: str, unit: str, description: str) -> None:
        self.made.append((name, "counter", unit, description))

    def create_observable_gauge(self, name: str, _: object, unit: str, description: str) -> None:
        self.made.append((name, "gauge", unit, description))

    def create_observable_up_down_counter(self, name: str, _: object, unit: str, description: str) -> None:
        self.made.append((name, "up-down counter", unit, description))


def telemetry() -> Iterator[str]:
    """Lists of the names in telemetry/names.py, by what they are."""
    kinds = {"SPAN": "Spans", "EVENT": "Events"}
    for kind, heading in kinds.items():
        values = [value for name, value in vars(names).items() if name.startswith(f"{kind}_")]
        values += [
            function(f"<{function.__code__.co_varnames[0]}>")
            for name, function in vars(names).items()
            if kind == "SPAN" and name.startswith("span_")
        ]
        if values:
            yield from (f"## {heading}", "", *(f"- `{value}`" for value in values), "")
    attributes = [
        value
        for name, value in vars(names).items()
        if isinstance(value, str) and name.isupper() and not name.startswith(("SPAN_", "EVENT_", "METRIC_", "SCOPE"))
    ]
    yield from ("## Attributes", "", *(f"- `{value}`" for value in attributes), "")


def every_symptom() -> Iterator[str]:
    """A row for each section of the page on troubleshooting: by which words it is told, and what it is about."""
    yield from ("| section | told as | it means |", "|---|---|---|")
    for symptom in SYMPTOMS:
        told = ", ".join(f"`{word}`" for word in symptom.words) or "anything else"
        yield f"| [{symptom.title}](#{symptom.anchor}) | {told} | {symptom.means} |"
