"""As much of Prometheus's query language as the alert rules are written in, over two readings of an exporter.

`increase` and `rate` are what was added from the first to the second: of a rate only its ratio to another is right.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from tests.support.exposition import Sample

Vector: TypeAlias = dict[frozenset[tuple[str, str]], float]
Reading: TypeAlias = Iterable[Sample]

_TOKEN = re.compile(r'\s*("[^"]*"|[A-Za-z_:][\w:]*|\d+(?:\.\d+)?|!=|[-+/<>=(){}\[\],])')
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {"-": operator.sub, "+": operator.add, "/": operator.truediv}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt}


class Selector(NamedTuple):
    """A metric's name, and what its labels must be, or must not."""

    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()

    def of(self, reading: Reading) -> Vector:
        """What it selects."""
        return {
            frozenset(labels.items()): value
            for name, labels, value in reading
            if name == self.name
            and all((labels.get(label, "") == wanted) == (how == "=") for label, how, wanted in self.matchers)
        }


class Query:
    """One expression, and what it names: `selectors`, and those `grouped` by which labels. Raises ValueError."""

    def __init__(self, text: str, before: Reading = (), now: Reading = ()) -> None:
        self.selectors: list[Selector] = []
        self.grouped: list[tuple[Selector, set[str]]] = []
        self._before, self._now = list(before), list(now)
        self._left = self._tokens(text)
        self.value = self._matched()
        if self._left:
            raise ValueError(f"what is {' '.join(self._left)!r} in {text!r}?")

    @staticmethod
    def _tokens(text: str) -> list[str]:
        tokens, at = [], 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"what is {text[at:]!r}?")
            tokens.append(found[1])
            at = found.end()
        return tokens

    def _next(self, *wanted: str) -> str:
        if not self._left or (wanted and self._left[0] not in wanted):
            raise ValueError(f"{' or '.join(wanted) or 'something'} is missing before {' '.join(self._left)!r}")
        return self._left.pop(0)

    def _sees(self, *tokens: str) -> bool:
        return bool(self._left) and self._left[0] in tokens

    def _matched(self) -> Vector:
        value = self._compared()
        while self._sees("and", "unless"):
            wanted = self._next() == "and"
            self._next("on")
            labels = self._listed()
            others = {_among(labels, key) for key in self._compared()}
            value = {key: number for key, number in value.items() if (_among(labels, key) in others) is wanted}
        return value

    def _compared(self) -> Vector:
        value = self._sum()
        if not self._sees(*_COMPARISONS):
            return value
        holds, bound = _COMPARISONS[self._next()], float(self._next())
        return {labels: number for labels, number in value.items() if holds(number, bound)}

    def _sum(self) -> Vector:
        value = self._atom()
        while self._sees(*_ARITHMETIC):
            do, other = _ARITHMETIC[self._next()], self._atom()
            value = {labels: do(value[labels], other[labels]) for labels in value.keys() & other.keys()}
        return value

    def _atom(self) -> Vector:
        word = self._next()
        if word == "(":
            value = self._sum()
        elif word in ("sum", "max"):
            return self._grouped(sum if word == "sum" else max)
        elif word in ("increase", "rate"):
            self._next("(")
            selector = self._selector(self._next())
            self._next("[")
            while self._next() != "]":
                pass
            before = selector.of(self._before)
            value = {labels: n - before.get(labels, 0.0) for labels, n in selector.of(self._now).items()}
        elif word == "absent":
            self._next("(")
            value = {} if self._selector(self._next()).of(self._now) else {frozenset(): 1.0}
        else:
            return self._selector(word).of(self._now)
        self._next(")")
        return value

    def _grouped(self, into: Callable[[Iterable[float]], float]) -> Vector:
        self._next("by")
        labels, first = self._listed(), len(self.selectors)
        self._next("(")
        groups: dict[frozenset[tuple[str, str]], list[float]] = {}
        for key, number in self._sum().items():
            groups.setdefault(_among(labels, key), []).append(number)
        self._next(")")
        self.grouped += [(selector, labels) for selector in self.selectors[first:]]
        return {key: into(numbers) for key, numbers in groups.items()}

    def _listed(self) -> set[str]:
        self._next("(")
        labels = {self._next()}
        while self._next(",", ")") == ",":
            labels.add(self._next())
        return labels

    def _selector(self, name: str) -> Selector:
        matchers: list[tuple[str, str, str]] = []
        if self._sees("{"):
            while self._next("{", ",", "}") != "}":
                matchers.append((self._next(), self._next("=", "!="), self._next().strip('"')))
        selector = Selector(name, tuple(matchers))
        self.selectors.append(selector)
        return selector


def _among(labels: set[str], key: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset(pair for pair in key if pair[0] in labels)
