/** One recording on the page: its choices, its scene with a legend, and its strips. */

import { readRecording, written } from "./columns.mjs";
import { drawScene } from "./drawing.mjs";
import {
  agentAt, agentField, arranged, between, cameraOf, countsOf, heightFor, movingFields,
} from "./scene.mjs";
import { STRIPS, Strip, draw, make, rangeOf } from "./strips.mjs";

/** Colours of the page's theme, for the canvas. */
export function coloursOf(element) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const several = (name) => Array.from({ length: 8 }, (_, k) => colour(`${name}-${k}`));
  const names = ["ink", "faint", "plain", "alert", "paper", "floor"];
  const single = Object.fromEntries(names.map((name) => [name, colour(name)]));
  return { ...single, own: several("own"), actions: several("action") };
}

/** What is seen at a moment of an episode. */
export function viewOf({ scene, fields, still }, episode, moment) {
  const view = { ...still };
  if (!scene) return view;
  for (const [name, field] of Object.entries(fields)) {
    // What is of moments, not of steps, of which there is one less.
    if (field.times > fields.action_taken.times) view[name] = field.at(episode, moment);
  }
  return view;
}

/** Weights [n, n] of the edges in a step: of coordination, or of the critic's attention. */
export function weightsOf({ fields, agents }, kind, episode, step) {
  const [name, head] = kind.split(":");
  if (!fields[name]) return null;
  const all = fields[name].at(episode, step), pairs = agents.length ** 2, heads = all.length / pairs;
  if (heads === 1) return all;
  return Float32Array.from({ length: pairs }, (_, pair) => {
    const own = all.subarray(pair * heads, (pair + 1) * heads);
    return head === "mean" ? own.reduce((sum, value) => sum + value, 0) / heads : own[head];
  });
}

/** The recording of a source that comes closest to what is chosen. */
export function nearestRecording(recordings, { seed, checkpoint }) {
  const distance = (own) =>
    (own.seed === seed ? 0 : 1e9) + Math.abs(own.checkpoint - checkpoint);
  return recordings.reduce((best, own) => (distance(own) < distance(best) ? own : best));
}

/** Which {seed, checkpoint} there are to choose from. */
const valuesIn = (recordings, name) =>
  [...new Set(recordings.map((own) => own[name]))].sort((a, b) => a - b);

const pointText = (checkpoint) => (checkpoint < 0 ? "unknown" : String(checkpoint));

const READ = new Map();  // recordings that have been read, by their data

/** A recording, without its scene where that cannot be drawn: some of what it draws was cut off. */
function drawable(recording, colours) {
  const { scene } = recording;
  if (!scene) return recording;
  try {
    const pen = make("canvas").getContext("2d"), view = viewOf(recording, 0, 0);
    drawScene(pen, [100, 100], scene, arranged(scene, view), colours);
    return recording;
  } catch {
    return { ...recording, scene: null };
  }
}

/** A part of the page that shows one recording. */
export class Pane {
  /**
   * @param viewer told about choices: `chosen(agent)`, `hover(moment)` and `changed()`
   * @param choice {source, seed, checkpoint}
   */
  constructor(viewer, parent, choice) {
    Object.assign(this, { viewer, choice });
    this.root = make("div", { className: "pane" }, parent);
    const scene = make("div", { className: "scene" }, this.root);
    this.choices = make("div", { className: "choices" }, scene);
    this.canvas = make("canvas", {}, scene);
    this.canvas.setAttribute("role", "img");
    this.caption = make("p", { className: "caption" }, scene);
    this.legend = make("ul", { className: "legend" }, scene);
    this.below = make("div", { className: "strips" }, this.root);
    this.heading = make("h2");
    this.canvas.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.resize()).observe(scene);
  }

  /** Reads what is chosen. */
  async read() {
    const { sources } = this.viewer.data, { recordings } = sources[this.choice.source];
    const wanted = nearestRecording(recordings, this.choice);
    this.choice = { ...this.choice, seed: wanted.seed, checkpoint: wanted.checkpoint };
    if (!READ.has(wanted)) READ.set(wanted, readRecording(wanted));
    this.recording = drawable(await READ.get(wanted), this.viewer.state.colours);
    const { scene } = this.recording;
    this.moving = scene ? movingFields(scene) : new Set();
    this.canvas.hidden = !scene;
    this.hasAgents = Boolean(scene && agentField(scene));
    this.seen = new Map();
    this.showChoices();
    this.showLegend();
  }

  showChoices() {
    const { sources } = this.viewer.data, { recordings } = sources[this.choice.source];
    this.choices.replaceChildren();
    this.select("source", "Run", sources.map((source, k) => [k, source.label]));
    this.select("seed", "Seed", valuesIn(recordings, "seed").map((seed) => [seed, seed]));
    const points = valuesIn(recordings, "checkpoint");
    this.select("checkpoint", "Checkpoint", points.map((k) => [k, pointText(k)]));
  }

  /** A choice of values, or only what it is where there is one. */
  select(name, title, values) {
    if (values.length === 1) {
      const known = name === "source" ? values[0][1] : `${title.toLowerCase()} ${values[0][1]}`;
      make("span", { textContent: known }, this.choices);
      return;
    }
    const label = make("label", { textContent: `${title} ` }, this.choices);
    const select = make("select", { className: name }, label);
    for (const [value, text] of values) make("option", { value, textContent: text }, select);
    select.value = this.choice[name];
    select.addEventListener("change", () => {
      this.choice = { ...this.choice, [name]: Number(select.value) };
      this.viewer.changed();
    });
  }

  showLegend() {
    const { scene, fields } = this.recording, entries = [];
    for (const layer of scene?.layers ?? []) if (layer.name) entries.push([layer, layer.name]);
    if (this.hasAgents && (fields.coordination || fields.attention)) {
      entries.push([{ kind: "edge" }, "edge from i to j: as wide as C_ij, or attention, is large"]);
    }
    this.legend.replaceChildren(...entries.map(([layer, name]) => legendItem(layer, name)));
  }

  /** Draws what stays the same while an episode plays. */
  showEpisode() {
    const { viewer, recording } = this, { episode, chosen, colours, span } = viewer.state;
    this.seen.clear();
    const { scene, fields } = recording, steps = recording.lengths[episode];
    const agents = recording.agents.map((_, agent) => agent);
    const places = scene && agentField(scene);
    this.paths = !places ? [] : agents.map((agent) => {
      const xy = Array.from({ length: steps + 1 }, (_, moment) =>
        Array.from(fields[places].at(episode, moment).subarray(2 * agent, 2 * agent + 2)));
      return { agent, xy: xy.flat() };
    });
    const specs = STRIPS.filter(({ name }) => fields[name]);
    if (!this.strips || this.strips.length !== specs.length || this.strips.some(({ spec }, k) => spec !== specs[k])) {
      this.strips = specs.map((spec) => new Strip(spec, (moment) => viewer.hover(moment)));
    }
    const { source, seed, checkpoint } = this.choice;
    this.heading.textContent =
      `${viewer.data.sources[source].label}, seed ${seed}, checkpoint ${pointText(checkpoint)}`;
    this.below.replaceChildren(this.heading, ...this.strips.map(({ root }) => root));
    const first = viewOf(recording, episode, 0), shared = viewer.panes.map((pane) => pane.recording);
    for (const strip of this.strips) {
      const range = rangeOf(strip.spec, shared);
      const own = Math.min(chosen, agents.length - 1);
      strip.show({ recording, episode, chosen: own, span, range, first, colours });
    }
    this.resize();
  }

  /** The view at a whole moment, those who share a place apart. */
  viewAt(moment) {
    if (!this.seen.has(moment)) {
      if (this.seen.size > 8) this.seen.clear();
      const view = viewOf(this.recording, this.viewer.state.episode, moment);
      this.seen.set(moment, arranged(this.recording.scene, view));
    }
    return this.seen.get(moment);
  }

  /** Draws a moment; between two whole ones agents are on their way. */
  show() {
    const { recording, viewer } = this, { state } = viewer, { scene } = recording;
    const last = recording.lengths[state.episode], moment = Math.min(state.moment, last);
    const whole = Math.floor(moment);
    this.strips.forEach((strip) => strip.point(moment, state.hovered));
    if (whole !== this.whole || state.episode !== this.captioned) this.describe(whole, last);
    if (!scene || !this.size) return;
    const share = moment - whole, next = share ? this.viewAt(whole + 1) : null;
    this.view = between(this.viewAt(whole), next, share, this.moving);
    const step = Math.min(whole, last - 1), { fields, agents } = recording;
    const weights = weightsOf(recording, state.edges, state.episode, step);
    const of = state.edgesOf === "all" ? agents.map((_, agent) => agent) : [state.chosen];
    drawScene(this.pen, this.size, scene, this.view, state.colours, {
      chosen: state.chosen,
      alive: fields.alive?.at(state.episode, step),
      actions: whole < last ? fields.action_taken.at(state.episode, step) : null,
      edges: weights && { weights, of },
      paths: state.paths ? this.paths : [],
    });
  }

  /** The line below the scene. */
  describe(whole, last) {
    const { recording, viewer } = this, { episode } = viewer.state;
    [this.whole, this.captioned] = [whole, episode];
    const value = written(recording.returns[episode] ?? NaN, 0.01);
    const over = whole >= last ? "the end" : `step ${whole} of ${last}`;
    const counts = recording.scene ? countsOf(recording.scene, this.viewAt(whole)) : [];
    const unseen = recording.scene ? [] : ["this recording does not say where things are"];
    this.caption.textContent =
      [over, `return of the episode ${value}`, ...counts, ...unseen].join(" · ");
    this.canvas.setAttribute("aria-label", `Picture of the episode: ${this.caption.textContent}`);
  }

  resize() {
    const { scene } = this.recording ?? {}, width = this.canvas.clientWidth;
    if (!scene || !width) return;
    const height = Math.min(heightFor(scene, width), Math.max(280, 0.72 * innerHeight));
    const ratio = devicePixelRatio || 1;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.pen = this.canvas.getContext("2d");
    this.pen.scale(ratio, ratio);
    this.size = [width, height];
    if (this.strips) this.show();
  }

  click(event) {
    const { scene } = this.recording, camera = cameraOf(scene, ...this.size);
    const agent = agentAt(scene, this.view, ...camera.plane(event.offsetX, event.offsetY));
    if (agent >= 0) this.viewer.choose(agent);
  }
}

/** A line of the legend. */
export function legendItem(layer, name) {
  const item = make("li");
  symbol(layer, draw("svg", { viewBox: "-8 -7 16 14", "aria-hidden": true }, item));
  item.append(name);
  return item;
}

/** What stands for a layer in the legend. */
function symbol(layer, svg) {
  const colour = { ink: "var(--ink)", plain: "var(--plain)", faint: "var(--faint)" };
  const fill = colour[layer.colour] ?? "var(--own-0)";
  const add = (kind, attributes, style) => Object.assign(draw(kind, attributes, svg).style, style);
  const size = { "disk": 5, "square": 5, "ring": 6, "area": 6 }[layer.shape ?? "disk"];
  const square = { x: -size, y: -size, width: 2 * size, height: 2 * size };
  if (layer.kind === "links" || layer.kind === "edge") {
    const width = layer.kind === "edge" ? 4 : 1.5, dots = layer.dotted ? "1.5 3" : "";
    add("path", { d: "M-8 0H8", "stroke-dasharray": dots, "stroke-width": width },
      { stroke: "var(--own-0)", opacity: layer.kind === "edge" ? 0.6 : 1 });
  } else if (layer.kind === "cells") {
    add("rect", square, { fill: "var(--plain)" });
  } else if (layer.kind === "symbols") {
    add("circle", { r: 4 }, { fill: "var(--ink)" });
  } else if (layer.owners) {
    add("circle", { r: 4.5 }, { fill: "var(--own-0)", stroke: "var(--ink)" });
  } else {
    const faint = layer.shape === "ring" || layer.shape === "area";
    const style = { fill, fillOpacity: faint ? 0.15 : 1, stroke: layer.shape === "ring" ? fill : "none" };
    if (layer.shape === "square" || layer.shape === "area") add("rect", square, style);
    else add("circle", { r: size }, style);
  }
}
