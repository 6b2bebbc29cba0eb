/** Draws one moment of a scene on a canvas; what scenes and views are, says `scene.mjs`. */

import {
  ARROW, agentColours, agentField, agentPlaces, bumped, cameraOf, colourNumber, entriesOf, isAgents, ownersOf,
  placesOf, scaleOf, withinRim,
} from "./scene.mjs";

/**
 * Draws a moment.
 *
 * @param pen a 2d context, scaled so that its unit is a CSS pixel
 * @param size [width, height] in these pixels
 * @param scene see above
 * @param view see above
 * @param colours {own: [...], ink, faint, plain, alert, paper, floor}, CSS colours
 * @param extra what else there is: `chosen` an agent; `alive` flags of agents; `actions` of agents;
 *   `edges` {weights: flat [n, n], of: agents whose edges are drawn}; `paths` [{agent, xy: flat}]
 */
export function drawScene(pen, [width, height], scene, view, colours, extra = {}) {
  const camera = cameraOf(scene, width, height);
  const tools = { pen, camera, scene, view, colours, extra, own: ownColours(scene, view, colours) };
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, width, height);
  const firstAgents = scene.layers.findIndex(isAgents);
  scene.layers.forEach((layer, k) => {
    if (k === firstAgents) {
      drawPaths(tools);
      drawEdges(tools);
    }
    DRAW[layer.kind]?.(tools, layer);
  });
}

/** Colour of each agent. */
function ownColours(scene, view, colours) {
  const numbers = agentColours(scene, view, 0);
  return (agent) => colours.own[(numbers[agent] ?? agent) % colours.own.length];
}

const DRAW = {
  box({ pen, camera, colours }, { low, high, spacing = 0 }) {
    const corner = [camera.x(low[0]), camera.y(high[1])];
    const sides = [(high[0] - low[0]) * camera.unit, (high[1] - low[1]) * camera.unit];
    pen.fillStyle = colours.floor;
    pen.fillRect(...corner, ...sides);
    pen.strokeStyle = colours.faint;
    pen.lineWidth = 1;
    pen.strokeRect(...corner, ...sides);
    if (!spacing) return;
    pen.lineWidth = 0.5;
    pen.beginPath();
    for (let x = low[0] + spacing; x < high[0] - spacing / 2; x += spacing) {
      pen.moveTo(camera.x(x), camera.y(low[1]));
      pen.lineTo(camera.x(x), camera.y(high[1]));
    }
    for (let y = low[1] + spacing; y < high[1] - spacing / 2; y += spacing) {
      pen.moveTo(camera.x(low[0]), camera.y(y));
      pen.lineTo(camera.x(high[0]), camera.y(y));
    }
    pen.stroke();
  },

  cells({ pen, camera, view, colours }, { field, size: [columns, rows] }) {
    pen.fillStyle = colours.plain;
    for (let x = 0; x < columns; x++) {
      for (let y = 0; y < rows; y++) {
        if (!view[field][x * rows + y]) continue;
        pen.fillRect(camera.x(x - 0.5), camera.y(y + 0.5), camera.unit + 0.5, camera.unit + 0.5);
      }
    }
  },

  links({ pen, camera, scene, view, colours }, layer) {
    const drawn = agentPlaces(scene, view), agents = agentField(scene);
    const placed = (at) => placesOf(at, view).map((place, i) =>
      at.field === agents ? drawn[entriesOf(at, view)[i]] ?? place : place);
    const starts = placed(layer.start), ends = placed(layer.end);
    starts.forEach((start, i) => {
      const number = layer.nearest ? nearestOf(start, ends, layer.nearest[i]) : i;
      pen.strokeStyle = colours.own[number % colours.own.length];
      line(pen, camera, start, ends[number], 1.5, layer.dotted ? [1.5, 4] : []);
    });
  },

  marks(tools, layer) {
    const { view, extra } = tools;
    const entries = entriesOf(layer.at, view), alarming = bumped(layer, view);
    placesOf(layer.at, view).forEach((place, i) => {
      const entry = entries[i];
      if (layer.shown && !view[layer.shown][i]) return;
      const gone = layer.agents && extra.alive && !extra.alive[entry];
      tools.pen.globalAlpha = gone ? 0.25 : 1;
      mark(tools, layer, { place, entry, i, alarming: alarming.has(i) });
      tools.pen.globalAlpha = 1;
    });
  },

  symbols({ pen, camera, view, colours }, { at, value, size }) {
    const entries = entriesOf(value, view, 1);
    placesOf(at, view).forEach(([x, y], i) => {
      const symbol = view[value.field][entries[i]];
      if (!(symbol >= 0)) return;
      const corner = [x + 1.8 * size, y + 1.8 * size];
      const radius = Math.max(size * camera.unit, 7);
      pen.fillStyle = colours.ink;
      disk(pen, camera, corner, radius);
      pen.fill();
      text(pen, camera, corner, symbol, 1.4 * radius, colours.floor);
    });
  },

  tiles({ pen, camera, view, colours, extra }, layer) {
    const { field, count, low: [left, low], label, shift = 0, agent = -1, shown } = layer;
    const lit = (((view[field][0] + shift) % count) + count) % count;
    const there = agent < 0 || !shown || view[shown][agent];
    pen.globalAlpha = there ? 1 : 0.3;
    for (let k = 0; k < count; k++) {
      const colour = agent < 0 ? colours.ink : colours.own[agent % colours.own.length];
      pen.fillStyle = k === lit ? colour : colours.faint;
      const box = [camera.x(left + k + 0.06), camera.y(low + 0.5)];
      const sides = [0.88 * camera.unit, 0.5 * camera.unit];
      pen.beginPath();
      pen.roundRect(...box, ...sides, 4);
      pen.fill();
      if (there && agent >= 0 && extra.actions?.[agent] === k) {
        pen.strokeStyle = colours.ink;
        pen.lineWidth = 3;
        pen.stroke();
      }
      const shade = k === lit ? colours.floor : colours.ink, room = 0.5 * camera.unit;
      if (room > 8) text(pen, camera, [left + k + 0.5, low + 0.25], k, Math.min(0.6 * room, 18), shade);
    }
    text(pen, camera, [left + count / 2, low + 0.66], label, 13, colours.ink);
    pen.globalAlpha = 1;
  },
};

function nearestOf([x, y], places, numbers) {
  const distance = (k) => Math.hypot(places[k][0] - x, places[k][1] - y);
  return numbers.reduce((best, k) => (distance(k) < distance(best) ? k : best), numbers[0]);
}

/** One mark of a layer. */
function mark(tools, layer, { place, entry, i, alarming }) {
  const { pen, camera, scene, view, colours, extra } = tools;
  const size = layer.size * scaleOf(layer, view, entry);
  const own = colours.own[colourNumber(layer, i, entry) % colours.own.length];
  const colour = { ink: colours.ink, faint: colours.faint, plain: colours.plain }[layer.colour] ?? own;
  const centre = layer.rim ? withinRim(scene, place, layer.size) : place;
  const radius = size * camera.unit, alpha = pen.globalAlpha;
  if (layer.shape === "ring" || layer.shape === "area") {
    const lit = layer.near && distanceOf(placesOf(layer.near, view)[i], place) < size;
    outline(pen, camera, layer.shape === "ring" ? "disk" : "square", centre, radius);
    pen.globalAlpha = alpha * (layer.shape === "area" ? 0.06 : lit ? 0.3 : 0.08);
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = alpha * (layer.shape === "area" ? 0 : 0.6);
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.stroke();
    pen.globalAlpha = alpha;
    return;
  }
  const owners = ownersOf(layer, view, entry), least = Math.max(radius, 3);
  if (owners) {
    sectors(pen, camera, centre, Math.max(radius, 5), owners.map((k) => colours.own[k % colours.own.length]), colours);
    return;
  }
  outline(pen, camera, layer.shape ?? "disk", centre, least);
  pen.fillStyle = colour;
  pen.globalAlpha = layer.agents ? 0.8 * alpha : alpha;  // what lies below is seen
  pen.fill();
  pen.globalAlpha = alpha;
  const isChosen = layer.agents && extra.chosen === entry;
  if (layer.agents) {
    pen.strokeStyle = alarming ? colours.alert : isChosen ? colours.ink : colours.floor;
    pen.lineWidth = alarming ? 3.5 : isChosen ? 3 : 1;
    pen.stroke();
  }
  if (layer.rim && (centre[0] !== place[0] || centre[1] !== place[1])) {
    arrow(pen, camera, centre, place, radius, colour);
  }
  if (layer.label) {
    const height = Math.min(Math.max(1.1 * radius, 9), 26);
    text(pen, camera, centre, entry, height, colours.ink, colours.floor);
  }
}

const distanceOf = ([x0, y0], [x1, y1]) => Math.hypot(x1 - x0, y1 - y0);

/** The paths of agents over the whole episode, faint. */
function drawPaths({ pen, camera, extra, own }) {
  for (const { agent, xy } of extra.paths ?? []) {
    pen.strokeStyle = own(agent);
    pen.globalAlpha = extra.chosen === agent ? 0.75 : 0.45;
    pen.lineWidth = extra.chosen === agent ? 2 : 1.2;
    pen.beginPath();
    for (let k = 0; k < xy.length; k += 2) pen.lineTo(camera.x(xy[k]), camera.y(xy[k + 1]));
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

/** Pixels of an edge of this weight in [0, 1]. */
export const edgeWidth = (weight) => 0.5 + 8 * weight;

/** Edges from agents to others, bent so that both directions can be told apart. */
function drawEdges({ pen, camera, scene, view, extra, own }) {
  if (!extra.edges) return;
  const places = agentPlaces(scene, view), { weights, of } = extra.edges;
  const count = Math.round(Math.sqrt(weights.length));
  for (const from of of) {
    for (let to = 0; to < count; to++) {
      const weight = weights[from * count + to];
      if (to === from || !(weight > 0.01) || !places[from] || !places[to]) continue;
      pen.strokeStyle = own(from);
      pen.globalAlpha = 0.25 + 0.55 * weight;
      pen.lineWidth = edgeWidth(weight);
      bent(pen, camera, places[from], places[to]);
    }
  }
  pen.globalAlpha = 1;
}

/** A curve from one disk to the rim of another, to the left of the straight line. */
function bent(pen, camera, [x0, y0], [x1, y1, size]) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1e-9, bend = 0.14;
  const middle = [(x0 + x1) / 2 - bend * (y1 - y0), (y0 + y1) / 2 + bend * (x1 - x0)];
  const back = Math.min(size / length, 0.9);
  const end = [x1 + (middle[0] - x1) * back * 1.8, y1 + (middle[1] - y1) * back * 1.8];
  pen.beginPath();
  pen.moveTo(camera.x(x0), camera.y(y0));
  pen.quadraticCurveTo(camera.x(middle[0]), camera.y(middle[1]), camera.x(end[0]), camera.y(end[1]));
  pen.stroke();
}

function disk(pen, camera, [x, y], radius) {
  pen.beginPath();
  pen.arc(camera.x(x), camera.y(y), radius, 0, 2 * Math.PI);
}

function outline(pen, camera, shape, centre, radius) {
  if (shape === "disk") return disk(pen, camera, centre, radius);
  pen.beginPath();
  pen.rect(camera.x(centre[0]) - radius, camera.y(centre[1]) - radius, 2 * radius, 2 * radius);
}

/** A disk divided into equal sectors, one of each colour; grey where there are none. */
function sectors(pen, camera, centre, radius, shades, colours) {
  const all = shades.length ? shades : [colours.plain], angle = (2 * Math.PI) / all.length;
  const [x, y] = [camera.x(centre[0]), camera.y(centre[1])];
  all.forEach((shade, k) => {
    pen.beginPath();
    if (all.length > 1) pen.moveTo(x, y);
    pen.arc(x, y, radius, k * angle - Math.PI / 2, (k + 1) * angle - Math.PI / 2);
    pen.fillStyle = shade;
    pen.fill();
  });
  disk(pen, camera, centre, radius);
  pen.strokeStyle = colours.ink;
  pen.lineWidth = 1;
  pen.stroke();
}

function line(pen, camera, [x0, y0], [x1, y1], width, dashes) {
  pen.lineWidth = width;
  pen.setLineDash(dashes);
  pen.beginPath();
  pen.moveTo(camera.x(x0), camera.y(y0));
  pen.lineTo(camera.x(x1), camera.y(y1));
  pen.stroke();
  pen.setLineDash([]);
}

/** A triangle beside a disk of this many pixels, towards another place. */
function arrow(pen, camera, [x0, y0], [x1, y1], radius, colour) {
  const angle = Math.atan2(y0 - y1, x1 - x0), length = ARROW * camera.unit;
  pen.save();
  pen.translate(camera.x(x0), camera.y(y0));
  pen.rotate(angle);
  pen.beginPath();
  pen.moveTo(1.15 * radius + length, 0);
  pen.lineTo(1.15 * radius, 0.6 * length);
  pen.lineTo(1.15 * radius, -0.6 * length);
  pen.fillStyle = colour;
  pen.fill();
  pen.restore();
}

function text(pen, camera, [x, y], written, pixels, colour, halo = "") {
  pen.font = `600 ${pixels}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  if (halo) {
    pen.lineJoin = "round";
    pen.lineWidth = 3;
    pen.strokeStyle = halo;
    pen.strokeText(String(written), camera.x(x), camera.y(y) + 0.5);
  }
  pen.fillStyle = colour;
  pen.fillText(String(written), camera.x(x), camera.y(y) + 0.5);
}
