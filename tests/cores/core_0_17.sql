-- Turns the stand-in for 0.15.1 into one for 0.17: a flow's steps may have queues of their own, so each step and task
-- names its queue, a message's id is one queue's only, and a claim says which queue it is of. Slugs leave `__` to those.

create schema pgflow_0_15;
grant usage on schema pgflow_0_15 to public;

lock table pgflow.flows, pgflow.steps, pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgflow.workers
    in access exclusive mode;

alter table pgflow.flows add column queue_mode text not null default 'flow' check (queue_mode in ('flow', 'step'));

alter table pgflow.steps add column queue_name text;
update pgflow.steps set queue_name = flow_slug;
alter table pgflow.steps alter column queue_name set not null;

alter table pgflow.step_tasks add column queue_name text;
update pgflow.step_tasks set queue_name = flow_slug;
alter table pgflow.step_tasks alter column queue_name set not null;
drop index pgflow.idx_step_tasks_message_id;
create unique index idx_step_tasks_queue_message on pgflow.step_tasks (queue_name, message_id)
    where message_id is not null;

create function pgflow_0_15.by_step(flow_slug text) returns boolean language sql set search_path = '' as $$
    select exists (select from pgflow.flows f where f.flow_slug = by_step.flow_slug and f.queue_mode = 'step')
$$;

-- What inserts into the two knows nothing of it.
create function pgflow_0_15.name_queue() returns trigger language plpgsql set search_path = '' as $$
begin
    new.queue_name := coalesce(new.queue_name, (select s.queue_name from pgflow.steps s
                                                where s.flow_slug = new.flow_slug and s.step_slug = new.step_slug),
                               new.flow_slug);
    return new;
end
$$;
create trigger name_queue before insert on pgflow.steps for each row execute function pgflow_0_15.name_queue();
create trigger name_queue before insert on pgflow.step_tasks for each row execute function pgflow_0_15.name_queue();

-- Slugs, those that are there included.

create or replace function pgflow.is_valid_slug(slug text) returns boolean immutable
language plpgsql set search_path = '' as $$
begin
    return slug ~ '^[a-zA-Z]([a-zA-Z0-9]|_(?=[a-zA-Z0-9])){0,127}$' and slug <> 'run';
end
$$;
alter table pgflow.flows drop constraint slug_is_valid, add constraint slug_is_valid
    check (pgflow.is_valid_slug(flow_slug));
alter table pgflow.steps drop constraint steps_step_slug_check, add constraint steps_step_slug_check
    check (pgflow.is_valid_slug(step_slug));

-- What the older functions do in the queue of a flow. Where it has none, messages go to their step's, and the rest is
-- left to whoever calls them here; and a message is looked for in the queue that is claimed from.

create function pgflow_0_15.send_batch(flow_slug text, messages jsonb[], delay integer)
returns setof bigint language sql set search_path = '' as $$
    select sent.*
    from pgflow.steps s, lateral pgmq.send_batch(s.queue_name, messages, delay) sent
    where s.flow_slug = send_batch.flow_slug and s.step_slug = messages[1] ->> 'step_slug'
$$;
create function pgflow_0_15.archive(flow_slug text, messages bigint[])
returns setof bigint language plpgsql set search_path = '' as $$
begin
    if not pgflow_0_15.by_step(flow_slug) then
        return query select a.* from pgmq.archive(flow_slug, messages) a;
    end if;
end
$$;
create function pgflow_0_15.archive(flow_slug text, message bigint)
returns setof bigint language sql set search_path = '' as $$
    select pgflow_0_15.archive(flow_slug, array[message])
$$;
create function pgflow_0_15.set_vt(flow_slug text, message bigint, seconds integer)
returns void language plpgsql set search_path = '' as $$
begin
    if not pgflow_0_15.by_step(flow_slug) then
        perform pgmq.set_vt(flow_slug, message, seconds);
    end if;
end
$$;
do $$
declare
    older text;
    newer text;
begin
    for older in
        select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('pgflow', 'pgflow_older', 'pgflow_0_14') and p.prokind = 'f'
    loop
        newer := regexp_replace(older, 'pgmq\.(send_batch|archive|set_vt)\(', 'pgflow_0_15.\1(', 'g');
        newer := replace(newer, 'set_vt_batch(start_tasks.flow_slug', 'set_vt_batch(current_setting(''pgflow.queue'')');
        newer := replace(newer, 'task.message_id = any(msg_ids)',
                         'task.message_id = any(msg_ids) and task.queue_name = current_setting(''pgflow.queue'')');
        newer := replace(newer, 'step_tasks.message_id = tasks.message_id',
                         '(step_tasks.run_id, step_tasks.step_slug, step_tasks.task_index)'
                         ' = (tasks.run_id, tasks.step_slug, tasks.task_index)');
        if newer <> older then
            execute newer;
        end if;
    end loop;
end
$$;

-- Claims.

alter function pgflow.start_tasks(text, bigint[], uuid) set schema pgflow_0_15;
create function pgflow.start_tasks(
    flow_slug text, msg_ids bigint[], worker_id uuid, queue_name text, step_slug text default null
) returns setof pgflow.step_task_record language plpgsql set search_path = '' as $$
begin
    if pgflow_0_15.by_step(flow_slug) <> (step_slug is not null) then
        raise exception 'a step is named for the queue of a step, and for no other';
    end if;
    if step_slug is not null and not exists (
        select from pgflow.steps s where s.flow_slug = start_tasks.flow_slug and s.step_slug = start_tasks.step_slug
                                     and s.queue_name = start_tasks.queue_name
    ) then
        raise exception 'the step has another queue';
    end if;
    perform set_config('pgflow.queue', queue_name, true);
    return query select o.* from pgflow_0_15.start_tasks(
        start_tasks.flow_slug, start_tasks.msg_ids, start_tasks.worker_id
    ) o;
end
$$;

-- Outcomes, and tasks that were stalled: their messages, where each step has a queue.

-- Of a step that is done only that task's: another's queue is none of its business.
create function pgflow_0_15.archive_ended(run_id uuid, step_slug text, task_index integer) returns void
language sql set search_path = '' as $$
    select pgmq.archive(t.queue_name, t.message_id)
    from pgflow.step_tasks t
    where t.run_id = archive_ended.run_id and t.status not in ('queued', 'started') and t.message_id is not null
      and pgflow_0_15.by_step(t.flow_slug)
      and (t.status <> 'completed'
           or (t.step_slug, t.task_index) = (archive_ended.step_slug, archive_ended.task_index))
$$;
alter function pgflow.complete_task(uuid, text, integer, jsonb) set schema pgflow_0_15;
create function pgflow.complete_task(run_id uuid, step_slug text, task_index integer, output jsonb)
returns setof pgflow.step_tasks language plpgsql set search_path = '' as $$
begin
    perform pgflow_0_15.complete_task(run_id, step_slug, task_index, output);
    perform pgflow_0_15.archive_ended(run_id, step_slug, task_index);
    return query select t.* from pgflow_0_14.task(run_id, step_slug, task_index) t;
end
$$;
alter function pgflow.fail_task(uuid, text, integer, text) set schema pgflow_0_15;
create function pgflow.fail_task(run_id uuid, step_slug text, task_index integer, error_message text)
returns setof pgflow.step_tasks language plpgsql set search_path = '' as $$
begin
    perform pgflow_0_15.fail_task(run_id, step_slug, task_index, error_message);
    perform pgflow_0_15.archive_ended(run_id, step_slug, task_index);
    perform pgmq.set_vt(t.queue_name, t.message_id, pgflow.calculate_retry_delay(
                            coalesce(s.opt_base_delay, f.opt_base_delay)::numeric, t.attempts_count))
    from pgflow_0_14.task(run_id, step_slug, task_index) t
    join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    join pgflow.flows f on f.flow_slug = t.flow_slug and f.queue_mode = 'step'
    where t.status = 'queued';
    return query select t.* from pgflow_0_14.task(run_id, step_slug, task_index) t;
end
$$;
alter function pgflow.requeue_stalled_tasks() set schema pgflow_0_15;
create function pgflow.requeue_stalled_tasks() returns integer language plpgsql set search_path = '' as $$
declare
    requeued integer := pgflow_0_15.requeue_stalled_tasks();
begin
    perform pgmq.set_vt(t.queue_name, t.message_id, 0) from pgflow.step_tasks t
    where t.status = 'queued' and t.last_requeued_at = now() and pgflow_0_15.by_step(t.flow_slug);
    perform pgmq.archive(t.queue_name, t.message_id) from pgflow.step_tasks t
    where t.permanently_stalled_at = now() and pgflow_0_15.by_step(t.flow_slug);
    return requeued;
end
$$;

-- Compiling: a queue for each step is had in this way only.

create function pgflow_0_15.route(flow_slug text, step_slug text, step_index bigint) returns text
language sql set search_path = '' as $$
    select case when length(flow_slug || '__' || step_slug) <= 47 then lower(flow_slug || '__' || step_slug)
                else lower(flow_slug || '__' || step_index) end
$$;
alter function pgflow.ensure_flow_compiled(text, jsonb) set schema pgflow_0_15;
create function pgflow.ensure_flow_compiled(
    flow_slug text, shape jsonb, queue_mode text default 'flow', route_map jsonb default null
) returns jsonb language plpgsql set search_path = '' as $$
declare
    routes jsonb := (select jsonb_agg(jsonb_build_object(
                                'stepSlug', s ->> 'slug',
                                'queueName', pgflow_0_15.route(ensure_flow_compiled.flow_slug, s ->> 'slug', n - 1)))
                     from jsonb_array_elements(shape -> 'steps') with ordinality as e (s, n));
    answer jsonb;
begin
    if queue_mode = 'step' and routes <> route_map then
        raise exception 'the supplied route map is not the one that was derived: %', routes;
    end if;
    answer := pgflow_0_15.ensure_flow_compiled(ensure_flow_compiled.flow_slug, ensure_flow_compiled.shape);
    if answer ->> 'status' = 'compiled' and queue_mode = 'step' then
        perform pgmq.drop_queue(ensure_flow_compiled.flow_slug);
        update pgflow.flows f set queue_mode = 'step' where f.flow_slug = ensure_flow_compiled.flow_slug;
        update pgflow.steps s set queue_name = e.route ->> 'queueName'
        from jsonb_array_elements(routes) as e (route)
        where s.flow_slug = ensure_flow_compiled.flow_slug and s.step_slug = e.route ->> 'stepSlug';
        perform pgmq.create(s.queue_name) from pgflow.steps s where s.flow_slug = ensure_flow_compiled.flow_slug;
    elsif pgflow_0_15.by_step(flow_slug) <> (queue_mode = 'step') then
        return '{"status": "mismatch", "differences": ["another queue mode"], "mismatchKind": "routing"}';
    end if;
    return answer;
end
$$;

-- Deleting: the queues of a flow that has one for each step, and never one of the flow's name, which is another's then.

create or replace function pgflow.delete_flow_and_data(p_flow_slug text) returns void
language plpgsql set search_path = '' as $$
begin
    perform pg_advisory_xact_lock(1, hashtext(lower(p_flow_slug)));
    perform pgmq.drop_queue(q.name) from (
        select distinct s.queue_name from pgflow.steps s where s.flow_slug = p_flow_slug
        union select lower(f.flow_slug) from pgflow.flows f where f.flow_slug = p_flow_slug and f.queue_mode = 'flow'
    ) q (name);
    delete from pgflow.step_tasks t where t.flow_slug = p_flow_slug;
    delete from pgflow.step_states s where s.flow_slug = p_flow_slug;
    delete from pgflow.runs r where r.flow_slug = p_flow_slug;
    delete from pgflow.deps d where d.flow_slug = p_flow_slug;
    delete from pgflow.steps s where s.flow_slug = p_flow_slug;
    delete from pgflow.flows f where f.flow_slug = p_flow_slug;
end
$$;
