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

-- Conditions: a step whose input does not contain its pattern is skipped, alone or with all that depend on it, or fails
-- the run; so is one whose last attempt failed. Who depends on a skipped step does without; a map over it has no element.

alter table pgflow.steps
    add column required_input_pattern jsonb check (jsonb_typeof(required_input_pattern) = 'object'),
    add column forbidden_input_pattern jsonb check (jsonb_typeof(forbidden_input_pattern) = 'object'),
    add column when_unmet text not null default 'skip' check (when_unmet in ('fail', 'skip', 'skip-cascade')),
    add column when_exhausted text not null default 'fail' check (when_exhausted in ('fail', 'skip', 'skip-cascade'));
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
    set required_input_pattern = add_step.required_input_pattern,
        forbidden_input_pattern = add_step.forbidden_input_pattern,
        when_unmet = add_step.when_unmet, when_exhausted = add_step.when_exhausted
    where s.flow_slug = add_step.flow_slug and s.step_slug = add_step.step_slug
    returning * into added;
    return added;
end
$$;

create function pgflow_older.output(run_id uuid, step_slug text) returns jsonb language sql set search_path = '' as $$
    select case d.step_type
               when 'map' then coalesce(jsonb_agg(t.output order by t.task_index) filter (where t.run_id is not null), '[]')
               else jsonb_agg(t.output) -> 0
           end
    from pgflow.step_states s
    join pgflow.steps d using (flow_slug, step_slug)
    left join pgflow.step_tasks t on t.run_id = s.run_id and t.step_slug = s.step_slug
    where s.run_id = output.run_id and s.step_slug = output.step_slug
    group by d.step_type
$$;
create function pgflow_older.unmet(run_id uuid, mode text) returns setof text language sql set search_path = '' as $$
    select s.step_slug
    from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug) join pgflow.runs r using (run_id),
         lateral (select case when d.deps_count = 0 then r.input else coalesce(
             (select jsonb_object_agg(o.step_slug, pgflow_older.output(o.run_id, o.step_slug))
              from pgflow.deps p join pgflow.step_states o on o.run_id = s.run_id and o.step_slug = p.dep_slug
              where p.flow_slug = s.flow_slug and p.step_slug = s.step_slug and o.status = 'completed'),
             '{}') end as input) given
    where s.run_id = unmet.run_id and s.status = 'created' and s.remaining_deps = 0 and d.when_unmet = unmet.mode
      and (not given.input @> d.required_input_pattern or given.input @> d.forbidden_input_pattern)
    order by d.step_index
$$;
create function pgflow_older.skip(run_id uuid, step_slug text, reason text) returns void
language plpgsql set search_path = '' as $$
begin
    update pgflow.step_states s
    set status = 'skipped', skip_reason = skip.reason, skipped_at = now(), remaining_tasks = null
    where s.run_id = skip.run_id and s.step_slug = skip.step_slug and s.status in ('created', 'started');
    if found then
        update pgflow.runs r set remaining_steps = r.remaining_steps - 1 where r.run_id = skip.run_id;
        perform pgmq.archive(t.flow_slug, t.message_id) from pgflow.step_tasks t
        where t.run_id = skip.run_id and t.step_slug = skip.step_slug and t.status in ('queued', 'started');
    end if;
end
$$;
create function pgflow_older.go_on_without(run_id uuid, step_slug text) returns void language sql set search_path = '' as $$
    update pgflow.step_states s
    set remaining_deps = s.remaining_deps - 1,
        initial_tasks = case d.step_type when 'map' then 0 else s.initial_tasks end
    from pgflow.deps p join pgflow.steps d on d.flow_slug = p.flow_slug and d.step_slug = p.step_slug
    where s.run_id = go_on_without.run_id and p.dep_slug = go_on_without.step_slug
      and s.flow_slug = p.flow_slug and s.step_slug = p.step_slug
$$;
create function pgflow_older.skip_all(run_id uuid, step_slug text, reason text) returns void
language plpgsql set search_path = '' as $$
begin
    perform pgflow_older.skip(run_id, step_slug, reason);
    perform pgflow_older.skip_all(skip_all.run_id, p.step_slug, 'dependency_skipped')
    from pgflow.deps p join pgflow.runs r on r.flow_slug = p.flow_slug
    where r.run_id = skip_all.run_id and p.dep_slug = skip_all.step_slug;
end
$$;
create function pgflow_older.resolve(run_id uuid) returns boolean language plpgsql set search_path = '' as $$
declare
    failing text;
    slug text;
    again boolean := true;
begin
    while again loop
        select * into failing from pgflow_older.unmet(resolve.run_id, 'fail') limit 1;
        if failing is not null then
            update pgflow.step_states s set status = 'failed', failed_at = now(), error_message = 'Condition not met'
            where s.run_id = resolve.run_id and s.step_slug = failing;
            update pgflow.runs r set status = 'failed', failed_at = now() where r.run_id = resolve.run_id;
            perform pgmq.archive(t.flow_slug, t.message_id) from pgflow.step_tasks t
            where t.run_id = resolve.run_id and t.status in ('queued', 'started');
            return false;
        end if;
        again := false;
        for slug in select * from pgflow_older.unmet(resolve.run_id, 'skip') loop
            perform pgflow_older.skip(resolve.run_id, slug, 'condition_unmet');
            perform pgflow_older.go_on_without(resolve.run_id, slug);
            again := true;
        end loop;
        for slug in select * from pgflow_older.unmet(resolve.run_id, 'skip-cascade') loop
            perform pgflow_older.skip_all(resolve.run_id, slug, 'condition_unmet');
        end loop;
    end loop;
    return true;
end
$$;
alter function pgflow.cascade_complete_taskless_steps(uuid) set schema pgflow_older;
create function pgflow.cascade_complete_taskless_steps(run_id uuid) returns integer
language plpgsql set search_path = '' as $$
begin
    return case when pgflow_older.resolve(run_id) then pgflow_older.cascade_complete_taskless_steps(run_id) else 0 end;
end
$$;
create function pgflow_older.is_skipped(run_id uuid, step_slug text, task_index integer) returns boolean
language sql set search_path = '' as $$
    select pgmq.archive(t.flow_slug, t.message_id) from pgflow.step_tasks t join pgflow.step_states s using (run_id, step_slug)
    where t.run_id = is_skipped.run_id and t.step_slug = is_skipped.step_slug and t.task_index = is_skipped.task_index
      and s.status = 'skipped';
    select s.status = 'skipped' from pgflow.step_states s
    where s.run_id = is_skipped.run_id and s.step_slug = is_skipped.step_slug for update
$$;
alter function pgflow.complete_task(uuid, text, integer, jsonb) set schema pgflow_older;
create function pgflow.complete_task(run_id uuid, step_slug text, task_index integer, output jsonb)
returns setof pgflow.step_tasks language plpgsql set search_path = '' as $$
begin
    if pgflow_older.is_skipped(run_id, step_slug, task_index) then
        return query select t.* from pgflow.step_tasks t
        where t.run_id = complete_task.run_id and t.step_slug = complete_task.step_slug
          and t.task_index = complete_task.task_index;
    else
        return query select * from pgflow_older.complete_task(run_id, step_slug, task_index, output);
    end if;
end
$$;
alter function pgflow.fail_task(uuid, text, integer, text) set schema pgflow_older;
create function pgflow.fail_task(run_id uuid, step_slug text, task_index integer, error_message text)
returns setof pgflow.step_tasks language plpgsql set search_path = '' as $$
declare
    exhausted record;
begin
    select s.when_exhausted, t.flow_slug, t.message_id into exhausted
    from pgflow.step_tasks t
    join pgflow.runs r using (run_id, flow_slug)
    join pgflow.steps s using (flow_slug, step_slug)
    join pgflow.flows f using (flow_slug)
    where t.run_id = fail_task.run_id and t.step_slug = fail_task.step_slug and t.task_index = fail_task.task_index
      and t.status = 'started' and t.attempts_count >= coalesce(s.opt_max_attempts, f.opt_max_attempts)
      and r.status = 'started' and s.when_exhausted <> 'fail'
      and exists (select from pgflow.step_states e
                  where e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started')
    for update of r;
    if not found then
        if not pgflow_older.is_skipped(run_id, step_slug, task_index) then
            perform pgflow_older.fail_task(run_id, step_slug, task_index, error_message);
        end if;
        return query select t.* from pgflow.step_tasks t
        where t.run_id = fail_task.run_id and t.step_slug = fail_task.step_slug and t.task_index = fail_task.task_index;
        return;
    end if;
    perform pgmq.archive(exhausted.flow_slug, exhausted.message_id::bigint);
    update pgflow.step_tasks t set status = 'failed', failed_at = now(), error_message = fail_task.error_message
    where t.run_id = fail_task.run_id and t.step_slug = fail_task.step_slug and t.task_index = fail_task.task_index;
    update pgflow.step_states s set error_message = fail_task.error_message
    where s.run_id = fail_task.run_id and s.step_slug = fail_task.step_slug;
    if exhausted.when_exhausted = 'skip' then
        perform pgflow_older.skip(run_id, step_slug, 'handler_failed');
        perform pgflow_older.go_on_without(run_id, step_slug);
        perform pgflow.cascade_complete_taskless_steps(run_id);
        perform pgflow.start_ready_steps(run_id);
    else
        perform pgflow_older.skip_all(run_id, step_slug, 'handler_failed');
    end if;
    perform pgflow.maybe_complete_run(run_id);
    return query select t.* from pgflow.step_tasks t
    where t.run_id = fail_task.run_id and t.step_slug = fail_task.step_slug and t.task_index = fail_task.task_index;
end
$$;

-- Compiling a flow from its shape, or comparing the two: steps one by one in their order, but for their options.

create function pgflow_older.pattern(pattern jsonb) returns jsonb language sql set search_path = '' as $$
    select case when pattern is null then '{"defined": false}' else jsonb_build_object('defined', true, 'value', pattern) end
$$;
create function pgflow._get_flow_shape(p_flow_slug text) returns jsonb language sql set search_path = '' as $$
    select jsonb_build_object('steps', coalesce(jsonb_agg(jsonb_build_object(
        'slug', s.step_slug,
        'stepType', s.step_type,
        'dependencies', array(select d.dep_slug from pgflow.deps d
                              where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug order by 1),
        'whenUnmet', s.when_unmet,
        'whenExhausted', s.when_exhausted,
        'requiredInputPattern', pgflow_older.pattern(s.required_input_pattern),
        'forbiddenInputPattern', pgflow_older.pattern(s.forbidden_input_pattern)
    ) order by s.step_index), '[]'))
    from pgflow.steps s where s.flow_slug = p_flow_slug
$$;
create function pgflow.ensure_flow_compiled(flow_slug text, shape jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
    steps jsonb := shape -> 'steps';
    step jsonb;
begin
    if not exists (select from pgflow.flows f where f.flow_slug = ensure_flow_compiled.flow_slug) then
        perform pgflow.create_flow(flow_slug, coalesce((shape #>> '{options,maxAttempts}')::integer, 3),
                                   coalesce((shape #>> '{options,baseDelay}')::integer, 5),
                                   coalesce((shape #>> '{options,timeout}')::integer, 60));
        for step in select * from jsonb_array_elements(steps) loop
            perform pgflow.add_step(
                ensure_flow_compiled.flow_slug, step ->> 'slug',
                array(select * from jsonb_array_elements_text(step -> 'dependencies')),
                step_type => step ->> 'stepType', when_unmet => coalesce(step ->> 'whenUnmet', 'skip'),
                when_exhausted => coalesce(step ->> 'whenExhausted', 'fail'),
                required_input_pattern => step #> '{requiredInputPattern,value}',
                forbidden_input_pattern => step #> '{forbiddenInputPattern,value}'
            );
        end loop;
        return '{"status": "compiled", "differences": []}';
    end if;
    select jsonb_agg(e - 'options' order by n) into steps from jsonb_array_elements(steps) with ordinality as given (e, n);
    if steps = pgflow._get_flow_shape(flow_slug) -> 'steps' then
        return '{"status": "verified", "differences": []}';
    end if;
    return '{"status": "mismatch", "differences": ["other steps"]}';
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
