"""What is asked again and again: what is new is told, and a database that is away meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.text import Text

from pgflow_starter.cli.changes import Line
from pgflow_starter.cli.signals import handled
from pgflow_starter.cli.watching import Telling
from pgflow_starter.errors import DatabaseError, RunNotFoundError

AWAY = DatabaseError("the bank\nis closed", connection_lost=True)
TELLING = Telling[int](
    picture=lambda answer: Text(str(answer)),
    lines=lambda answer: [Line("all", "always"), Line("it", f"now {answer}")],
    data=lambda answer: {"now": answer},
)


def asking(*answers: int | Exception) -> Callable[[], int]:
    """One after the other."""
    left = iter(answers)

    def ask() -> int:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def watched(*answers: int | Exception, as_json: bool = False, patient: bool = False) -> int | None:
    """Until the answer is 9."""
    with handled() as signals:
        telling = replace(TELLING, patient=patient)
        return telling.watch(asking(*answers), signals, 0.0, as_json=as_json, enough=lambda answer: answer == 9)


def test_what_is_new_is_a_line_an_outage_is_one_and_its_end_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(1, 1, AWAY, AWAY, 2, 9) == 9
    told = [line.partition(" s  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert told == ["always", "now 1", "the bank is closed", "the database is back", "now 2", "now 9"]


def test_as_json_each_answer_is_a_line_and_an_outage_is_told_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(1, AWAY, AWAY, 2, AWAY, 9, as_json=True) == 9
    told = capsys.readouterr()
    assert (told.out, told.err) == ('{"now": 1}\n{"now": 2}\n{"now": 9}\n', "the bank is closed\n" * 2)


@pytest.mark.parametrize(
    "answers", [(AWAY,), (1, RunNotFoundError("gone"))], ids=["at the first question", "for another reason"]
)
def test_what_can_not_be_waited_out_is_raised(answers: tuple[int | Exception, ...]) -> None:
    with pytest.raises((DatabaseError, RunNotFoundError)):
        watched(*answers)


def test_who_is_patient_waits_for_the_first_answer_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(AWAY, 9, patient=True) == 9
    assert "the bank is closed" in capsys.readouterr().out
