"""What is done to each of some runs, one after the other, and told: as it is done, or as JSON at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import click

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.clients import client_on
from pgflow_starter.cli.options import json_line
from pgflow_starter.cli.signals import Interrupted, handled
from pgflow_starter.cli.telling import visible
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError, MissingRightsError, OutcomeUnknownError, PgflowError
from pgflow_starter.starter.client import PgflowClient


@dataclass(frozen=True)
class Deed:
    """What is done: `doing` and `done` are the words for it.

    `act` does it to one run, and gives what JSON has of that besides. Raises PgflowError where it is not done.
    """

    doing: str
    done: str
    act: Callable[[PgflowClient, UUID], dict[str, Any]]

    def to_each(self, run_ids: Sequence[UUID], dsn: str, *, as_json: bool) -> None:
        """Do it. Raises ClickException where it is not done to all of them, PgflowError where nothing can be done."""
        told: list[dict[str, Any]] = []
        try:
            self._do(run_ids, dsn, told, as_json=as_json)
        except Interrupted as error:
            words = f"{self._so_far(told, run_ids)}, and perhaps one more"
            raise Interrupted(words, error.exit_code - 128) from None
        except DatabaseError as error:
            unknown = f" ({', '.join(map(str, error.run_ids))})" if isinstance(error, OutcomeUnknownError) else ""
            raise click.ClickException(f"{one_line(str(error))}{unknown}; {self._so_far(told, run_ids)}") from None
        finally:
            if as_json:
                click.echo(json_line({"runs": told}))
        problems = [line["problem"] for line in told if not line["done"]]
        if len(run_ids) == 1 and problems:
            raise click.ClickException(problems[0])
        if problems:
            raise click.ClickException(self._so_far(told, run_ids))

    def _do(self, run_ids: Sequence[UUID], dsn: str, told: list[dict[str, Any]], *, as_json: bool) -> None:
        with (
            handled() as signals,
            client_on(dsn) as client,
            busy(lambda: f"{self.doing}, {len(told)} of {len(run_ids)}") as say,
        ):
            for run_id in run_ids:
                known = {"id": str(run_id), "done": True, "problem": None}
                try:
                    known |= signals.aside(partial(self.act, client, run_id))
                except PgflowError as error:
                    if _of_all(error):
                        raise
                    known |= {"done": False, "problem": visible(one_line(str(error)))}
                told.append(known)
                if not as_json and known["done"]:
                    say(f"{run_id} {self.done}" + (f" as {known['new_id']}" if "new_id" in known else ""))
                elif not as_json and len(run_ids) > 1:
                    say(f"{run_id} not {self.done}: {known['problem']}")

    def _so_far(self, told: Sequence[dict[str, Any]], run_ids: Sequence[UUID]) -> str:
        return f"{sum(line['done'] for line in told)} of {len(run_ids)} runs {self.done}"


def _of_all(error: PgflowError) -> bool:
    """Whether the next run would meet it as well."""
    return isinstance(error, MissingRightsError) or (isinstance(error, DatabaseError) and error.connection_lost)
