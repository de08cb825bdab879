// A flow's steps in layers from left to right, each right of all that it depends on.

import { attr, el, shapeOf, svg } from "./dom.js";

const LETTER = 7.3; // of the monospaced font at 12 px, rounded up
const NODE_HEIGHT = 40;
const GAP_X = 48;
const GAP_Y = 16;
const PAD = 5;
const SWEEPS = 4;

// A graph that is wider than its place is scrolled, with the keyboard too.
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) attr(target, "tabindex", target.scrollWidth > target.clientWidth ? "0" : null);
});

// Where a graph is put.
export function easel(name) {
  const node = el("div", { class: "canvas", role: "group", "aria-label": name });
  widths.observe(node);
  return node;
}

// `states` of a run's steps by their slugs: {tone, words}. Without any it is the flow's shape alone.
export function drawn(flow, states = new Map()) {
  const layers = layered(flow.steps);
  const places = placed(layers, states);
  const [width, height] = extent(places);
  const edges = [];
  for (const item of layers.flat()) {
    for (const name of item.after) edges.push(edge(places.get(name), places.get(item.name), item.step !== null));
  }
  const nodes = flow.steps.map((step) => node(step, places.get(step.slug), states.get(step.slug)));
  return svg(
    "svg",
    { class: "graph", role: "img", "aria-label": inWords(flow, states), viewBox: `0 0 ${width} ${height}`, width, height },
    ...edges,
    ...nodes,
  );
}

function inWords(flow, states) {
  const told = flow.steps.map((step) => {
    const what = step.kind === "map" ? `${step.slug} (one task for each element)` : step.slug;
    const state = states.has(step.slug) ? `, ${states.get(step.slug).words}` : "";
    return step.depends_on.length ? `${what} after ${step.depends_on.join(" and ")}${state}` : `${what}${state}`;
  });
  return `Steps of ${flow.slug}: ${told.join("; ")}`;
}

// Items {name, step, after}: the steps, and where an edge passes a layer an item without a step that keeps room for it.
function layered(steps) {
  const depth = new Map();
  for (const step of steps) depth.set(step.slug, 1 + Math.max(-1, ...step.depends_on.map((name) => depth.get(name))));
  const layers = Array.from({ length: 1 + Math.max(...depth.values()) }, () => []);
  for (const step of steps) {
    const after = step.depends_on.map((name) => passage(layers, name, depth.get(name) + 1, depth.get(step.slug)));
    layers[depth.get(step.slug)].push({ name: step.slug, step, after });
  }
  uncross(layers);
  return layers;
}

function passage(layers, from, first, end) {
  let last = from;
  for (let layer = first; layer < end; layer += 1) {
    const name = `${from}>${layer}`; // no slug, for there is no > in one; shared by all edges from that step
    if (!layers[layer].some((item) => item.name === name)) layers[layer].push({ name, step: null, after: [last] });
    last = name;
  }
  return last;
}

// Each goes where its neighbours are on average, back and forth, so that few edges cross.
function uncross(layers) {
  const followers = new Map();
  for (const item of layers.flat()) {
    for (const name of item.after) followers.set(name, [...(followers.get(name) ?? []), item.name]);
  }
  const at = new Map();
  const note = (layer) => layer.forEach((item, index) => at.set(item.name, index - (layer.length - 1) / 2));
  layers.forEach(note);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const layer of forth ? layers : [...layers].reverse()) {
      const wanted = new Map();
      for (const item of layer) {
        const beside = (forth ? item.after : (followers.get(item.name) ?? [])).map((name) => at.get(name));
        wanted.set(item.name, beside.length ? beside.reduce((a, b) => a + b, 0) / beside.length : at.get(item.name));
      }
      layer.sort((a, b) => wanted.get(a.name) - wanted.get(b.name));
      note(layer);
    }
  }
}

function placed(layers, states) {
  const places = new Map();
  const heights = layers.map((layer) => layer.reduce((sum, item) => sum + heightOf(item) + GAP_Y, -GAP_Y));
  const tallest = Math.max(...heights);
  let x = PAD;
  layers.forEach((layer, index) => {
    const width = Math.max(...layer.map((item) => widthOf(item, states.get(item.name))));
    let y = PAD + (tallest - heights[index]) / 2;
    for (const item of layer) {
      places.set(item.name, { x, y, width, height: heightOf(item), passage: item.step === null });
      y += heightOf(item) + GAP_Y;
    }
    x += width + GAP_X;
  });
  return places;
}

function heightOf(item) {
  return item.step === null ? 2 : NODE_HEIGHT;
}

function widthOf({ step }, state) {
  if (step === null) return 0;
  const name = Math.ceil(step.slug.length * LETTER) + (step.kind === "map" ? 58 : 28);
  return state === undefined ? name : Math.max(name, Math.ceil(state.words.length * LETTER) + 46);
}

function extent(places) {
  const all = [...places.values()];
  return [Math.max(...all.map((p) => p.x + p.width)) + PAD, Math.max(...all.map((p) => p.y + p.height)) + PAD];
}

function node(step, { x, y, width }, state) {
  const middle = y + NODE_HEIGHT / 2;
  const line = state === undefined ? middle : middle - 8;
  const group = svg("g", { class: `node ${step.kind}`, "data-tone": state?.tone ?? null });
  if (step.kind === "map") group.append(svg("rect", { class: "behind", x: x + 3, y: y + 3, width, height: NODE_HEIGHT, rx: 8 }));
  group.append(svg("rect", { x, y, width, height: NODE_HEIGHT, rx: 8 }));
  group.append(svg("text", { x: x + 14, y: line, "dominant-baseline": "central" }, step.slug));
  if (step.kind === "map") {
    group.append(svg("text", { class: "kind", x: x + width - 12, y: line, "text-anchor": "end", "dominant-baseline": "central" }, "map"));
  }
  if (state !== undefined) {
    group.append(svg("g", { class: "icon", transform: `translate(${x + 13} ${middle + 3}) scale(.75)` }, ...shapeOf(state.tone)));
    group.append(svg("text", { class: "state-word", x: x + 30, y: middle + 9, "dominant-baseline": "central" }, state.words));
  }
  return group;
}

function edge(from, to, arrow) {
  const y1 = from.y + from.height / 2;
  const [x2, y2] = [to.x, to.y + to.height / 2];
  const begin = from.x + from.width;
  const x1 = from.passage ? from.x : begin;
  const bend = (x2 - begin) / 2;
  const line = svg("path", { d: `M${x1} ${y1}H${begin}C${begin + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 1} ${y2}` });
  const head = svg("path", { d: `M${x2 - 7} ${y2 - 4}L${x2 - 1} ${y2}L${x2 - 7} ${y2 + 4}` });
  return svg("g", { class: "edge" }, line, ...(arrow ? [head] : []));
}
