"""The page on troubleshooting has the sections that the code names, and what it has a person ask can be asked."""

from __future__ import annotations

import re

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.symptoms import PAGE, SYMPTOMS
from tests.support.pages import blocks
from tests.support.programs import ROOT
from tests.support.starters import running

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
SQL = [block.text for block in blocks(ROOT / PAGE) if block.language == "sql"]

order = pgflow.Flow("order")


@order.step()
def charge(given: object, ctx: pgflow.TaskContext) -> object:
    return given


def test_each_symptom_has_its_section_and_each_section_its_symptom() -> None:
    sections = re.findall(r"(?m)^### (.+)$", TEXT)
    assert sections == [symptom.title for symptom in SYMPTOMS]


def test_each_section_says_what_it_means_how_to_confirm_it_and_what_to_do() -> None:
    for title, section in zip(*[iter(re.split(r"(?m)^### (.+)$", TEXT)[1:])] * 2, strict=True):
        asked = section.partition("\n## ")[0]
        assert [word for word in ("**Confirm.**", "**Do.**") if word not in asked] == [], title


def test_there_are_queries() -> None:
    assert len(SQL) >= 8


@pytest.mark.parametrize("statement", SQL, ids=lambda text: text.split("\n")[0])
def test_the_query_can_be_asked(statement: str, database: str) -> None:
    with running(database, jobs=[], flows=[order]) as starter:
        starter.client.start_flow(order, 1).wait(timeout=30)
    with psycopg.connect(database) as connection:
        for single in statement.split(";\n"):
            connection.execute(single.encode())
