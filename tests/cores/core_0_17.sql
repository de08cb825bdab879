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

-- What inserts into the two knows nothing of it.
create function pgflow_0_15.name_queue() returns trigger language plpgsql set search_path = '' as $$
begin
    new.queue_name := coalesce(new.queue_name, new.flow_slug);
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

-- Claims.

alter function pgflow.start_tasks(text, bigint[], uuid) set schema pgflow_0_15;
create function pgflow.start_tasks(
    flow_slug text, msg_ids bigint[], worker_id uuid, queue_name text, step_slug text default null
) returns setof pgflow.step_task_record language plpgsql set search_path = '' as $$
declare
    by_step boolean := (select f.queue_mode = 'step' from pgflow.flows f where f.flow_slug = start_tasks.flow_slug);
begin
    if by_step <> (step_slug is not null) then
        raise exception 'a step is named for the queue of a step, and for no other';
    end if;
    return query
    select o.* from pgflow_0_15.start_tasks(
        start_tasks.flow_slug,
        array(select t.message_id from pgflow.step_tasks t
              where t.queue_name = start_tasks.queue_name and t.message_id = any(start_tasks.msg_ids)
                and t.flow_slug = start_tasks.flow_slug),
        start_tasks.worker_id
    ) o;
end
$$;

-- Compiling: a queue for each step is had in this way only.

alter function pgflow.ensure_flow_compiled(text, jsonb) set schema pgflow_0_15;
create function pgflow.ensure_flow_compiled(
    flow_slug text, shape jsonb, queue_mode text default 'flow', route_map jsonb default null
) returns jsonb language plpgsql set search_path = '' as $$
declare
    answer jsonb := pgflow_0_15.ensure_flow_compiled(ensure_flow_compiled.flow_slug, ensure_flow_compiled.shape);
begin
    if answer ->> 'status' = 'compiled' and queue_mode = 'step' then
        perform pgmq.drop_queue(ensure_flow_compiled.flow_slug);
        update pgflow.flows f set queue_mode = 'step' where f.flow_slug = ensure_flow_compiled.flow_slug;
        update pgflow.steps s set queue_name = s.flow_slug || '__' || s.step_slug
        where s.flow_slug = ensure_flow_compiled.flow_slug;
        perform pgmq.create(s.queue_name) from pgflow.steps s where s.flow_slug = ensure_flow_compiled.flow_slug;
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
