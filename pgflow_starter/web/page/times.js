// Times, as people say them. The starter's clock counts: a reader's may be wrong.

let ahead = 0;

export function setNow(iso) {
  ahead = Date.parse(iso) - Date.now();
}

export function now() {
  return Date.now() + ahead;
}

export function secondsUntil(iso) {
  return (Date.parse(iso) - now()) / 1000;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return joined(Math.floor(s / 60), "min", s < 600 ? s % 60 : 0, "s");
  if (s < 86400) return joined(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return joined(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

function joined(large, unit, small, smaller) {
  return small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`;
}

export function since(iso) {
  return span(-secondsUntil(iso));
}

export function ago(iso) {
  const seconds = -secondsUntil(iso);
  return seconds < 1 ? "just now" : `${span(seconds)} ago`;
}

export function took(from, to) {
  return lasted(Date.parse(from), Date.parse(to));
}

export function lasted(from, to) {
  const ms = Math.round(to - from);
  return ms < 1000 ? `${Math.max(0, ms)} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : span(ms / 1000);
}

export function timeOfDay(iso) {
  return new Date(iso).toLocaleTimeString([], { hour12: false });
}

export function whole(iso) {
  return new Date(iso).toLocaleString();
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function number(count) {
  return count.toLocaleString("en");
}
