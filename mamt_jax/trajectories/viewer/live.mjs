/** The page one can touch: trained agents in a game that answers to the pointer and to keys. */

import { inflated, written } from "./columns.mjs";
import { Bars, Pairs } from "./decisions.mjs";
import { drawScene } from "./drawing.mjs";
import { Hands } from "./hands.mjs";
import { loadNetworks } from "./networks.mjs";
import { coloursOf, legendItem } from "./pane.mjs";
import { agentColours, arranged, between, cameraOf, countsOf, heightFor, movingFields } from "./scene.mjs";
import { make } from "./strips.mjs";
import { World } from "./world.mjs";

const PACES = [1, 2, 5, 10, 20];  // steps a second
const TANGLE = 4;  // agents from which on the edges of all are a tangle

const byId = (id) => document.getElementById(id);

export class Live {
  /** @param data {title, about, agents, actions, scene, still, length, options, weights}, see live.py */
  constructor(data) {
    this.data = data;
    this.state = { playing: false, pace: 5, chosen: 0, edges: "none", edgesOf: "all", share: 1 };
    this.moving = movingFields(data.scene);
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  /** Builds the page and shows the start. */
  async start() {
    const { data, state } = this, { index, numbers } = data.weights;
    const networks = loadNetworks(index, await inflated(numbers));
    this.world = new World(data.options, networks, data.still, 1);
    byId("title").textContent = data.title;
    byId("about").textContent = data.about;
    if (index.coordination) state.edges = "coordination";
    if (data.agents.length > TANGLE) state.edgesOf = "chosen";
    this.bars = new Bars(byId("decisions"), data.agents, data.actions, (agent) => this.choose(agent));
    this.pairs = new Pairs(byId("decisions"), data.agents);
    this.hands = new Hands(this, byId("plane"));
    this.showOptions(index);
    this.showLegend();
    this.listen();
    this.theme();
    new ResizeObserver(() => this.resize()).observe(byId("plane").parentElement);
    this.changed();
  }

  /** After the world has changed: what is said of it now is shown with the next frame. */
  changed() {
    this.stale = true;
    if (!this.waiting) this.waiting = requestAnimationFrame((now) => this.frame(now));
  }

  /** One frame: as many steps as are due, then everything is drawn. */
  frame(now) {
    const { state, world } = this;
    this.waiting = null;
    if (state.playing) {
      // A page in the background stands still.
      state.share += Math.min((now - (this.last ?? now)) / 1000, 0.25) * state.pace;
      for (; state.share >= 1; state.share -= 1) world.step();
      this.stale = true;
    }
    this.last = state.playing ? now : null;
    if (this.stale) this.show();
    this.stale = false;
    if (state.playing) this.waiting = requestAnimationFrame((then) => this.frame(then));
  }

  /** Draws the world on its way to its newest state. */
  show() {
    const { state, world, data } = this, { said } = world;
    const share = this.still || !state.playing ? 1 : state.share;
    const [from, to] = [world.before, world.now].map((one) => arranged(data.scene, world.view(one)));
    this.view = share === 1 ? to : between(from, to, share, this.moving);
    const weights = this.weights();
    if (said !== this.shown || this.restyled) {
      this.bars.show(said, state.chosen, agentColours(data.scene, to, data.agents.length));
      this.pairs.show(weights, this.edgesTitle());
      byId("caption").textContent = this.caption(to);
    }
    [this.shown, this.restyled] = [said, false];
    if (!this.size) return;
    const of = state.edgesOf === "all" ? data.agents.map((_, agent) => agent) : [state.chosen];
    drawScene(this.pen, this.size, data.scene, this.view, this.colours, {
      chosen: state.chosen,
      actions: said.action,
      edges: weights && { weights, of },
      paths: this.paths(),
    });
    this.hands.draw(this.pen, this.camera);
  }

  caption(view) {
    const { world, data } = this, { time } = world.now;
    const over = time > data.length ? ` (in training an episode ends after ${data.length})` : "";
    const so = `return so far ${written(world.returned, 0.01)}`;
    return [`step ${time}${over}`, so, ...countsOf(data.scene, view)].join(" · ");
  }

  /** Weights [n, n], flat, of the edges that are chosen; null for none. */
  weights() {
    const { state, world } = this, [name, head] = state.edges.split(":");
    const rows = world.said[name];
    if (!rows) return null;
    if (name === "coordination") return Float32Array.from(rows.flat());
    const mean = (heads) => heads.reduce((sum, weight) => sum + weight, 0) / heads.length;
    return Float32Array.from(rows.flat(), (heads) => (head === "mean" ? mean(heads) : heads[head]));
  }

  edgesTitle() {
    const select = byId("edges");
    return `${select.selectedOptions[0].textContent}: what the row's agent gives to each other`;
  }

  /** Where agents have been of late. */
  paths() {
    const { trail } = this.world, { scene, agents } = this.data;
    const field = scene.layers.find((layer) => layer.agents)?.at.field;
    const places = trail.map((view) => view[field]);
    return agents.map((_, agent) => ({
      agent,
      xy: places.flatMap((xy) => [xy[2 * agent], xy[2 * agent + 1]]),
    }));
  }

  showOptions({ coordination, heads }) {
    const bar = byId("options"), edges = [["none", "none"]];
    if (coordination) edges.push(["coordination", "coordination C"]);
    edges.push(["attention:mean", "attention, mean of heads"]);
    for (let k = 0; k < heads; k++) edges.push([`attention:${k}`, `attention, head ${k + 1}`]);
    this.select(bar, "edges", "Edges", edges);
    this.select(bar, "edgesOf", "of", [["all", "all agents"], ["chosen", "the chosen agent"]]);
    const hint = this.world.game.toggle
      ? "Drag agents and evaders; a click places an evader or takes it away."
      : "Drag agents and landmarks.";
    make("span", { textContent: hint }, bar);
    if (this.world.game.toggle) {
      byId("toggles").append(" · ", make("kbd", { textContent: "Enter" }), " an evader at the cursor");
    }
  }

  select(parent, name, title, values) {
    const label = make("label", { textContent: `${title} ` }, parent);
    const select = make("select", { id: name }, label);
    for (const [value, text] of values) make("option", { value, textContent: text }, select);
    select.value = this.state[name];
    select.addEventListener("change", () => {
      this.state[name] = select.value;
      this.restyle();
    });
  }

  showLegend() {
    const named = this.data.scene.layers.filter((layer) => layer.name);
    byId("legend").append(
      ...named.map((layer) => legendItem(layer, layer.name)),
      legendItem({ kind: "edge" }, "edge from i to j: as wide as C_ij, or attention, is large"),
    );
  }

  /** After a choice that changes how the same is shown. */
  restyle() {
    this.restyled = true;
    this.changed();
  }

  choose(agent) {
    this.state.chosen = agent;
    this.restyle();
  }

  play(playing) {
    this.state.playing = playing;
    this.state.share = 0;
    byId("play").textContent = playing ? "Pause" : "Play";
    this.changed();
  }

  step() {
    this.play(false);
    this.world.step();
    this.changed();
  }

  restart(seed) {
    this.hands.drop();
    this.world.restart(seed);
    this.state.share = 0;
    this.changed();
  }

  setPace(pace) {
    this.state.pace = pace;
    byId("speed").value = pace;
  }

  resize() {
    const canvas = byId("plane"), width = canvas.clientWidth, { scene } = this.data;
    if (!width) return;
    const height = Math.min(heightFor(scene, width), Math.max(280, 0.72 * innerHeight));
    const ratio = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    this.pen = canvas.getContext("2d");
    this.pen.scale(ratio, ratio);
    this.size = [width, height];
    this.camera = cameraOf(scene, width, height);
    this.restyle();
  }

  theme() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const set = () => {
      const chosen = byId("theme").value || (dark.matches ? "dark" : "light");
      document.documentElement.dataset.theme = chosen;
      this.colours = coloursOf(document.documentElement);
      this.restyle();
    };
    byId("theme").addEventListener("change", set);
    dark.addEventListener("change", set);
    set();
  }

  listen() {
    const { state, world } = this, on = (id, what) => byId(id).addEventListener("click", what);
    for (const pace of PACES) make("option", { value: pace, textContent: `${pace} steps/s` }, byId("speed"));
    this.setPace(state.pace);
    byId("speed").addEventListener("change", () => this.setPace(Number(byId("speed").value)));
    byId("actions").addEventListener("change", () => {
      world.greedy = byId("actions").value === "greedy";
      world.think();
      this.changed();
    });
    const presses = {
      " ": () => this.play(!state.playing),
      s: () => this.step(),
      r: () => this.restart(),
      f: () => this.restart(world.seed + 1),
      g: () => nextOption("actions"),
      e: () => nextOption("edges"),
      a: () => this.choose((state.chosen + 1) % this.data.agents.length),
      "+": () => this.setPace(PACES[PACES.indexOf(state.pace) + 1] ?? state.pace),
      "-": () => this.setPace(PACES[PACES.indexOf(state.pace) - 1] ?? state.pace),
    };
    on("play", presses[" "]);
    on("step", presses.s);
    on("again", presses.r);
    on("fresh", presses.f);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || usesKey(event)) return;
      const digit = /^[0-9]$/.test(event.key) && Number(event.key) < this.data.agents.length;
      const act = digit ? () => this.choose(Number(event.key)) : presses[event.key.toLowerCase()];
      if (!act && !this.hands.press(event)) return;
      event.preventDefault();
      act?.();
    });
  }
}

function nextOption(id) {
  const select = byId(id);
  select.selectedIndex = (select.selectedIndex + 1) % select.length;
  select.dispatchEvent(new Event("change"));
}

/** Whether what has the focus does something with the key itself. */
function usesKey({ target, key }) {
  if (target.tagName === "SELECT") return true;
  return [" ", "Enter"].includes(key) && ["BUTTON", "SUMMARY"].includes(target.tagName);
}

/** Starts the page on its own data. */
export async function startLive() {
  const live = new Live(JSON.parse(byId("data").textContent));
  globalThis.live = live;
  await live.start();
}
