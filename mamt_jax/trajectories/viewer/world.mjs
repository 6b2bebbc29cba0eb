/**
 * A game in which trained agents act, without a page: what is, what they make of it, what follows.
 *
 * `now` is the newest state and `said` what the networks say of it; `before` is the state that led
 * to it, between which and `now` a page draws the way.
 */

import { GAMES } from "./games.mjs";
import { actionProbabilities, greedyActions, inspectStep, sampledActions } from "./networks.mjs";

const TRAIL = 60;  // moments of which an agent's path is kept

/** A source of uniform numbers in [0, 1): mulberry32. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** An array of rows, numbers or flags, as a flat one of numbers. */
const flat = (rows) => Float32Array.from(rows.flat(), Number);

export class World {
  /** @param options of the game, with its `name`; @param still what its view leaves out */
  constructor(options, networks, still, seed) {
    Object.assign(this, { options, networks, still });
    this.game = GAMES[options.name];
    this.greedy = true;
    this.restart(seed);
  }

  /** Starts anew: by a seed, or as the last time. */
  restart(seed = this.seed) {
    this.seed = seed;
    this.random = randomFrom(seed);
    this.held = null;
    this.returned = 0;
    this.show(this.game.reset(this.options, this.random));
    this.draw();
  }

  /** Draws what sampled actions of the next step hang on, so that they do not flicker meanwhile. */
  draw() {
    this.drawn = this.networks.actionCounts.map(() => this.random());
    this.think();
  }

  /** Puts a state in the place of the present one. */
  show(state) {
    this.before = this.now = state;
    this.trail = [this.view(state)];
  }

  /** What is drawn of a state: flat arrays by name. */
  view(state) {
    const fields = Object.entries(this.game.view(this.options, state));
    return { ...this.still, ...Object.fromEntries(fields.map(([name, rows]) => [name, flat(rows)])) };
  }

  /** What the networks make of the present state. */
  think() {
    const { networks } = this, drawn = this.drawn.slice();
    const obs = this.game.observe(this.options, this.now);
    const probability = actionProbabilities(networks, obs);
    const sampled = () => sampledActions(probability, () => drawn.shift());
    const action = this.greedy ? greedyActions(probability) : sampled();
    this.said = { probability, action, ...inspectStep(networks, obs, action, probability) };
  }

  /** Lets everyone do what they have decided. */
  step() {
    const done = this.game.step(this.options, this.now, this.said.action, this.random);
    this.before = this.now;
    this.now = done.state;
    this.returned += done.reward.reduce((sum, own) => sum + own, 0) / done.reward.length;
    if (this.held) this.put();
    this.trail = [...this.trail.slice(1 - TRAIL), this.view(this.now)];
    this.draw();
  }

  /** Takes hold of an entry of a field, or lets go with null. */
  hold(field, index) {
    this.held = field === null ? null : { field, index };
  }

  /** Puts what is held at a place of the plane. */
  move(place) {
    this.held.place = place;
    this.put();
    this.think();
  }

  put() {
    const { field, index, place } = this.held;
    if (!place) return;
    const moved = (state) => this.game.place(this.options, state, field, index, place);
    [this.before, this.now] = [moved(this.before), moved(this.now)];
  }

  /** Adds something at a place, or takes it away; in games that have this. */
  toggle(place) {
    this.before = this.now = this.game.toggle(this.options, this.now, place);
    this.think();
  }
}
