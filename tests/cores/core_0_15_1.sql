-- Turns the stand-in for 0.14 into one for 0.15.1: a run that fails cancels the rest of its tasks, a step that is skipped
-- skips them, what comes too late changes nothing, a message is invisible for as long as its step may take, and so are
-- stalled tasks judged.

create schema pgflow_0_14;
grant usage on schema pgflow_0_14 to public;

lock table pgflow.steps, pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgflow.workers in access exclusive mode;

alter table pgflow.step_tasks drop constraint valid_status,
    add constraint valid_status check (status in ('queued', 'started', 'completed', 'failed', 'skipped', 'cancelled'));

-- Claims.

alter function pgflow.start_tasks(text, bigint[], uuid) set schema pgflow_0_14;
create function pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
returns setof pgflow.step_task_record language plpgsql set search_path = '' as $$
begin
    return query
    with started as materialized (
        select o.* from pgflow_0_14.start_tasks(start_tasks.flow_slug, start_tasks.msg_ids, start_tasks.worker_id) o
    ), invisible as materialized (
        select v.msg_id
        from (select array_agg(o.msg_id) as ids, array_agg(coalesce(s.opt_timeout, f.opt_timeout) + 2) as seconds
              from started o
              join pgflow.flows f on f.flow_slug = o.flow_slug
              join pgflow.steps s on s.flow_slug = o.flow_slug and s.step_slug = o.step_slug) a,
             lateral pgflow.set_vt_batch(start_tasks.flow_slug, a.ids, a.seconds) v
    )
    select o.* from started o join invisible i on i.msg_id = o.msg_id;
end
$$;

-- Outcomes.

create function pgflow_0_14.is_late(run_id uuid, step_slug text) returns boolean language sql set search_path = '' as $$
    select r.status = 'failed' or s.status <> 'started'
    from pgflow.runs r join pgflow.step_states s on s.run_id = r.run_id
    where s.run_id = is_late.run_id and s.step_slug = is_late.step_slug
    for update
$$;
create function pgflow_0_14.task(run_id uuid, step_slug text, task_index integer)
returns setof pgflow.step_tasks language sql set search_path = '' as $$
    select t.* from pgflow.step_tasks t
    where t.run_id = task.run_id and t.step_slug = task.step_slug and t.task_index = task.task_index
$$;
create function pgflow_0_14.archive(run_id uuid, step_slug text, task_index integer)
returns void language sql set search_path = '' as $$
    select pgmq.archive(t.flow_slug, t.message_id)
    from pgflow_0_14.task(archive.run_id, archive.step_slug, archive.task_index) t where t.message_id is not null
$$;
create function pgflow_0_14.cancel_rest(run_id uuid) returns void language plpgsql set search_path = '' as $$
declare
    cancelled record;
begin
    for cancelled in
        update pgflow.step_tasks t set status = case r.status when 'failed' then 'cancelled' else 'skipped' end
        from pgflow.runs r join pgflow.step_states s using (run_id)
        where t.run_id = cancel_rest.run_id and t.status in ('queued', 'started')
          and r.run_id = t.run_id and s.step_slug = t.step_slug and (r.status = 'failed' or s.status = 'skipped')
        returning t.flow_slug, t.message_id
    loop
        perform pgmq.archive(cancelled.flow_slug, cancelled.message_id);
    end loop;
end
$$;

alter function pgflow.complete_task(uuid, text, integer, jsonb) set schema pgflow_0_14;
create function pgflow.complete_task(run_id uuid, step_slug text, task_index integer, output jsonb)
returns setof pgflow.step_tasks language plpgsql set search_path = '' as $$
begin
    if pgflow_0_14.is_late(run_id, step_slug) then
        perform pgflow_0_14.archive(run_id, step_slug, task_index);
    else
        perform pgflow_0_14.complete_task(run_id, step_slug, task_index, output);
        perform pgflow_0_14.cancel_rest(run_id);
    end if;
    return query select t.* from pgflow_0_14.task(run_id, step_slug, task_index) t;
end
$$;

alter function pgflow.fail_task(uuid, text, integer, text) set schema pgflow_0_14;
create function pgflow.fail_task(run_id uuid, step_slug text, task_index integer, error_message text)
returns setof pgflow.step_tasks language plpgsql set search_path = '' as $$
begin
    if pgflow_0_14.is_late(run_id, step_slug) then
        perform pgflow_0_14.archive(run_id, step_slug, task_index);
    else
        perform pgflow_0_14.fail_task(run_id, step_slug, task_index, error_message);
        perform pgflow_0_14.cancel_rest(run_id);
    end if;
    return query select t.* from pgflow_0_14.task(run_id, step_slug, task_index) t;
end
$$;

-- Stalled tasks: by their step's own timeout, and only where run and step go on.

create or replace function pgflow.requeue_stalled_tasks() returns integer language plpgsql set search_path = '' as $$
declare
    task record;
    requeued integer := 0;
begin
    for task in
        select t.* from pgflow.step_tasks t
        join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
        join pgflow.step_states e on e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started'
        join pgflow.flows f on f.flow_slug = t.flow_slug
        join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
        where t.status = 'started' and t.permanently_stalled_at is null
          and t.started_at < now() - make_interval(secs => coalesce(s.opt_timeout, f.opt_timeout) + 30)
        for update of t skip locked
    loop
        if task.requeued_count < 3 then
            update pgflow.step_tasks t
            set status = 'queued', started_at = null, last_worker_id = null,
                requeued_count = t.requeued_count + 1, last_requeued_at = now()
            where t.run_id = task.run_id and t.step_slug = task.step_slug and t.task_index = task.task_index;
            perform pgmq.set_vt(task.flow_slug, task.message_id, 0);
            requeued := requeued + 1;
        else
            update pgflow.step_tasks t set permanently_stalled_at = now()
            where t.run_id = task.run_id and t.step_slug = task.step_slug and t.task_index = task.task_index;
            perform pgmq.archive(task.flow_slug, task.message_id);
        end if;
    end loop;
    return requeued;
end
$$;
