/** Hands on the scene: what the pointer, a finger or the keys take hold of, and where they put it. */

import { agentPlaces } from "./scene.mjs";

const REACH = { mouse: 14, pen: 14, touch: 26 };  // pixels around a thing's middle, at least
const STILL = 5;  // pixels within which a press is a click

const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Hands {
  /** @param live the page: `world`, `view`, `camera`, and told of what was done */
  constructor(live, canvas) {
    Object.assign(this, { live, canvas });
    this.thing = null;  // {field, index} that keys move; field "" is a cell of the grid
    canvas.addEventListener("pointerdown", (event) => this.press_down(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("lostpointercapture", (event) => this.isOurs(event) && this.letGo());
  }

  get world() {
    return this.live.world;
  }

  /** Everything that can be taken hold of, as it is drawn: [{field, index, place}]. */
  things() {
    const { view, data } = this.live, found = [];
    const agents = agentPlaces(data.scene, view);
    for (const [field, flags] of Object.entries(this.world.game.movable)) {
      const places = view[field];
      for (let index = 0; index < places.length / 2; index++) {
        if (flags && !view[flags][index]) continue;
        const [x, y] = field === "position" ? agents[index] : places.slice(2 * index, 2 * index + 2);
        found.push({ field, index, place: [x, y] });
      }
    }
    return found;
  }

  /** What is under the pointer: the nearest within reach. */
  thingAt({ offsetX, offsetY, pointerType }) {
    const { camera } = this.live, reach = Math.max(REACH[pointerType] ?? 14, 0.08 * camera.unit);
    const near = this.things()
      .map((thing) => {
        const [x, y] = [camera.x(thing.place[0]), camera.y(thing.place[1])];
        return { ...thing, far: Math.hypot(x - offsetX, y - offsetY) };
      })
      .filter(({ far }) => far < reach);
    return near.sort((a, b) => a.far - b.far)[0] ?? null;
  }

  placeOf({ offsetX, offsetY }) {
    const { low, high } = this.live.data.scene;
    return this.live.camera
      .plane(offsetX, offsetY)
      .map((along, k) => Math.min(Math.max(along, low[k]), high[k]));
  }

  press_down(event) {
    if (event.button !== 0 || this.pressed) return;  // a second finger does nothing
    const { pointerId, offsetX, offsetY } = event;
    this.canvas.setPointerCapture(pointerId);
    this.pressed = { pointerId, at: [offsetX, offsetY], thing: this.thingAt(event), moved: false };
  }

  isOurs({ pointerId }) {
    return this.pressed?.pointerId === pointerId;
  }

  drag(event) {
    if (!this.pressed) {
      this.canvas.classList.toggle("over", this.thingAt(event) !== null);
      return;
    }
    if (!this.isOurs(event)) return;
    const { at: [x, y], thing } = this.pressed;
    if (Math.hypot(event.offsetX - x, event.offsetY - y) > STILL) this.pressed.moved = true;
    if (!thing || !this.pressed.moved) return;
    if (!this.world.held) this.world.hold(thing.field, thing.index);
    this.canvas.classList.add("held");
    this.world.move(this.placeOf(event));
    this.live.changed();
  }

  /** A press that did not move is a click: on an agent, or on a cell. */
  release(event) {
    if (!this.isOurs(event)) return;
    const { thing, moved } = this.pressed;
    if (!moved && thing?.field === "position") this.live.choose(thing.index);
    else if (!moved && this.world.game.toggle) this.toggle(this.placeOf(event));
    this.letGo();
  }

  toggle(place) {
    this.world.toggle(place);
    this.live.changed();
  }

  letGo() {
    this.pressed = null;
    this.world.hold(null);
    this.canvas.classList.remove("held");
  }

  /** Forgets what keys have taken. */
  drop() {
    this.thing = null;
    this.letGo();
  }

  /** Does what a key says; whether it says anything. */
  press(event) {
    const arrow = arrows[event.key];
    if (event.key.toLowerCase() === "t") this.takeNext(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape" && this.thing) this.thing = null;
    else if (event.key === "Enter" && this.thing?.field === "") this.toggle(this.thing.place);
    else if (arrow && this.thing) this.push(arrow);
    else return false;
    this.tell();
    this.live.changed();
    return true;
  }

  /** Takes the next thing, the cursor of a grid included. */
  takeNext(by) {
    const things = this.things(), { low, high } = this.live.data.scene;
    if (this.world.game.toggle) {
      const middle = [0, 1].map((k) => Math.round((low[k] + high[k]) / 2));
      things.unshift({ field: "", index: 0, place: middle });
    }
    const same = (one) => one.field === this.thing?.field && one.index === this.thing?.index;
    const at = things.findIndex(same);
    const next = at < 0 && by < 0 ? things.length - 1 : at + by;  // from none to the first, or last
    this.thing = things[(next + things.length) % things.length];
  }

  /** Moves what keys have taken one cell, or a small way on the plane. */
  push([dx, dy]) {
    const { low, high } = this.live.data.scene, { thing } = this;
    const { world } = this, far = world.game.toggle ? 1 : 0.05;
    const now = thing.field && world.game.view(world.options, world.now)[thing.field];
    const [x, y] = now ? now[thing.index] : thing.place;
    const within = (along, k) => Math.min(Math.max(along, low[k]), high[k]);
    const place = [x + far * dx, y + far * dy].map(within);
    thing.place = place;
    if (!thing.field) return;
    world.hold(thing.field, thing.index);
    world.move(place);
    world.hold(null);
  }

  /** Says what keys have taken, for those who do not see it. */
  tell() {
    const { thing } = this, names = { position: "agent", "": "cursor" };
    const place = thing?.place.map((along) => Math.round(100 * along) / 100).join(", ");
    const name = thing && (names[thing.field] ?? thing.field);
    document.getElementById("thing").textContent =
      thing ? `${name}${thing.field ? ` ${thing.index}` : ""} at ${place}` : "";
  }

  /** A frame around what keys have taken. */
  draw(pen, camera) {
    if (!this.thing) return;
    const same = ({ field, index }) => field === this.thing.field && index === this.thing.index;
    const found = this.thing.field ? this.things().find(same) : this.thing;
    if (!found) return;
    const half = Math.max(0.5 * (this.world.game.toggle ? camera.unit : 0.3 * camera.unit), 10);
    pen.strokeStyle = this.live.colours.ink;
    pen.lineWidth = 2;
    pen.setLineDash([4, 3]);
    const [x, y] = [camera.x(found.place[0]), camera.y(found.place[1])];
    pen.strokeRect(x - half, y - half, 2 * half, 2 * half);
    pen.setLineDash([]);
  }
}
