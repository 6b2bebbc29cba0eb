/**
 * Spread and Rover-Tower, as envs/particles.py, spread.py and rover_tower.py have them.
 *
 * Pure functions on plain arrays. Every operation is rounded to float32, as in Python: contacts are
 * stiff enough to make much of a difference in the last bit.
 */

const single = Math.fround;
const DT = single(0.1); // seconds a step
const KEPT = single(0.75); // share of the velocity that a step keeps
const CONTACT_PUSH = single(0.1); // stiffness times margin
const CONTACT_MARGIN = single(1e-3);
const TINY_LENGTH = single(1e-24); // squared
const SENSITIVITY = 5;

const SPREAD_RADIUS = 0.15;
const ROVER_PAIRS = 4; // rovers are agents 0 to 3, towers agents 4 to 7
const ROVER_LANDMARKS = 6;
const ROVER_SYMBOLS = 5;
const ROVER_GAIN = 2.25; // acceleration 1.5, squared
const ROVER_MAX_SPEED = 1;
const ROVER_NEAR = single(1.5 * (0.075 + 0.04)); // compared with the squared distance
const ROVER_BONUS = 10;

const plus = (a, b) => single(a + b);
const minus = (a, b) => single(a - b);
const times = (a, b) => single(a * b);

function pairLength(x, y) {
  return single(Math.sqrt(Math.max(plus(times(x, x), times(y, y)), TINY_LENGTH)));
}

function distanceBetween(a, b) {
  return pairLength(minus(a[0], b[0]), minus(a[1], b[1]));
}

/** A uniform place in [-1, 1]^2. */
function drawPlace(random) {
  return [single(2 * random() - 1), single(2 * random() - 1)];
}

function drawPlaces(count, random) {
  return Array.from({ length: count }, () => drawPlace(random));
}

/** The force [n][2] by which touching bodies push each other apart. */
function contactForce(bodies, position) {
  const force = position.map(() => [0, 0]);
  for (const [i, j] of bodies.contacts) {
    const delta = [0, 1].map((axis) => minus(position[i][axis], position[j][axis]));
    const distance = pairLength(...delta);
    const reach = single(2 * bodies.radius);
    const depth = single(minus(reach, distance) / CONTACT_MARGIN);
    const tail = single(Math.log1p(single(Math.exp(-Math.abs(depth)))));
    const softplus = plus(Math.max(depth, 0), tail);
    const scale = single(times(CONTACT_PUSH, softplus) / distance);
    for (const axis of [0, 1]) {
      const push = times(scale, delta[axis]);
      force[i][axis] = plus(force[i][axis], push);
      force[j][axis] = minus(force[j][axis], push);
    }
  }
  return force;
}

/** A world one step of `DT` later, under actions [n]; only the first `movers` bodies move. */
function stepBodies(bodies, state, actions) {
  const contact = contactForce(bodies, state.position);
  const gain = bodies.mpe2 ? -bodies.gain : bodies.gain;
  const position = [];
  const velocity = [];
  state.position.forEach((place, i) => {
    const old = state.velocity[i];
    const action = actions[i];
    const own = [(action === 1) - (action === 2), (action === 3) - (action === 4)];
    let now = [0, 1].map((axis) => {
      const force = plus(times(own[axis], gain), contact[i][axis]);
      return plus(times(old[axis], KEPT), times(force, DT));
    });
    const speed = pairLength(...now);
    if (speed > bodies.maxSpeed) {
      now = now.map((part) => times(part, single(bodies.maxSpeed / speed)));
    }
    if (i >= bodies.movers) now = [0, 0];
    const moving = bodies.mpe2 ? old : now;
    position.push([0, 1].map((axis) => plus(place[axis], times(moving[axis], DT))));
    velocity.push(now);
  });
  return { ...state, position, velocity, time: state.time + 1 };
}

const allPairs = (count) =>
  Array.from({ length: count }, (_, i) => i).flatMap((i) =>
    Array.from({ length: count - i - 1 }, (_, k) => [i, i + 1 + k]),
  );

/** How many agents each overlaps, [n], itself not counted. */
function countOverlaps(bodies, position) {
  const counts = position.map(() => 0);
  for (const [i, j] of bodies.contacts) {
    if (distanceBetween(position[i], position[j]) < single(2 * bodies.radius)) {
      counts[i] += 1;
      counts[j] += 1;
    }
  }
  return counts;
}

/** Sum over landmarks of the distance to the nearest of the agents. */
function coverageCost(state, agents, landmarks) {
  return landmarks.reduce((cost, k) => {
    const gaps = agents.map((i) => distanceBetween(state.position[i], state.landmark[k]));
    return plus(cost, Math.min(...gaps));
  }, 0);
}

// ---- Spread ----------------------------------------------------------------------------------

const SPREAD_TEAMS = {
  spread3_sep: { contacts: [] },
  spread3_mix: { contacts: [[0, 2]] },
  spread3_ful: { contacts: [[0, 1], [0, 2], [1, 2]] },
};

function spreadBodies(options) {
  const count = options.num_agents ?? 3;
  return {
    count,
    radius: single(SPREAD_RADIUS),
    gain: SENSITIVITY,
    maxSpeed: Infinity,
    movers: count,
    contacts: SPREAD_TEAMS[options.name]?.contacts ?? allPairs(count),
    mpe2: options.variant === "mpe2",
  };
}

function spreadReward(options, state) {
  const bumps = countOverlaps(spreadBodies(options), state.position);
  const everyone = state.position.map((_, i) => i);
  if (options.name === "spread3_sep") {
    return everyone.map((i) => -distanceBetween(state.position[i], state.landmark[i]));
  }
  if (options.name === "spread3_mix") {
    const pair = plus(coverageCost(state, [0, 2], [0, 2]), bumps[0]);
    return [-pair, -distanceBetween(state.position[1], state.landmark[1]), -pair];
  }
  const cost = coverageCost(state, everyone, everyone);
  if (options.variant === "mpe2") {
    const local = options.local_ratio;
    return bumps.map((bump) => single(-(1 - local) * cost - local * bump));
  }
  return bumps.map((bump) => minus(-cost, bump + 1));
}

/** `spread` and the three `spread3_*`. */
export const spreadGame = {
  reset(options, random) {
    const { count } = spreadBodies(options);
    return {
      position: drawPlaces(count, random),
      velocity: Array.from({ length: count }, () => [0, 0]),
      landmark: drawPlaces(count, random),
      time: 0,
    };
  },

  /** Own velocity and place, landmarks and others relative to it, silence: [n][O]. */
  observe(options, state) {
    const { count } = spreadBodies(options);
    const silence = new Array(2 * (count - 1)).fill(0);
    return state.position.map((own, i) => {
      const others = state.position.filter((_, j) => j !== i);
      const seen = [...state.landmark, ...others];
      const relative = seen.flatMap((at) => [minus(at[0], own[0]), minus(at[1], own[1])]);
      return [...state.velocity[i], ...own, ...relative, ...silence];
    });
  },

  step(options, state, actions) {
    const after = stepBodies(spreadBodies(options), state, actions);
    return {
      state: after,
      reward: spreadReward(options, after),
      terminated: false,
      truncated: after.time >= options.episode_length,
    };
  },

  view: (options, { position, velocity, landmark }) => ({ position, velocity, landmark }),
  movable: { position: "", landmark: "" },
  place: placeParticle,
};

// ---- Rover-Tower -----------------------------------------------------------------------------

const ROVER_BODIES = {
  radius: 0.075,
  gain: ROVER_GAIN,
  maxSpeed: ROVER_MAX_SPEED,
  movers: ROVER_PAIRS,
  contacts: [],
  mpe2: false,
};

const oneHotRow = (index, size) => Array.from({ length: size }, (_, k) => Number(k === index));

/** `rover_tower`; pairs are numbered by their rover. */
export const roverTowerGame = {
  reset(options, random) {
    const towers = [0, 1, 2, 3];
    for (let last = 3; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [towers[last], towers[other]] = [towers[other], towers[last]];
    }
    return {
      position: drawPlaces(2 * ROVER_PAIRS, random),
      velocity: Array.from({ length: 2 * ROVER_PAIRS }, () => [0, 0]),
      landmark: drawPlaces(ROVER_LANDMARKS, random),
      tower_of: towers,
      goal: towers.map(() => Math.floor(random() * ROVER_LANDMARKS)),
      message: towers.map(() => -1),
      time: 0,
    };
  },

  /** Rovers: their tower, its message, own place and velocity. Towers: their rover, its place, its
   * goal's place, zeros. [8][13]. */
  observe(options, state) {
    const rovers = state.tower_of.map((tower, i) => [
      ...oneHotRow(tower, ROVER_PAIRS),
      ...oneHotRow(state.message[tower], ROVER_SYMBOLS),
      ...state.position[i],
      ...state.velocity[i],
    ]);
    const towers = state.tower_of.map((_, tower) => {
      const rover = state.tower_of.indexOf(tower);
      const goal = state.landmark[state.goal[rover]];
      return [...oneHotRow(rover, ROVER_PAIRS), ...state.position[rover], ...goal, 0, 0, 0, 0, 0];
    });
    return [...rovers, ...towers];
  },

  step(options, state, actions) {
    const moved = stepBodies(ROVER_BODIES, state, actions);
    const after = { ...moved, message: Array.from(actions.slice(ROVER_PAIRS)) };
    const ofRovers = after.goal.map((goal, i) => {
      const [x, y] = [0, 1].map((axis) =>
        minus(after.position[i][axis], after.landmark[goal][axis]),
      );
      const squared = plus(times(x, x), times(y, y));
      return minus(squared < ROVER_NEAR ? ROVER_BONUS : 0, squared);
    });
    const ofTowers = ofRovers.map((_, tower) => ofRovers[after.tower_of.indexOf(tower)]);
    return {
      state: after,
      reward: [...ofRovers, ...ofTowers],
      terminated: false,
      truncated: after.time >= options.episode_length,
    };
  },

  view: (options, { position, velocity, landmark, tower_of, goal, message }) => ({
    position,
    velocity,
    landmark,
    tower_of,
    goal,
    message,
  }),
  movable: { position: "", landmark: "" },
  place: placeParticle,
};

/** The state with an agent ("position") or landmark put elsewhere; an agent comes to rest. */
function placeParticle(options, state, field, index, [x, y]) {
  const swapped = (rows, row) => rows.map((old, i) => (i === index ? row : old));
  const moved = { ...state, [field]: swapped(state[field], [single(x), single(y)]) };
  return field === "position" ? { ...moved, velocity: swapped(state.velocity, [0, 0]) } : moved;
}
