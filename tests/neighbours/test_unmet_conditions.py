"""A run that the core failed without a task, for a step's condition was not met: its error says so."""

from __future__ import annotations

import pytest

import pgflow_starter as pgflow
from tests.neighbours.other_runtime import Admin, OtherWorker

# What a newer core does when a step's condition is unmet and it has when_unmet = 'fail'.
UNMET = """
create function unmet() returns trigger language plpgsql as $$
begin
    update pgflow.step_states set status = 'failed', failed_at = now(), error_message = 'Condition not met'
    where run_id = new.run_id and step_slug = new.step_slug;
    update pgflow.runs set status = 'failed', failed_at = now() where run_id = new.run_id;
    return null;
end $$
"""
AT_THE_START = "create trigger unmet after insert on pgflow.step_states for each row when (new.step_slug = 'gift')"
LATER = (
    "create trigger unmet after update of remaining_deps on pgflow.step_states for each row"
    " when (new.step_slug = 'gift' and new.remaining_deps = 0)"
)


@pytest.mark.parametrize("trigger", [AT_THE_START, LATER])
def test_the_error_is_the_unmet_condition_and_names_the_step(database: str, admin: Admin, trigger: str) -> None:
    flow = pgflow.Flow("shop")
    flow.step(slug="order")(lambda given, ctx: given)
    flow.step(slug="gift", depends_on=["order"])(lambda given, ctx: given)
    admin.execute(UNMET)
    admin.execute(f"{trigger} execute function unmet()")
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow, 1)
        if trigger == LATER:
            assert (run.status, run.error) == ("started", None)
            worker = OtherWorker(admin, "shop")
            worker.complete(worker.claim())
        else:
            assert (run.status, run.error) == ("failed", "Condition not met (step 'gift')")
        run = run.wait(20)
        assert (run.status, run.error) == ("failed", "Condition not met (step 'gift')")
        (gift,) = [step for step in run.steps() if step.slug == "gift"]
        assert (gift.status, gift.error) == ("failed", "Condition not met")
