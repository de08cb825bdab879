// Small plots of counts over the last hour, drawn as bars; where nothing was seen there is a gap.

import { attr, svg } from "./dom.js";

const HEIGHT = 28;
const BARS = 60;

// `set(values, top)`: the oldest first, null where nobody counted; `top` is what the plot's height stands for.
export function plot(tone) {
  const ground = svg("path", { class: "base" });
  const bars = svg("path", { class: "bars" });
  const node = svg("svg", { class: "plot", role: "img", "data-tone": tone, preserveAspectRatio: "none" }, ground, bars);
  return {
    node,
    set(values, top, words) {
      attr(node, "viewBox", `0 0 ${Math.max(1, values.length)} ${HEIGHT}`);
      attr(node, "aria-label", words);
      attr(ground, "d", runsOf(values).map(([from, to]) => `M${from} ${HEIGHT - 0.5}H${to}`).join(""));
      attr(bars, "d", values.map((value, index) => (value ? bar(index, value / Math.max(1, top)) : "")).join(""));
    },
  };
}

function bar(index, share) {
  const y = Math.round(10 * (HEIGHT - Math.max(2, share * (HEIGHT - 1)))) / 10;
  return `M${index} ${HEIGHT}V${y}h.9V${HEIGHT}z`;
}

// [from, to] of the stretches in which somebody counted.
function runsOf(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (found.at(-1)?.[1] === index) found.at(-1)[1] = index + 1;
    else found.push([index, index + 1]);
  });
  return found;
}

// Folded into `BARS` at most: a bar thinner than a pixel is none. What nobody counted in a part of a bar is left out.
export function folded(values, join) {
  const by = Math.ceil(values.length / BARS);
  return Array.from({ length: Math.ceil(values.length / (by || 1)) }, (_, index) => {
    const known = values.slice(index * by, (index + 1) * by).filter((value) => value !== null);
    return known.length ? join(known) : null;
  });
}

export function most(values) {
  return values.reduce((top, value) => Math.max(top, value ?? 0), 0);
}

export function sum(values) {
  return values.reduce((total, value) => total + (value ?? 0), 0);
}
