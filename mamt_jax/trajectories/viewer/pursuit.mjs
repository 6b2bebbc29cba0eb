/** Pursuit, as envs/pursuit.py has it. Pure functions on plain arrays; a place is [x, y]. */

const PURSUIT_MOVES = [[-1, 0], [1, 0], [0, 1], [0, -1], [0, 0]];
const PURSUIT_STAY = 4;
const SIDES = PURSUIT_MOVES.slice(0, 4);

const onGrid = ({ x_size, y_size }, [x, y]) => x >= 0 && y >= 0 && x < x_size && y < y_size;

const isWall = (options, [x, y]) => {
  const [across, up] = [x / options.x_size, y / options.y_size];
  return across > 0.3 && across < 1 - 0.3 && up > 0.2 && up < 1 - 0.2;
};

const isOpen = (options, place) => onGrid(options, place) && !isWall(options, place);

const shifted = ([x, y], [dx, dy]) => [x + dx, y + dy];

function movedTo(options, place, action) {
  const target = shifted(place, PURSUIT_MOVES[action]);
  return isOpen(options, target) ? target : place;
}

/** Numbers of agents by cell: a function of places, 0 outside of the grid. */
function counted(options, places) {
  const grid = new Int32Array(options.x_size * options.y_size);
  for (const [x, y] of places) grid[x * options.y_size + y] += 1;
  return (place) => (onGrid(options, place) ? grid[place[0] * options.y_size + place[1]] : 0);
}

/** Sides from which an evader in a cell must be surrounded; one less for each axis at its rim. */
function openSides(options, [x, y]) {
  const rims = (x === 0 || x === options.x_size - 1) + (y === 0 || y === options.y_size - 1);
  const walls = SIDES.filter((side) => {
    const place = shifted([x, y], side);
    return onGrid(options, place) && isWall(options, place);
  });
  return 4 - rims - walls.length;
}

/** What is caught, and who is paid: two functions of places. */
function catches(options, pursuers, evaders) {
  if (!options.surround) {
    const caught = (place) => pursuers(place) >= options.n_catch;
    return [caught, (place) => caught(place) && evaders(place) > 0];
  }
  const caught = (place) =>
    SIDES.filter((side) => pursuers(shifted(place, side)) > 0).length === openSides(options, place);
  const pays = (place) =>
    SIDES.map((side) => shifted(place, side)).some(
      (beside) => onGrid(options, beside) && evaders(beside) > 0 && caught(beside),
    );
  return [caught, pays];
}

/** Rewards of a step: tags are counted after each of the n moves, see the Python class. */
function pursuitReward(options, before, after, evaders, pays) {
  const paidForAll = options.shared_reward ?? options.variant === "pettingzoo";
  const urgency = options.urgency_reward ?? (options.variant === "pettingzoo" ? -0.1 : 0);
  const count = before.length;
  const beside = (place) =>
    SIDES.map((side) => shifted(place, side))
      .map((next) => evaders(onGrid(options, next) ? next : place))
      .reduce((sum, found) => sum + found, 0);
  let reward = after.map((place, i) => {
    const tags = i * beside(before[i]) + (count - i) * beside(place);
    return (options.tag_reward / count) * tags + options.catch_reward * Number(pays(place));
  });
  if (paidForAll) reward = reward.map(() => reward.reduce((sum, one) => sum + one, 0) / count);
  return reward.map((one) => Math.fround(one + urgency));
}

/** Cells of the grid that `wanted` says yes to. */
function cellsWhere(options, wanted) {
  const cells = [];
  for (let x = 0; x < options.x_size; x++) {
    for (let y = 0; y < options.y_size; y++) if (wanted([x, y])) cells.push([x, y]);
  }
  return cells;
}

/** A team's places, none next to another; null where there was no room for all. */
function drawTeam(cells, size, random) {
  let free = cells;
  const team = [];
  while (team.length < size && free.length) {
    const [x, y] = free[Math.floor(random() * free.length)];
    team.push([x, y]);
    free = free.filter((cell) => Math.abs(cell[0] - x) + Math.abs(cell[1] - y) > 1);
  }
  return team.length === size ? team : null;
}

function drawWindow(options, random) {
  const share = options.constraint_window;
  const [low, high] = [[], []];
  for (const size of [options.x_size, options.y_size]) {
    const corner = random() * (1 - share);
    low.push(Math.floor(size * corner));
    high.push(Math.floor(size * (corner + share)));
  }
  return cellsWhere(
    options,
    (at) => !isWall(options, at) && [0, 1].every((k) => low[k] <= at[k] && at[k] < high[k]),
  );
}

/** `pursuit`; evaders [m] may be more or fewer than `n_evaders` once somebody placed some. */
export const pursuitGame = {
  reset(options, random) {
    for (;;) {
      const cells = drawWindow(options, random);
      const pursuer = drawTeam(cells, options.n_pursuers, random);
      const evader = pursuer && drawTeam(cells, options.n_evaders, random);
      if (evader) return { pursuer, evader, alive: evader.map(() => true), time: 0 };
    }
  },

  /** A square around each pursuer: wall, pursuers, evaders of every cell. [n][3 obs_range²]. */
  observe(options, state) {
    const reach = Math.floor((options.obs_range - 1) / 2);
    const pursuers = counted(options, state.pursuer);
    const evaders = counted(options, state.evader.filter((_, k) => state.alive[k]));
    return state.pursuer.map(([x, y]) => {
      const row = [];
      for (let up = 0; up < options.obs_range; up++) {
        for (let across = 0; across < options.obs_range; across++) {
          const place = [x + across - reach, y + up - reach];
          if (Math.max(up, across) > 2 * reach) row.push(1, 0, 0);
          else row.push(Number(!isOpen(options, place)), pursuers(place), evaders(place));
        }
      }
      return row;
    });
  },

  step(options, state, actions, random) {
    const drawn = state.evader.map(() => Math.floor(random() * PURSUIT_MOVES.length));
    const stay = state.evader.map(() => PURSUIT_STAY);
    return this.stepGiven(options, state, actions, options.freeze_evaders ? stay : drawn);
  },

  /** `step` with the evaders' moves [m] given; those of caught evaders do nothing. */
  stepGiven(options, state, actions, evaderActions) {
    const pursuer = state.pursuer.map((place, i) => movedTo(options, place, actions[i]));
    const evaders = counted(options, state.evader.filter((_, k) => state.alive[k]));
    const [caught, pays] = catches(options, counted(options, pursuer), evaders);
    const alive = state.alive.map((free, k) => free && !caught(state.evader[k]));
    const evader = state.evader.map((place, k) =>
      alive[k] ? movedTo(options, place, evaderActions[k]) : place,
    );
    const time = state.time + 1;
    const truncated = time >= options.max_cycles;
    return {
      state: { pursuer, evader, alive, time },
      reward: pursuitReward(options, state.pursuer, pursuer, evaders, pays),
      terminated: !alive.includes(true) && !truncated,
      truncated,
    };
  },

  view: (options, { pursuer, evader, alive }) => ({
    position: pursuer,
    evader,
    evader_free: alive,
  }),

  movable: { position: "", evader: "evader_free" },

  /** The state with a pursuer ("position") or an evader in another cell, if that is open. */
  place(options, state, field, index, [x, y]) {
    const cell = [Math.round(x), Math.round(y)];
    if (!isOpen(options, cell)) return state;
    const name = field === "position" ? "pursuer" : "evader";
    return { ...state, [name]: state[name].map((old, i) => (i === index ? cell : old)) };
  },

  /** The state with one more evader in a cell, or without those that were in it. */
  toggle(options, state, [x, y]) {
    const cell = [Math.round(x), Math.round(y)];
    if (!isOpen(options, cell)) return state;
    const free = ([a, b], k) => state.alive[k] && a === cell[0] && b === cell[1];
    if (state.evader.some(free)) {
      const stays = state.evader.map((place, k) => !free(place, k));
      return {
        ...state,
        evader: state.evader.filter((_, k) => stays[k]),
        alive: state.alive.filter((_, k) => stays[k]),
      };
    }
    return { ...state, evader: [...state.evader, cell], alive: [...state.alive, true] };
  },
};
