"""The table of symptoms: what an error or a trouble is told as has one section to read on in, and no other has it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from pgflow_starter import errors
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, ModuleError
from pgflow_starter.core.symptoms import PAGE, SYMPTOMS, UNEXPECTED, see, see_error, symptom_of
from pgflow_starter.core.trouble import TroubleKind
from pgflow_starter.errors import PgflowError
from pgflow_starter.supervision import errors as supervisors_errors
from tests.support.programs import ROOT

SQLSTATE = re.compile("[0-9A-Z]{2,5}")


def error_classes() -> set[str]:
    rooms = (errors, supervisors_errors)
    classes = [c for room in rooms for c in vars(room).values() if isinstance(c, type) and issubclass(c, PgflowError)]
    return {c.__name__ for c in classes}


def test_every_kind_of_trouble_and_every_error_has_its_section() -> None:
    assert [word for word in (*TroubleKind, *error_classes()) if symptom_of(word) is UNEXPECTED] == []


def test_a_kind_of_trouble_has_a_section_of_its_own_name() -> None:
    assert {kind: symptom_of(kind).anchor for kind in TroubleKind} == {
        kind: kind.replace("_", "-") for kind in TroubleKind
    }


def test_every_error_type_that_is_written_in_the_code_has_its_section() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "pgflow_starter").rglob("*.py")]
    written = {name for source in sources for name in re.findall(r'error_type="(\w+)"', source)}
    written |= {"WorkerLost", "WorkerDeprecated"}
    of_handlers = {"ValueError", "QueryCanceled", "RaiseException"}  # of a task, or beside an SQLSTATE
    assert len(written - of_handlers) >= 8
    assert [word for word in written - of_handlers if symptom_of(word) is UNEXPECTED] == []


def test_no_section_is_about_what_is_never_told() -> None:
    drivers = {"OperationalError", "InterfaceError", "ProgrammingError", "NotSupportedError", "DataError"}
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pgflow_starter").rglob("*.py"))
    for word in (word for symptom in SYMPTOMS for word in symptom.words):
        known = word in {*TroubleKind, *error_classes(), *drivers} or SQLSTATE.fullmatch(word) is not None
        assert known or source.count(f'"{word}"') > 1 or f"class {word}(" in source, word


def test_no_word_stands_for_two_sections() -> None:
    words = [word for symptom in SYMPTOMS for word in symptom.words]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("word", "anchor"),
    [
        ("claims_refused", "claims-refused"),
        ("42501", "missing-rights"),
        ("42P01", "parts-gone"),
        ("42804", "statement-refused"),
        ("28P01", "login-refused"),
        ("57014", "took-too-long"),
        ("57P01", "database-away"),
        ("53300", "no-connection-free"),
        ("53100", "server-full"),
        ("XX000", "unexpected-error"),
        ("KeyError", "unexpected-error"),
    ],
)
def test_the_whole_word_counts_before_what_an_sqlstate_begins_with(word: str, anchor: str) -> None:
    assert see(word) == f"; see {PAGE}#{anchor}"


@pytest.mark.parametrize(
    ("phase", "error_type", "anchor"),
    [
        (Phase.REGISTRY, "KeyError", "definition-refused"),
        (Phase.REGISTRY, "SlugTakenError", "slug-taken"),
        (Phase.WORKER, "KeyError", "unexpected-error"),
        (Phase.WORKER, "MissingRightsError", "missing-rights"),
    ],
)
def test_what_a_definition_raises_is_the_definition_s(phase: Phase, error_type: str, anchor: str) -> None:
    error = ModuleError(ErrorClass.PERMANENT, phase, "no", error_type, datetime(2030, 1, 2, tzinfo=UTC))
    assert see_error(error) == f"; see {PAGE}#{anchor}"
