/**
 * Where everything in a scene is, and who is who; `drawing.mjs` draws it.
 *
 * A scene is what `mamt_jax/envs/scene.py` describes, as plain data. A view is one moment: an object
 * {field name: flat array}, places as x0, y0, x1, y1, ...
 */

/** How a plane is laid on a canvas of this many pixels: as large as fits, centred, y upwards. */
export function cameraOf(scene, width, height) {
  const [x0, y0] = scene.low, [x1, y1] = scene.high;
  const unit = Math.min(width / (x1 - x0), height / (y1 - y0));
  const left = (width - unit * (x1 - x0)) / 2, top = (height - unit * (y1 - y0)) / 2;
  return {
    unit,
    x: (x) => left + (x - x0) * unit,
    y: (y) => top + (y1 - y) * unit,
    plane: (px, py) => [x0 + (px - left) / unit, y1 - (py - top) / unit],
  };
}

/** Height of a canvas for its width. */
export const heightFor = (scene, width) =>
  (width * (scene.high[1] - scene.low[1])) / (scene.high[0] - scene.low[0]);

/** Which entries of its field an `At` names; an entry is `width` numbers long. */
export function entriesOf(at, view, width = 2) {
  const first = at.first ?? 0;
  if (at.index) return Array.from(view[at.index], (number) => first + number);
  const count = at.count ?? view[at.field].length / width - first;
  return Array.from({ length: count }, (_, i) => first + i);
}

/** Places [[x, y], ...] that an `At` names. */
export function placesOf(at, view) {
  const field = view[at.field];
  return entriesOf(at, view).map((entry) => [field[2 * entry], field[2 * entry + 1]]);
}

/** Whose colour the i-th mark of a layer has, as a number. */
export const colourNumber = (layer, i, entry) => (layer.at.index ? i : entry);

export const isAgents = (layer) => layer.kind === "marks" && layer.agents;

/** Field that holds the places of agents; undefined where no layer draws agents. */
export const agentField = (scene) => scene.layers.find(isAgents)?.at.field;

/** Number of the colour of each agent: its own, unless the scene gives it another's. */
export function agentColours(scene, view, count) {
  const found = Array.from({ length: count }, (_, agent) => agent);
  for (const layer of scene?.layers.filter(isAgents) ?? []) {
    entriesOf(layer.at, view).forEach((entry, i) => (found[entry] = colourNumber(layer, i, entry)));
  }
  return found;
}

/** Where each agent is drawn and how large: {agent: [x, y, size]}. */
export function agentPlaces(scene, view) {
  const found = {};
  for (const layer of scene.layers.filter(isAgents)) {
    const entries = entriesOf(layer.at, view);
    placesOf(layer.at, view).forEach((place, i) => {
      const [x, y] = layer.rim ? withinRim(scene, place, layer.size) : place;
      found[entries[i]] = [x, y, layer.size * scaleOf(layer, view, entries[i])];
    });
  }
  return found;
}

/** The agent at a point of the plane, the nearest one if there are several; -1 if none is. */
export function agentAt(scene, view, x, y) {
  let found = -1, least = Infinity;
  for (const [agent, [ax, ay, size]] of Object.entries(agentPlaces(scene, view))) {
    const distance = Math.hypot(ax - x, ay - y);
    if (distance < Math.min(least, 1.2 * size)) [found, least] = [Number(agent), distance];
  }
  return found;
}

/** Texts such as "3 of 30 evaders left". */
export function countsOf(scene, view) {
  const counted = scene.layers.filter((layer) => layer.kind === "count");
  return counted.map(({ field, text }) => {
    const flags = Array.from(view[field]);
    return `${flags.filter(Boolean).length} of ${flags.length} ${text}`;
  });
}

/**
 * The view with those that share a cell moved apart and drawn smaller, in layers that say so.
 *
 * Factors on sizes are added as fields "scale of NAME".
 */
export function arranged(scene, view) {
  const crowded = scene.layers.filter((layer) => layer.kind === "marks" && layer.crowd);
  const found = { ...view }, cells = new Map();
  for (const layer of crowded) {
    const name = layer.at.field, places = placesOf(layer.at, view);
    found[name] = Float32Array.from(view[name]);
    found[`scale of ${name}`] = new Float32Array(view[name].length / 2).fill(1);
    entriesOf(layer.at, view).forEach((entry, i) => {
      if (layer.shown && !view[layer.shown][i]) return;
      const cell = places[i].map(Math.round).join();
      cells.set(cell, [...(cells.get(cell) ?? []), [name, entry]]);
    });
  }
  for (const together of cells.values()) {
    const side = Math.ceil(Math.sqrt(together.length));
    together.forEach(([name, entry], i) => {
      if (side === 1) return;
      found[name][2 * entry] += ((i % side) + 0.5) / side - 0.5;
      found[name][2 * entry + 1] += 0.5 - (Math.floor(i / side) + 0.5) / side;
      found[`scale of ${name}`][entry] = 1.2 / side;
    });
  }
  return found;
}

/** A view between two: `moving` fields on the straight line between them, others of the first. */
export function between(view, next, share, moving) {
  if (!next || share === 0) return view;
  const found = { ...view };
  for (const name of Object.keys(view)) {
    if (!moving.has(name)) continue;
    found[name] = Float32Array.from(view[name], (from, i) => from + share * (next[name][i] - from));
  }
  return found;
}

/** Fields that hold places: what moves between two moments. */
export function movingFields(scene) {
  const found = new Set();
  for (const { at, start, end } of scene.layers) {
    for (const place of [at, start, end]) if (place) found.add(place.field);
  }
  return found;
}

export const ARROW = 0.1;  // length of an arrow to what lies outside, in units of the plane

/** Where something is drawn that may have left the camera: if so, at its rim. */
export function withinRim(scene, [x, y], size) {
  const inside = (v, k) => v >= scene.low[k] + size && v <= scene.high[k] - size;
  if (inside(x, 0) && inside(y, 1)) return [x, y];
  const inset = 1.2 * size + ARROW;
  const clip = (v, k) => Math.min(Math.max(v, scene.low[k] + inset), scene.high[k] - inset);
  return [clip(x, 0), clip(y, 1)];
}

/** Factor on the size of an entry, where cells are shared. */
export const scaleOf = (layer, view, entry) => view[`scale of ${layer.at.field}`]?.[entry] ?? 1;

/** Entries that overlap another of their pairs. */
export function bumped(layer, view) {
  const found = new Set(), places = placesOf(layer.at, view);
  for (const [i, j] of layer.bumps ?? []) {
    const distance = Math.hypot(places[i][0] - places[j][0], places[i][1] - places[j][1]);
    if (distance < 2 * layer.size) found.add(i).add(j);
  }
  return found;
}

/** Numbers whose colours mark `k` is shared out among; null where it is nobody's matter. */
export function ownersOf(layer, view, k) {
  if (!layer.owners) return null;
  if (typeof layer.owners !== "string") return layer.owners[k];
  return Array.from(view[layer.owners]).flatMap((number, i) => (number === k ? [i] : []));
}

