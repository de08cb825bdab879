"""A schema `public` in which somebody has planted look-alikes of what PostgreSQL has.

For the operators and functions named and all of the usual types: where pg_catalog takes arguments of these types only
by converting them, or by a polymorphic or variadic declaration, there is one in `public` that takes them as they are,
and so is preferred by whoever calls it by its bare name. It tells, and does the same, aggregates apart. And where an
operator takes two types, there is one of one of them twice: a bare literal is taken to be of the type beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import psycopg

OPERATORS = ["=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "||", "->", "->>", "#>", "@>", "?", "~", "~~"]

# The sequence keeps what a transaction that is rolled back takes along.
_TELLING = """
create sequence public.calls;
create table public.caught (what text, by text);
create function public.tell(what text) returns void language plpgsql as $$ begin
    perform pg_catalog.nextval('public.calls');
    insert into public.caught values (tell.what, current_user);
end $$;
grant all on table public.caught to public;
grant all on sequence public.calls to public;
"""
_TYPES = """
create table public.types as select t, t::text = any('{boolean,integer,bigint,numeric,text,name,uuid,jsonb}') as common
from pg_catalog.unnest('{bool,int2,int4,int8,float8,numeric,text,varchar,name,
    "char",uuid,jsonb,json,timestamptz,interval,oid,regclass,regproc,regprocedure,regnamespace,text[],varchar[],name[],
    int2[],int4[],int8[],uuid[],jsonb[]}'::regtype[]) t
"""
# The same way for each: what pg_catalog's makes of nulls of these types is what the look-alike returns.
_PLANT = """
create function public.result_of(call text) returns regtype language plpgsql as $$
declare result regtype;
begin
    execute 'select pg_typeof(x) from (select ' || call || ' as x where false) s right join (select) on true'
        into result;
    return result;
exception when others then
    return null;
end $$;
create procedure public.plant_operators(operators text[]) language plpgsql as $plant$
declare o record;
begin
    for o in
        select p.name, l.t as l, r.t as r, row_number() over () as n, ' operator(pg_catalog.' || p.name || ') ' as call
        from unnest(operators) as p (name), public.types l, public.types r
        where not exists (select from pg_operator k where k.oprname = p.name and k.oprleft = l.t and k.oprright = r.t)
    loop
        call public.plant_function(format('look_alike_%s', o.n), array[o.l, o.r], format('%s %s %s', o.l, o.name, o.r),
            'null::' || o.l || o.call || 'null::' || o.r, '$1' || o.call || '$2', false);
        if to_regproc(format('public.look_alike_%s', o.n)) is not null then
            execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.look_alike_%s)',
                           o.name, o.l, o.r, o.n);
        end if;
    end loop;
    for o in
        select p.name, k.t, min(k.result) as result, row_number() over () as n
        from unnest(operators) as p (name),
             lateral (select t, oprresult::regtype::text as result from pg_operator, public.types
                      where oprname = p.name and t in (oprleft, oprright) and 0 not in (oprleft, oprright)) k
        where not exists (select from pg_operator b where b.oprname = p.name and b.oprleft = k.t and b.oprright = k.t)
        group by p.name, k.t
    loop
        call public.plant_function(format('alike_%s', o.n), array[o.t, o.t], format('%s %s %s', o.t, o.name, o.t),
            'null::' || o.result, 'null', false);
        execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.alike_%s)',
                       o.name, o.t, o.t, o.n);
    end loop;
end $plant$;
create procedure public.plant_function(
    name text, types regtype[], told text, test text, call text, several boolean
) language plpgsql as $plant$
declare result regtype := public.result_of(test);
begin
    if result <> 'void'::regtype then
        execute format('create function public.%I(%s) returns %s %s language plpgsql as '
                       '$$ begin perform public.tell(%L); %s %s; end $$',
                       name, array_to_string(types, ','), case when several then 'setof' end, result, told,
                       case when several then 'return query select' else 'return' end, call);
    end if;
end $plant$;
create procedure public.plant_functions(functions text[]) language plpgsql as $plant$
declare f record; test text; result regtype;
begin
    for f in
        select p.name, g.types, p.kind, p.several, array_to_string(g.types, ',') as signature, row_number() over () as n
        from (select proname::text as name, bool_or(prokind = 'a') as kind, bool_or(proretset) as several,
                     bool_or(pronargs = 2 or provariadic <> 0) as two,
                     bool_or('"any"'::regtype = any(proargtypes) or provariadic = '"any"'::regtype) as anything
              from pg_proc where proname = any(functions) and pronamespace = 'pg_catalog'::regnamespace
              and prokind in ('f', 'a') group by 1) p,
             (select array[t] as types, true as common from public.types
              union all select array[l.t, r.t], l.common and r.common from public.types l, public.types r) g
        where (p.two or cardinality(g.types) = 1) and (g.common or not p.anything)
          and not exists (select from pg_proc k where k.proname = p.name and k.provariadic = 0
                          and k.proargtypes::oid[] = g.types::oid[] and k.pronamespace = 'pg_catalog'::regnamespace)
    loop
        test := format('pg_catalog.%I(%s)', f.name, (select string_agg('null::' || t, ',') from unnest(f.types) t));
        if f.kind then
            result := public.result_of(test);
            if result is not null then
                execute format('create function public.aggregate_%s(%s, %s) returns %s language plpgsql as '
                               '$$ begin perform public.tell(%L); return $1; end $$',
                               f.n, result, f.signature, result, format('%s(%s)', f.name, f.signature));
                execute format('create aggregate public.%I(%s) (sfunc = public.aggregate_%s, stype = %s)',
                               f.name, f.signature, f.n, result);
            end if;
        else
            call public.plant_function(f.name, f.types, format('%s(%s)', f.name, f.signature), test,
                format('pg_catalog.%I(%s)', f.name, case cardinality(f.types) when 1 then '$1' else '$1, $2' end),
                f.several);
        end if;
    end loop;
end $plant$;
"""
_MAKE_INTERVAL = """
create or replace function public.make_interval(secs {type}) returns interval language plpgsql as
$$ begin perform public.tell('make_interval(secs {type})'); return pg_catalog.make_interval(secs => $1); end $$
"""


def plant(conninfo: str, functions: Iterable[str], operators: Iterable[str] = OPERATORS) -> None:
    """Plant look-alikes of them. Takes some seconds."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("set search_path to pg_catalog")
        for script in (_TELLING, _TYPES, _PLANT):
            connection.execute(script)
        connection.execute("call public.plant_operators(%s)", [list(operators)])
        connection.execute("call public.plant_functions(%s)", [list(functions)])
        for kind in ("int2", "int4", "int8", "numeric"):  # called by its argument's name
            connection.execute(_MAKE_INTERVAL.format(type=kind).encode())


def caught(conninfo: str) -> list[Any]:
    """What look-alikes were called, and by whom; something at least where a transaction was rolled back."""
    with psycopg.connect(conninfo) as connection:
        told = connection.execute("select distinct what, by from public.caught order by 1, 2").fetchall()
        calls = connection.execute("select last_value from public.calls where is_called").fetchall()
    return told or calls


def functions_in(texts: Iterable[str]) -> set[str]:
    """Whatever looks like a call of a function in SQL."""
    return {name for text in texts for name in re.findall(r"\b([a-z_0-9]+)\(", text)}
