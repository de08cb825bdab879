"""Whose a worker's row in `pgflow.workers` is: ours, or another runtime's.

Ours say that they live whatever their tasks do; others may be silent for as long as a task takes. The core knows a
worker by the name of an edge function, which it calls when none of its workers lives: a name that no such function can
have keeps nobody's from being called. Rows without the mark, of earlier versions too, count as another runtime's.
"""

from __future__ import annotations

MARK = "pgflow_starter:"
"""Before the slug, as the function's name. A colon is in no name of an edge function."""

OURS = f"w.function_name = '{MARK}' || w.queue_name"
"""Of a row `w`."""

STOPPED = "coalesce((pg_catalog.to_jsonb(w) ->> 'stopped_at'::text)::timestamptz >= w.last_heartbeat_at, false)"
"""Whether it said that it stopped, as newer cores' do, and was not heard of since."""
