/** Strips: quantities over the time of an episode, with a line at the moment that is shown. */

import { written } from "./columns.mjs";
import { agentColours } from "./scene.mjs";

/**
 * What may be shown below a scene. `after`: what a step led to, drawn at the moment behind it;
 * otherwise what holds before the step, drawn at the moment that it is decided at.
 */
export const STRIPS = [
  { name: "return_so_far", title: "return so far", unit: "", after: true },
  { name: "reward", title: "reward", unit: "", after: true },
  { name: "probability", title: "action probabilities", unit: "", low: 0, high: 1 },
  { name: "entropy", title: "entropy of the policy", unit: "nat", low: 0 },
  { name: "delta", title: "trust region δ", unit: "nat", low: 0 },
  { name: "nonstationarity", title: "non-stationarity D", unit: "nat", low: 0 },
];

const SVG = "http://www.w3.org/2000/svg";
const MARKED = 120;  // steps, of more of which the actions taken are not marked
const HEIGHT = 100;  // of a plot in its own units; it is stretched to its place on the page

/** Range of values of a strip over all of these recordings; never empty. */
export function rangeOf(spec, recordings) {
  const columns = recordings.flatMap(({ columns }) => columns[spec.name] ?? []);
  const low = spec.low ?? Math.min(...columns.map((column) => column.low));
  const high = spec.high ?? Math.max(...columns.map((column) => column.high));
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

/** An SVG path through [x, y] points, interrupted where y is not finite; a point alone is a dot. */
export function pathOf(points) {
  const there = (k) => Number.isFinite(points[k]?.[1]);
  return points.map(([x, y], k) => {
    if (!there(k)) return "";
    const alone = !there(k - 1) && !there(k + 1);
    return `${there(k - 1) ? "L" : "M"}${x} ${Math.round(100 * y) / 100}${alone ? "h0" : ""}`;
  }).join("");
}

/** Lower and upper edge of each action's band, for each step: [action][step] -> [low, high]. */
export function stacked(rows) {
  const bands = Array.from(rows[0] ?? [], () => []);
  for (const row of rows) {
    let sum = 0;
    row.forEach((share, action) => bands[action].push([sum, (sum += share)]));
  }
  return bands;
}

/** Number of the step whose values belong to a moment; it may lie outside of the episode. */
export const stepAt = (spec, moment) => (spec.after ? moment - 1 : moment);

/** Values of a strip in a step: of the episode, of all agents, or of one agent's actions. */
export function valuesAt(spec, recording, episode, step, chosen) {
  const field = recording.fields[spec.name];
  if (step < 0 || step >= recording.lengths[episode]) return null;
  const all = field.at(episode, step);
  if (spec.name !== "probability") return all;
  const width = field.entries / recording.agents.length;
  return all.subarray(chosen * width, chosen * width + recording.actions[chosen].length);
}

/** One strip on the page. */
export class Strip {
  /** @param hover is called with the moment under the pointer, and with null when it leaves */
  constructor(spec, hover) {
    this.spec = spec;
    this.root = make("section", { className: "strip" });
    this.root.dataset.name = spec.name;
    this.title = make("h3", {}, this.root);
    const plot = make("div", { className: "plot" }, this.root);
    const axis = make("div", { className: "axis" }, plot);
    [this.high, this.low] = [make("span", {}, axis), make("span", {}, axis)];
    const field = make("div", { className: "field" }, plot);
    this.svg = draw("svg", { preserveAspectRatio: "none", role: "img" }, field);
    // Beside the drawing, not in it: what does not move is painted once.
    this.hovered = make("div", { className: "hovered", hidden: true }, field);
    this.now = make("div", { className: "now" }, field);
    this.numbers = make("ul", { className: "numbers" }, this.root);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      hover(Math.round(((event.clientX - box.left) / box.width) * this.span));
    });
    this.svg.addEventListener("pointerleave", () => hover(null));
  }

  /**
   * Draws an episode.
   *
   * @param shown {recording, episode, chosen: an agent, span: moments on the axis, range, first: the
   *   view at the start, colours}
   */
  show(shown) {
    Object.assign(this, shown, { step: null });  // no numbers are there yet
    const { spec, recording, span, range, svg } = this, { title, unit } = spec;
    const of = spec.name === "probability" ? ` of ${recording.agents[this.chosen]}` : "";
    this.title.textContent = title + of + (unit ? ` (${unit})` : "");
    svg.setAttribute("aria-label", this.title.textContent);
    svg.setAttribute("viewBox", `0 0 ${span} ${HEIGHT}`);
    svg.replaceChildren();
    const { step } = recording.columns[spec.name], coarse = Math.max(step, (range[1] - range[0]) / 1e3);
    [this.low.textContent, this.high.textContent] = range.map((value) => written(value, coarse));
    if (range[0] < 0 && range[1] > 0) {
      draw("line", { class: "zero", x1: 0, x2: span, y1: this.y(0), y2: this.y(0) }, svg);
    }
    if (spec.name === "probability") this.showActions();
    else this.showLines();
  }

  y(value) {
    const [low, high] = this.range;
    return HEIGHT * (0.97 - (0.94 * (value - low)) / (high - low));
  }

  /** x of a step. */
  x(step) {
    return step + (this.spec.after ? 1 : 0);
  }

  /** Values of all steps of the episode, [step][entry]. */
  rows() {
    const { spec, recording, episode, chosen } = this;
    return Array.from({ length: recording.lengths[episode] }, (_, step) =>
      valuesAt(spec, recording, episode, step, chosen));
  }

  showLines() {
    const { recording, chosen, colours, svg } = this, rows = this.rows();
    const single = this.spec.name === "return_so_far", count = rows[0].length;
    const numbers = agentColours(recording.scene, this.first, recording.agents.length);
    const styles = Array.from({ length: count }, (_, i) => ({
      colour: single ? colours.ink : colours.own[numbers[i] % colours.own.length],
      dashed: !single && numbers.indexOf(numbers[i]) !== i,
    }));
    const order = styles.map((_, i) => i).sort((a, b) => (a === chosen) - (b === chosen));
    for (const i of order) {
      const points = rows.map((row, step) => [this.x(step), this.y(row[i])]);
      const kind = single || i === chosen ? "line chosen" : "line";
      const path = draw("path", { class: kind, d: pathOf(points), stroke: styles[i].colour }, svg);
      if (styles[i].dashed) path.setAttribute("stroke-dasharray", "4 3");
    }
    this.list(styles.map((style, i) => ({
      ...style, text: single ? "" : String(i), title: single ? "" : recording.agents[i],
    })));
  }

  showActions() {
    const { recording, episode, chosen, colours, svg } = this, rows = this.rows();
    const bands = stacked(rows), taken = recording.fields.action_taken;
    bands.forEach((band, action) => {
      const there = band.map(([low, high], step) => [step, low, high]).filter(([, low]) => low >= 0);
      // The last step's share is held up to the moment that it leads to.
      const steps = there.flatMap(([step, low, high]) => [[step, low, high], [step + 1, low, high]]);
      const upper = steps.map(([x, , high]) => [x, this.y(high)]);
      const lower = steps.map(([x, low]) => [x, this.y(low)]).reverse();
      const fill = colours.actions[action % colours.actions.length];
      draw("path", { class: "area", d: pathOf([...upper, ...lower]), fill }, svg);
    });
    if (this.span <= MARKED) rows.forEach((_, step) => {
      const band = bands[taken.at(episode, step)[chosen]]?.[step];
      if (!band || !(band[0] >= 0)) return;
      const y = this.y((band[0] + band[1]) / 2);
      draw("path", { class: "taken", d: `M${step + 0.5} ${y}l0 0.001`, stroke: colours.ink }, svg);
    });
    this.list(recording.actions[chosen].map((text, action) => ({
      colour: colours.actions[action % colours.actions.length], text, title: "",
    })));
  }

  /** The list of numbers below the plot. */
  list(entries) {
    this.values = entries.map(({ colour, dashed, text, title }, i) => {
      const item = make("li", { title });
      if (this.spec.name !== "probability" && entries.length > 1 && i === this.chosen) {
        item.className = "chosen";
      }
      if (text) make("i", { className: dashed ? "dashed" : "" }, item).style.color = colour;
      make("span", { textContent: text }, item);
      return make("b", {}, item);
    });
    this.numbers.replaceChildren(...this.values.map((value) => value.parentElement));
  }

  /** Moves the line; numbers are those of the hovered moment, or else of the one that is shown. */
  point(moment, hovered) {
    const { spec, recording, episode, chosen } = this;
    const place = (line, x) => (line.style.transform = `translateX(${(100 * x) / this.span}%)`);
    place(this.now, moment);
    this.hovered.hidden = hovered === null;
    if (hovered !== null) place(this.hovered, hovered);
    const step = stepAt(spec, hovered ?? Math.floor(moment));
    if (step === this.step) return;
    this.step = step;
    const values = valuesAt(spec, recording, episode, step, chosen);
    const scale = recording.columns[spec.name].step;
    const taken = recording.fields.action_taken.at(episode, Math.min(step, recording.fields.action_taken.times - 1));
    this.values.forEach((value, i) => {
      value.textContent = values ? written(values[i], scale) : "–";
      if (spec.name === "probability") {
        value.parentElement.classList.toggle("chosen", Boolean(values) && taken[chosen] === i);
      }
    });
  }
}

/** An HTML element with these properties, at the end of another. */
export function make(kind, properties = {}, parent = null) {
  const element = Object.assign(document.createElement(kind), properties);
  parent?.append(element);
  return element;
}

/** An SVG element with these attributes, at the end of another. */
export function draw(kind, attributes, parent) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}
