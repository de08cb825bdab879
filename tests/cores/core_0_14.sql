-- Turns an installed core 0.8.1 into a stand-in for 0.14: its signatures and what can be seen through them, in our own
-- words and as small as the tests allow. Functions that differ are moved aside and called; their names stay, for they
-- qualify their arguments by them.

create schema pgflow_older;
grant usage on schema pgflow_older to public;

lock table pgflow.steps, pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgflow.workers in access exclusive mode;

-- Inputs: the flow's input stands in a column of its own, for root steps that are no maps.

alter type pgflow.step_task_record set schema pgflow_older;
create type pgflow.step_task_record as (
    flow_slug text, run_id uuid, step_slug text, input jsonb, msg_id bigint, task_index integer, flow_input jsonb
);
alter function pgflow.start_tasks(text, bigint[], uuid) set schema pgflow_older;
create function pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
returns setof pgflow.step_task_record language sql set search_path = '' as $$
    select o.flow_slug, o.run_id, o.step_slug,
           case when s.step_type = 'map' then o.input
                else o.input - 'run' - array(select skipped.step_slug from pgflow.step_states skipped
                                             where skipped.run_id = o.run_id and skipped.status = 'skipped') end,
           o.msg_id, o.task_index,
           case when s.step_type = 'single' and s.deps_count = 0 then o.input -> 'run' end
    from pgflow_older.start_tasks(start_tasks.flow_slug, start_tasks.msg_ids, start_tasks.worker_id) o
    join pgflow.steps s on s.flow_slug = o.flow_slug and s.step_slug = o.step_slug
$$;

-- Workers: one that stopped says so in a column of its own. Functions that are tracked are called over HTTP.

alter table pgflow.workers add column stopped_at timestamptz;
create function pgflow.mark_worker_stopped(worker_id uuid) returns void language sql set search_path = '' as $$
    update pgflow.workers w set stopped_at = clock_timestamp() where w.worker_id = mark_worker_stopped.worker_id
$$;
create table pgflow.worker_functions (function_name text primary key, enabled boolean not null default true);
create function pgflow.track_worker_function(function_name text) returns void language sql set search_path = '' as $$
    insert into pgflow.worker_functions values (track_worker_function.function_name) on conflict do nothing
$$;

-- Stalled tasks, by their age and whether their worker lives or not. The fourth time a task is given up: its message
-- is archived, it stays `started`.

alter table pgflow.step_tasks add column requeued_count integer not null default 0,
                              add column last_requeued_at timestamptz,
                              add column permanently_stalled_at timestamptz;
create function pgflow.requeue_stalled_tasks() returns integer language plpgsql set search_path = '' as $$
declare
    task record;
    requeued integer := 0;
begin
    for task in
        select t.* from pgflow.step_tasks t join pgflow.flows f using (flow_slug)
        where t.status = 'started' and t.permanently_stalled_at is null
          and t.started_at < now() - make_interval(secs => f.opt_timeout + 30)
        for update of t skip locked
    loop
        if task.requeued_count < 3 then
            update pgflow.step_tasks t
            set status = 'queued', started_at = null, last_worker_id = null,
                requeued_count = t.requeued_count + 1, last_requeued_at = now()
            where t.message_id = task.message_id and t.flow_slug = task.flow_slug;
            perform pgmq.set_vt(task.flow_slug, task.message_id, 0);
            requeued := requeued + 1;
        else
            update pgflow.step_tasks t set permanently_stalled_at = now()
            where t.message_id = task.message_id and t.flow_slug = task.flow_slug;
            perform pgmq.archive(task.flow_slug, task.message_id);
        end if;
    end loop;
    return requeued;
end
$$;

-- Conditions: a step whose input does not contain its pattern is skipped, and who depends on it does without.

alter table pgflow.steps add column required_input_pattern jsonb,
                         add column forbidden_input_pattern jsonb,
                         add column when_unmet text not null default 'skip',
                         add column when_exhausted text not null default 'fail';
alter table pgflow.step_states drop constraint status_is_valid,
    add constraint status_is_valid check (status in ('created', 'started', 'completed', 'failed', 'skipped')),
    add column skip_reason text,
    add column skipped_at timestamptz;
alter function pgflow.add_step(text, text, text[], integer, integer, integer, integer, text) set schema pgflow_older;
create function pgflow.add_step(
    flow_slug text, step_slug text, deps_slugs text[] default '{}', max_attempts integer default null,
    base_delay integer default null, timeout integer default null, start_delay integer default null,
    step_type text default 'single', required_input_pattern jsonb default null,
    forbidden_input_pattern jsonb default null, when_unmet text default 'skip', when_exhausted text default 'fail'
) returns pgflow.steps language plpgsql set search_path = '' as $$
declare
    added pgflow.steps;
begin
    perform pgflow_older.add_step(flow_slug, step_slug, deps_slugs, max_attempts, base_delay, timeout, start_delay,
                                  step_type);
    update pgflow.steps s
    set required_input_pattern = add_step.required_input_pattern, when_unmet = add_step.when_unmet
    where s.flow_slug = add_step.flow_slug and s.step_slug = add_step.step_slug
    returning * into added;
    return added;
end
$$;
alter function pgflow.start_ready_steps(uuid) set schema pgflow_older;
create function pgflow.start_ready_steps(run_id uuid) returns void language plpgsql set search_path = '' as $$
declare
    unmet text;
begin
    loop
        select s.step_slug into unmet
        from pgflow.step_states s
        join pgflow.steps d using (flow_slug, step_slug)
        join pgflow.runs r using (run_id)
        where s.run_id = start_ready_steps.run_id and s.status = 'created' and s.remaining_deps = 0
          and r.status = 'started'
          and not d.required_input_pattern <@ case when d.deps_count = 0 then r.input else (
              select coalesce(jsonb_object_agg(t.step_slug, t.output), '{}')
              from pgflow.step_tasks t join pgflow.deps p on p.flow_slug = t.flow_slug and p.dep_slug = t.step_slug
              where t.run_id = s.run_id and p.step_slug = s.step_slug and t.status = 'completed') end
        limit 1;
        exit when unmet is null;
        update pgflow.step_states s set status = 'skipped', skip_reason = 'condition_unmet', skipped_at = now()
        where s.run_id = start_ready_steps.run_id and s.step_slug = unmet;
        update pgflow.step_states s set remaining_deps = s.remaining_deps - 1
        from pgflow.deps p
        where s.run_id = start_ready_steps.run_id and p.flow_slug = s.flow_slug and p.step_slug = s.step_slug
          and p.dep_slug = unmet;
        update pgflow.runs r set remaining_steps = r.remaining_steps - 1 where r.run_id = start_ready_steps.run_id;
    end loop;
    perform pgflow_older.start_ready_steps(start_ready_steps.run_id);
end
$$;

-- Compiling a flow from its shape, or comparing the two.

create function pgflow.ensure_flow_compiled(flow_slug text, shape jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
    step jsonb;
    same boolean;
begin
    if not exists (select from pgflow.flows f where f.flow_slug = ensure_flow_compiled.flow_slug) then
        perform pgflow.create_flow(flow_slug, (shape #>> '{options,maxAttempts}')::integer,
                                   (shape #>> '{options,baseDelay}')::integer,
                                   (shape #>> '{options,timeout}')::integer);
        for step in select * from jsonb_array_elements(shape -> 'steps') loop
            perform pgflow.add_step(
                ensure_flow_compiled.flow_slug, step ->> 'slug',
                array(select * from jsonb_array_elements_text(step -> 'dependencies')),
                step_type => step ->> 'stepType', required_input_pattern => step #> '{requiredInputPattern,value}'
            );
        end loop;
        return '{"status": "compiled", "differences": []}';
    end if;
    select array_agg(s.step_slug order by s.step_slug)
           = array(select e ->> 'slug' from jsonb_array_elements(shape -> 'steps') e order by 1)
    into same from pgflow.steps s where s.flow_slug = ensure_flow_compiled.flow_slug;
    return case when same then '{"status": "verified", "differences": []}'::jsonb
                else '{"status": "mismatch", "differences": ["other steps"]}' end;
end
$$;

-- Deleting.

create function pgflow.delete_flow_and_data(p_flow_slug text) returns void
language plpgsql set search_path = '' as $$
begin
    perform pgmq.drop_queue(p_flow_slug);
    delete from pgflow.step_tasks t where t.flow_slug = p_flow_slug;
    delete from pgflow.step_states s where s.flow_slug = p_flow_slug;
    delete from pgflow.runs r where r.flow_slug = p_flow_slug;
    delete from pgflow.deps d where d.flow_slug = p_flow_slug;
    delete from pgflow.steps s where s.flow_slug = p_flow_slug;
    delete from pgflow.flows f where f.flow_slug = p_flow_slug;
end
$$;
