/** The player: what is shown, the controls, and time. */

import { dequantised, inflated, marksOf, written } from "./columns.mjs";
import { Pane, coloursOf, viewOf, weightsOf } from "./pane.mjs";
import { agentAt, agentColours, arranged, cameraOf, placesOf } from "./scene.mjs";
import { make } from "./strips.mjs";

const SPEEDS = [1, 2, 5, 10, 20, 50, 100];  // steps a second
const TANGLED = 4;  // agents from which on the edges of all are a tangle

const at = (id) => document.getElementById(id);

export class Viewer {
  /** @param data {title, sources: [{label, recordings}]}, see `embed.py` */
  constructor(data) {
    this.data = data;
    this.panes = [];
    this.state = {
      moment: 0, episode: 0, chosen: 0, hovered: null, playing: false, speed: 5, span: 1,
      edges: "none", edgesOf: "all", paths: true, beside: false, colours: null,
    };
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  /** Builds the page and shows its first moment. */
  async start() {
    const { data, state } = this, first = data.sources[0].recordings;
    at("title").textContent = data.title;
    const checkpoints = new Set(first.map((own) => own.checkpoint)).size;
    state.beside = data.sources.length > 1 || checkpoints > 1;
    const early = first[0], late = data.sources.at(-1).recordings.at(-1);
    const one = data.sources.length > 1 ? first.at(-1) : state.beside ? early : late;
    this.starting = [
      { source: 0, seed: one.seed, checkpoint: one.checkpoint },
      { source: data.sources.length - 1, seed: one.seed, checkpoint: late.checkpoint },
    ];
    this.listen();
    this.theme();
    await this.beside(state.beside);
    const { agents, fields, lengths } = this.panes[0].recording;
    if (fields.coordination) state.edges = "coordination";
    if (agents.length > TANGLED) state.edgesOf = "chosen";
    this.setSpeed(Math.max(...lengths) > 60 ? 20 : 5);
    this.changed();
  }

  /** Shows two recordings side by side, or one. */
  async beside(two) {
    this.state.beside = two;
    while (this.panes.length > (two ? 2 : 1)) this.panes.pop().root.remove();
    while (this.panes.length < (two ? 2 : 1)) {
      this.panes.push(new Pane(this, at("panes"), this.starting[this.panes.length]));
    }
    at("panes").className = two ? "two" : "one";
    await this.changed();
  }

  /** Reads what is chosen now and draws everything anew. */
  async changed() {
    await Promise.all(this.panes.map((pane) => pane.read()));
    const { state } = this, recordings = this.panes.map((pane) => pane.recording);
    const episodes = Math.min(...recordings.map(({ lengths }) => lengths.length));
    state.episode = Math.min(state.episode, episodes - 1);
    state.chosen = Math.min(state.chosen, Math.max(...recordings.map(({ agents }) => agents.length)) - 1);
    const [{ greedy, key }] = recordings;
    at("about").textContent = `${greedy ? "greedy" : "sampled"} actions, key ${key}`;
    at("panes").classList.toggle("bare", recordings.every(({ scene }) => !scene));
    this.showOptions(episodes);
    this.showEpisode();
  }

  /** Draws the episode that is chosen. */
  showEpisode() {
    const { state, panes } = this;
    state.span = Math.max(...panes.map(({ recording }) => recording.lengths[state.episode]));
    this.exact = state.moment = Math.min(state.moment, state.span);
    at("slider").max = state.span;
    const starts = new Set(panes.map(({ recording }) => recording.starts[state.episode]));
    at("notice").textContent = starts.size === 1 ? "" :
      "These two did not start alike: equal starts need the same environment, key and seed.";
    panes.forEach((pane) => pane.showEpisode());
    const recording = this.peopled(), first = viewOf(recording, state.episode, 0);
    agentColours(recording.scene, first, this.chips.length).forEach((number, agent) =>
      this.chips[agent].style.setProperty("--colour", `var(--own-${number % 8})`));
    this.show();
  }

  /** Draws the moment. */
  show() {
    const { state } = this, whole = Math.floor(state.moment);
    if (Number(at("slider").value) !== whole) at("slider").value = whole;
    at("moment").textContent = `${whole} / ${state.span}`;
    this.panes.forEach((pane) => pane.show());
  }

  /** Choices that all panes share. */
  showOptions(episodes) {
    const { state } = this, [{ recording }] = this.panes, bar = at("options");
    const marks = marksOf(recording.returns.slice(0, episodes).map((value) => value ?? -Infinity));
    const has = (name) => this.panes.find((pane) => pane.recording.fields[name] && pane.hasAgents);
    bar.replaceChildren();
    this.option("episode", "Episode", marks.map((mark, k) => [
      k, `${recording.episodes[k]}: return ${written(recording.returns[k] ?? NaN, 0.01)}${mark && ` (${mark})`}`,
    ]), Number, () => this.showEpisode());
    const edges = [["none", "none"]];
    if (has("coordination")) edges.push(["coordination", "coordination C"]);
    const attending = has("attention")?.recording;
    if (attending) {
      const heads = attending.fields.attention.entries / attending.agents.length ** 2;
      edges.push(["attention:mean", "attention, mean of heads"]);
      for (let k = 0; k < heads; k++) edges.push([`attention:${k}`, `attention, head ${k + 1}`]);
    }
    if (!edges.some(([kind]) => kind === state.edges)) state.edges = "none";
    if (edges.length > 1) {
      this.option("edges", "Edges", edges, String, () => this.show());
      const whose = [["all", "all agents"], ["chosen", "the chosen agent"]];
      this.option("edgesOf", "of", whose, String, () => this.show());
    }
    if (this.panes[0].hasAgents) this.check("paths", "Paths", () => this.show());
    const count = this.data.sources.reduce((sum, own) => sum + own.recordings.length, 0);
    if (count > 1) this.check("beside", "Side by side", () => this.beside(state.beside));
    this.showAgents(bar, this.peopled());
  }

  /** The recording that is shown with the most agents: all of them can be chosen. */
  peopled() {
    const shown = this.panes.map((pane) => pane.recording);
    return shown.reduce((most, own) => (own.agents.length > most.agents.length ? own : most));
  }

  showAgents(bar, { agents }) {
    const group = make("div", { className: "agents" }, bar);
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Chosen agent");
    make("span", { textContent: "Agent" }, group);
    this.chips = agents.map((name, agent) => {
      const text = name === `agent_${agent}` || name === String(agent) ? agent : `${agent} ${name}`;
      const chip = make("button", { textContent: text, title: name }, group);
      chip.setAttribute("aria-pressed", agent === this.state.chosen);
      chip.addEventListener("click", () => this.choose(agent));
      return chip;
    });
  }

  option(name, title, values, read, then) {
    const label = make("label", { textContent: `${title} ` }, at("options"));
    const select = make("select", { id: name }, label);
    for (const [value, text] of values) make("option", { value, textContent: text }, select);
    select.value = this.state[name];
    select.addEventListener("change", () => {
      this.state[name] = read(select.value);
      then();
    });
  }

  check(name, title, then) {
    const label = make("label", {}, at("options"));
    const box = make("input", { type: "checkbox", id: name, checked: this.state[name] }, label);
    label.append(` ${title}`);
    box.addEventListener("change", () => {
      this.state[name] = box.checked;
      then();
    });
  }

  /** Chooses an agent. */
  choose(agent) {
    this.state.chosen = agent;
    this.chips.forEach((chip, k) => chip.setAttribute("aria-pressed", k === agent));
    this.showEpisode();
  }

  /** Shows the numbers of a moment under the pointer; null for none. */
  hover(moment) {
    this.state.hovered = moment;
    this.show();
  }

  /** Goes to a whole moment, and stays there. */
  go(moment) {
    this.play(false);
    this.state.moment = Math.min(Math.max(Math.round(moment), 0), this.state.span);
    this.show();
  }

  play(playing) {
    const { state } = this;
    if (playing && state.moment >= state.span) state.moment = 0;
    this.exact = state.moment;
    if (playing && !state.playing) requestAnimationFrame((now) => this.advance(now, now));
    state.playing = playing;
    at("play").textContent = playing ? "Pause" : "Play";
  }

  /** One frame of an episode that plays. */
  advance(before, now) {
    const { state } = this;
    if (!state.playing) return;
    const elapsed = Math.min((now - before) / 1000, 0.25);  // a page in the background stands still
    this.exact = Math.min(this.exact + elapsed * state.speed, state.span);
    state.moment = this.still ? Math.floor(this.exact) : this.exact;
    this.show();
    if (state.moment >= state.span) this.play(false);
    else requestAnimationFrame((then) => this.advance(now, then));
  }

  setSpeed(speed) {
    this.state.speed = speed;
    at("speed").value = speed;
  }

  theme() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const set = () => {
      document.documentElement.dataset.theme = at("theme").value || (dark.matches ? "dark" : "light");
      this.state.colours = coloursOf(document.documentElement);
      if (this.panes.every((pane) => pane.strips) && this.panes.length) this.showEpisode();
    };
    at("theme").addEventListener("change", set);
    dark.addEventListener("change", set);
    set();
  }

  listen() {
    for (const speed of SPEEDS) make("option", { value: speed, textContent: `${speed} steps/s` }, at("speed"));
    at("speed").addEventListener("change", () => this.setSpeed(Number(at("speed").value)));
    at("play").addEventListener("click", () => this.play(!this.state.playing));
    at("back").addEventListener("click", () => this.go(Math.ceil(this.state.moment) - 1));
    at("forth").addEventListener("click", () => this.go(Math.floor(this.state.moment) + 1));
    at("slider").addEventListener("input", () => this.go(Number(at("slider").value)));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || ownsKey(event)) return;
      const action = this.keys()[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      const digit = /^[0-9]$/.test(event.key) && Number(event.key) < this.chips.length;
      if (!action && !digit) return;
      event.preventDefault();
      if (digit) this.choose(Number(event.key));
      else action(event);
    });
  }

  /** What keys do. */
  keys() {
    const { state } = this, step = (event) => (event.shiftKey ? 10 : 1);
    const faster = (by) => {
      const next = SPEEDS[SPEEDS.indexOf(state.speed) + by];
      if (next) this.setSpeed(next);
    };
    const turn = (id, by) => {
      const select = at(id);
      if (!select) return;
      select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
      select.dispatchEvent(new Event("change"));
    };
    return {
      " ": () => this.play(!state.playing),
      ArrowLeft: (event) => this.go(Math.ceil(state.moment) - step(event)),
      ArrowRight: (event) => this.go(Math.floor(state.moment) + step(event)),
      Home: () => this.go(0),
      End: () => this.go(state.span),
      n: () => turn("episode", 1),
      p: () => turn("episode", -1),
      e: () => turn("edges", 1),
      a: () => this.choose((state.chosen + 1) % this.chips.length),
      "+": () => faster(1),
      "=": () => faster(1),
      "-": () => faster(-1),
    };
  }
}

/** Whether what has the focus does something with the key itself. */
function ownsKey({ target, key }) {
  const kind = target.tagName;
  if (kind === "SELECT" || kind === "TEXTAREA") return true;
  return key === " " && ["BUTTON", "INPUT", "SUMMARY"].includes(kind) && target.type !== "range";
}

/** Starts the page on its own data. */
export async function startViewer() {
  const viewer = new Viewer(JSON.parse(at("data").textContent));
  // For the console, and for tests.
  globalThis.viewer = viewer;
  globalThis.viewerParts = {
    agentAt, agentColours, arranged, cameraOf, dequantised, inflated, placesOf, weightsOf,
  };
  await viewer.start();
  performance.mark("shown");
}
