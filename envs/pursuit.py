"""Pursuit: agents on a grid hem in evaders that walk at random.

The rules are those of PettingZoo's `pursuit_v5` (SISL; Gupta et al., 2017), which moves one agent
at a time in Python loops. Here everything that a cell decides (how many evaders are next to it,
whether an evader in it is caught) is an array over the grid, computed once a step for all agents.

Shape legend: n pursuers, m evaders, a grid of X by Y cells. A place is a pair (x, y) of int32.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mamt_jax.envs import drawing
from mamt_jax.envs.base import EnvSpec, Field, TimeStep, check_at_least, check_flag, check_number
from mamt_jax.envs.scene import INK, At, Box, Cells, Count, Marks, Scene

STAY = 4
# Step in (x, y) of the actions left, right, up, down, stay.
_MOVES = np.array([(-1, 0), (1, 0), (0, 1), (0, -1), (0, 0)], np.int32)
_ACTION_NAMES = ("left", "right", "up", "down", "stay")
_NUM_ACTIONS = len(_MOVES)
# Share of the grid left open on either side of the obstacle, along x and along y.
_OPEN_X, _OPEN_Y = 0.3, 0.2
# Options whose default depends on the variant.
_VARIANTS: dict[str, dict[str, float]] = {
    "paper": {"shared_reward": False, "urgency_reward": 0.0},
    "pettingzoo": {"shared_reward": True, "urgency_reward": -0.1},
}
_PURSUER_COLOUR, _EVADER_COLOUR = drawing.colour_of(1), drawing.colour_of(0)
_PURSUER_RIM = drawing.dark(_PURSUER_COLOUR)
_SEEN_COLOUR = drawing.mix(drawing.WHITE, _PURSUER_COLOUR, 0.4)
# Pixels of a cell, and of a picture's longer side. An animation is as large as what moves in it.
_CELL, _LEAST, _MOST = 20, 320, 1000
_QUARTERS = 0.24 * np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]])  # of a cell, from its centre


class PursuitState(NamedTuple):
    """State of a pursuit."""

    pursuer: jax.Array  # [n, 2] int32, places
    evader: jax.Array  # [m, 2] int32, places; of a caught evader, where it was caught
    alive: jax.Array  # [m] bool, evaders not caught yet
    time: jax.Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class Pursuit:
    """Pursuers are paid for being next to evaders, and more for surrounding one.

    A step, in this order: the pursuers move one after another, and after each of these moves
    every pursuer gets tag_reward / n for each evader next to it; caught evaders are removed and
    every pursuer that helped gets catch_reward; the remaining evaders move at random.

    An evader is caught if all open cells next to it hold pursuers (`surround`), or else if its own
    cell holds at least `n_catch` of them. Moves out of the grid or into the obstacle in its middle
    do nothing, and any number of agents fits into a cell. For tag rewards on the rim, a cell that
    does not exist counts as the pursuer's own, as it does in PettingZoo.

    An episode terminates when no evader is left, and is truncated after `max_cycles` steps. In that
    last step it does not count as terminated whatever is left, again as in PettingZoo.

    An observation is a square of `obs_range` cells around the pursuer with three numbers a cell,
    flattened from [y, x, 3]: wall (1 or 0; all outside the grid is wall), number of pursuers (the
    observer included), number of evaders. For an even `obs_range` the square is one cell smaller,
    and the last row and column are wall. The actions are left, right, up, down and stay.

    Attributes:
      variant: "paper", the settings of Li et al., ICLR 2022, or "pettingzoo", the defaults of
        `pursuit_v5`. It only decides what `shared_reward` and `urgency_reward` are by default.
      x_size: cells along x.
      y_size: cells along y.
      max_cycles: steps until truncation.
      shared_reward: pay everyone the mean reward; None for False in "paper", True in "pettingzoo".
      n_evaders: number of evaders m.
      n_pursuers: number of pursuers n, the agents.
      obs_range: width of what a pursuer sees, in cells.
      n_catch: pursuers needed in an evader's cell; without `surround` only.
      freeze_evaders: evaders never move.
      tag_reward: per evader next to a pursuer and step, shared out over the n moves of a step.
      catch_reward: per step in which a pursuer helps to catch any number of evaders.
      urgency_reward: added in every step; None for 0 in "paper", -0.1 in "pettingzoo".
      surround: evaders are caught by surrounding them, not by `n_catch` pursuers on top of them.
      constraint_window: all start in a window, placed at random, of this share of both sides.
    """

    name: ClassVar[str] = "pursuit"
    summary: ClassVar[str] = "Pursuit: n agents on a grid surround evaders that walk at random."

    variant: str = "paper"
    x_size: int = 16
    y_size: int = 16
    max_cycles: int = 500
    shared_reward: bool | None = None
    n_evaders: int = 30
    n_pursuers: int = 8
    obs_range: int = 7
    n_catch: int = 2
    freeze_evaders: bool = False
    tag_reward: float = 0.01
    catch_reward: float = 5.0
    urgency_reward: float | None = None
    surround: bool = True
    constraint_window: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.variant, str) or self.variant not in _VARIANTS:
            accepted = " or ".join(map(repr, _VARIANTS))
            raise ValueError(f"pursuit: variant must be {accepted}, got {self.variant!r}.")
        for option in ("x_size", "y_size", "max_cycles", "n_evaders", "n_pursuers"):
            check_at_least("pursuit", option, getattr(self, option), 1)
        for option in ("obs_range", "n_catch"):
            check_at_least("pursuit", option, getattr(self, option), 1)
        for option in ("shared_reward", "freeze_evaders", "surround"):
            check_flag("pursuit", option, self._setting(option))
        for option in ("tag_reward", "catch_reward", "urgency_reward"):
            check_number("pursuit", option, self._setting(option))
        self._check_window()

    def _check_window(self) -> None:
        share = self.constraint_window
        check_number("pursuit", "constraint_window", share)
        if not 0.0 < share <= 1.0:
            raise ValueError(f"pursuit: constraint_window must be in (0, 1], got {share!r}.")
        if share * min(self.x_size, self.y_size) < 1.0:
            raise ValueError(
                f"pursuit: constraint_window must leave at least one cell of a grid of "
                f"{self.x_size} by {self.y_size}, got {share!r}."
            )
        crowd = max(self.n_evaders, self.n_pursuers)
        if not _can_start(self.x_size, self.y_size, crowd, float(share)):
            raise ValueError(
                f"pursuit: {self.n_evaders} evaders and {self.n_pursuers} pursuers are too many to "
                f"start with no two neighbours of one kind on a grid of {self.x_size} by "
                f"{self.y_size} with constraint_window={share!r}."
            )

    def _setting(self, option: str) -> Any:
        """Value of an option, the variant's where it is None."""
        value = getattr(self, option)
        return _VARIANTS[self.variant].get(option) if value is None else value

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        most = max(self.n_pursuers, self.n_evaders)  # all may stand in one cell
        return EnvSpec(
            name=self.name,
            num_agents=self.n_pursuers,
            obs_sizes=(3 * self.obs_range**2,) * self.n_pursuers,
            action_counts=(_NUM_ACTIONS,) * self.n_pursuers,
            episode_length=self.max_cycles,
            summary=self.summary,
            obs_bounds=(0.0, float(most)),
            obs_dtype="uint8" if most < 256 else "float32",
            action_names=(_ACTION_NAMES,) * self.n_pursuers,
        )

    def reset(self, key: jax.Array) -> tuple[PursuitState, jax.Array]:
        """Starts an episode: (state, obs [n, O]).

        Places are drawn uniformly one after another, for each team among the open cells of the
        window that are neither taken by a teammate nor next to one. Where that runs out of cells,
        PettingZoo never returns; here everything, the window included, is drawn anew.
        """
        nothing = _Start(
            pursuer=jnp.zeros((self.n_pursuers, 2), jnp.int32),
            evader=jnp.zeros((self.n_evaders, 2), jnp.int32),
            complete=jnp.bool_(False),
            key=key,
        )
        drawn = jax.lax.while_loop(
            lambda drawn: ~drawn.complete, lambda drawn: self._draw_start(drawn.key), nothing
        )
        state = PursuitState(
            pursuer=drawn.pursuer,
            evader=drawn.evader,
            alive=jnp.ones(self.n_evaders, bool),
            time=jnp.int32(0),
        )
        return state, self._observe(state)

    def step(self, key: jax.Array, state: PursuitState, actions: jax.Array) -> TimeStep:
        """Moves pursuers by `actions` [n], then evaders at random."""
        if self.freeze_evaders:
            evader_actions = jnp.full(self.n_evaders, STAY, jnp.int32)
        else:
            evader_actions = jax.random.randint(key, (self.n_evaders,), 0, _NUM_ACTIONS, jnp.int32)
        return self.step_given(state, actions, evader_actions)

    @property
    def view_fields(self) -> dict[str, Field]:
        """Layout of what `view` returns."""
        walls = _walls(self.x_size, self.y_size)
        return {
            "position": Field(("agent", "xy"), "cell", "cell of each pursuer"),
            "evader": Field(("evader", "xy"), "cell", "cell of each evader; once caught, the last"),
            "evader_free": Field(("evader",), "1", "whether an evader is not caught yet"),
            "wall": Field(("x", "y"), "1", "whether a cell is wall", walls),
        }

    def view(self, state: PursuitState) -> dict[str, jax.Array]:
        """What wants to be seen of a state."""
        return {"position": state.pursuer, "evader": state.evader, "evader_free": state.alive}

    @property
    def scene(self) -> Scene:
        """How the view is drawn, see `render`; those that share a cell are all drawn, smaller."""
        x, y = self.x_size, self.y_size
        reach = (self.obs_range - 1) // 2 + 0.5
        return Scene(
            (-1.0, -1.0),
            (float(x), float(y)),
            (
                Box((-0.5, -0.5), (x - 0.5, y - 0.5), spacing=1.0),
                Marks(At("position"), reach, "area", name="what pursuers see"),
                Cells("wall", (x, y), "wall"),
                Marks(At("position"), 0.4, name="pursuer", agents=True, label=True, crowd=True),
                Marks(
                    At("evader"),
                    0.25,
                    "square",
                    colour=INK,
                    name="evader",
                    shown="evader_free",
                    crowd=True,
                ),
                Count("evader_free", "evaders left"),
            ),
        )

    def render(self, state: PursuitState) -> drawing.Frame:
        """Picture of a state, uint8 [H, W, 3], y upwards.

        Dotted is what pursuers (numbered disks) see. Evaders are squares. Several agents in a cell
        are drawn small; those for whom there is no room are counted, as "+3", and so are evaders
        that share a cell.
        """
        state = jax.device_get(state)
        pursuers: dict[tuple[int, int], tuple[int, ...]] = {}
        for i, (x, y) in enumerate(state.pursuer.tolist()):
            pursuers[x, y] = (*pursuers.get((x, y), ()), i)
        evaders = Counter(map(tuple, state.evader[state.alive].tolist()))
        reach = (self.obs_range - 1) // 2
        seen = np.zeros((self.x_size, self.y_size), bool)
        for x, y in state.pursuer:
            seen[max(x - reach, 0) : x + reach + 1, max(y - reach, 0) : y + reach + 1] = True
        walls, longest = _walls(self.x_size, self.y_size), max(self.x_size, self.y_size) + 1
        side = 2 * (min(max(_CELL * longest, _LEAST), _MOST) // longest // 2)
        height, width = side * (self.y_size + 1), side * (self.x_size + 1)
        picture = np.full((height, width, 3), drawing.PAPER, np.uint8)
        for x, y in np.ndindex(*seen.shape):
            cell = (
                _wall(side)
                if walls[x, y]
                else _cell(side, bool(seen[x, y]), pursuers.get((x, y), ()), evaders[x, y])
            )
            top, left = height - (y + 1) * side - side // 2, x * side + side // 2
            picture[top : top + side, left : left + side] = cell
        left_over = f"{state.alive.sum()} of {self.n_evaders} evaders left"
        return np.concatenate([picture, drawing.line_of_text(left_over, width)])

    def step_given(
        self, state: PursuitState, actions: jax.Array, evader_actions: jax.Array
    ) -> TimeStep:
        """`step` with the moves of the evaders given, [m]; those of caught evaders do nothing."""
        pursuer = self._move(state.pursuer, actions)
        evaders = self._count(state.evader, state.alive)
        caught, pays = self._catch(self._count(pursuer), evaders)
        alive = state.alive & ~_at(caught, state.evader)
        moved = self._move(state.evader, evader_actions)
        after = PursuitState(
            pursuer=pursuer,
            evader=jnp.where(alive[:, None], moved, state.evader),
            alive=alive,
            time=state.time + 1,
        )
        truncated = after.time >= self.max_cycles
        return TimeStep(
            state=after,
            obs=self._observe(after),
            reward=self._reward(state.pursuer, pursuer, evaders, pays),
            terminated=~jnp.any(alive) & ~truncated,
            truncated=truncated,
        )

    def _move(self, place: jax.Array, actions: jax.Array) -> jax.Array:
        """Places [..., 2] after `actions` [...]; walls stop a move."""
        target = place + jnp.asarray(_MOVES)[actions]
        walled = jnp.asarray(np.pad(_walls(self.x_size, self.y_size), 1, constant_values=True))
        return jnp.where(_at(walled, target + 1)[..., None], place, target)

    def _count(self, place: jax.Array, present: jax.Array | None = None) -> jax.Array:
        """How many of the `present` agents each cell holds: [X, Y] int32."""
        amount = 1 if present is None else present.astype(jnp.int32)
        grid = jnp.zeros((self.x_size, self.y_size), jnp.int32)
        return grid.at[place[:, 0], place[:, 1]].add(amount, mode="promise_in_bounds")

    def _catch(self, pursuers: jax.Array, evaders: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Cells whose evaders are caught, and cells whose pursuers are paid for it: [X, Y] bool."""
        if not self.surround:
            caught = pursuers >= self.n_catch
            return caught, caught & (evaders > 0)
        beside = _neighbours((pursuers > 0).astype(jnp.int32)).sum(axis=0)
        caught = beside == jnp.asarray(_open_sides(self.x_size, self.y_size))
        return caught, _neighbours(caught & (evaders > 0)).any(axis=0)

    def _reward(
        self, before: jax.Array, after: jax.Array, evaders: jax.Array, pays: jax.Array
    ) -> jax.Array:
        """Rewards [n] of a step that takes the pursuers from `before` to `after`.

        Tags are counted after each of the n moves, while the evaders stand still: pursuer i is
        still where it was in the first i of these counts, and has moved in the other n - i.
        """
        beside = _neighbours(evaders, mode="edge").sum(axis=0)
        index = jnp.arange(self.n_pursuers)
        tags = index * _at(beside, before) + (self.n_pursuers - index) * _at(beside, after)
        catches = _at(pays, after)
        weighted = self.tag_reward / self.n_pursuers * tags.astype(jnp.float32)
        reward = weighted + self.catch_reward * catches.astype(jnp.float32)
        if self._setting("shared_reward"):
            reward = jnp.full_like(reward, reward.mean())
        return reward + self._setting("urgency_reward")

    def _observe(self, state: PursuitState) -> jax.Array:
        """Observations [n, 3 * obs_range**2], see the class."""
        reach = (self.obs_range - 1) // 2
        width = 2 * reach + 1
        walls = np.pad(_walls(self.x_size, self.y_size), reach, constant_values=True)
        counts = jnp.stack(
            [self._count(state.pursuer).T, self._count(state.evader, state.alive).T], axis=-1
        )
        counts = jnp.pad(counts, ((reach, reach), (reach, reach), (0, 0)))
        board = jnp.concatenate([jnp.asarray(walls.T)[..., None], counts], axis=-1)

        def crop(place: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(
                board, (place[1], place[0], jnp.int32(0)), (width, width, 3)
            )

        square = jax.vmap(crop)(state.pursuer)
        if width < self.obs_range:
            beyond = jnp.array([1, 0, 0], square.dtype)
            shape = (self.n_pursuers, self.obs_range, self.obs_range, 3)
            square = jnp.broadcast_to(beyond, shape).at[:, :width, :width].set(square)
        return square.reshape(self.n_pursuers, -1).astype(jnp.float32)

    def _draw_start(self, key: jax.Array) -> _Start:
        """Places of both teams, and whether there was room for all."""
        next_key, window_key, bits_key = jax.random.split(key, 3)
        window = self._draw_window(window_key)
        bits = jax.random.bits(bits_key, (2, self.x_size, self.y_size), jnp.uint32)
        pursuer, pursuers_fit = self._place_team(bits[0], window, self.n_pursuers)
        evader, evaders_fit = self._place_team(bits[1], window, self.n_evaders)
        return _Start(pursuer, evader, pursuers_fit & evaders_fit, next_key)

    def _draw_window(self, key: jax.Array) -> jax.Array:
        """Open cells of the window that an episode starts in: [X, Y] bool."""
        size = jnp.array([self.x_size, self.y_size], jnp.int32)
        corner = jax.random.uniform(key, (2,), jnp.float32, maxval=1.0 - self.constraint_window)
        low = (size * corner).astype(jnp.int32)
        high = (size * (corner + self.constraint_window)).astype(jnp.int32)
        x, y = jnp.arange(self.x_size), jnp.arange(self.y_size)
        inside_x = (low[0] <= x) & (x < high[0])
        inside_y = (low[1] <= y) & (y < high[1])
        return inside_x[:, None] & inside_y & ~_walls(self.x_size, self.y_size)

    def _place_team(
        self, bits: jax.Array, window: jax.Array, size: int
    ) -> tuple[jax.Array, jax.Array]:
        """Places [size, 2] of a team, none next to another, and whether there was room for all.

        `bits` [X, Y] uint32 is all the randomness; `window` [X, Y] says which cells can be used.

        To draw uniformly among the cells that are left, again and again, is to go through all
        cells in a random order and skip those that a teammate forbids. That is done here for many
        cells at once: a cell whose rank is above those of all its undecided neighbours is taken
        whatever happens elsewhere. Of the cells taken, the first `size` in rank are the team.
        """
        cells = self.x_size * self.y_size
        # Random high bits, and below them the cell's number: ranks differ, none is 0, and a
        # sorted rank tells its cell (sorting plain numbers is six times faster than an argsort).
        low = cells.bit_length()
        number = np.arange(1, cells + 1, dtype=np.uint32).reshape(self.x_size, self.y_size)
        rank = (bits >> low << low) | number

        def decide(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            undecided, taken = carry
            open_rank = jnp.where(undecided, rank, 0)
            ahead = undecided & (open_rank > _neighbours(open_rank).max(axis=0))
            undecided &= ~(ahead | _neighbours(ahead).any(axis=0))
            return undecided, taken | ahead

        _, taken = jax.lax.while_loop(
            lambda carry: jnp.any(carry[0]), decide, (window, jnp.zeros_like(window))
        )
        first = jnp.sort(jnp.where(taken, rank, 0).reshape(-1), descending=True)[:size]
        cell = (first & ((1 << low) - 1)).astype(jnp.int32) - 1
        return jnp.stack(jnp.divmod(cell, self.y_size), axis=-1), taken.sum() >= size


class _Start(NamedTuple):
    """A drawn start."""

    pursuer: jax.Array  # [n, 2] int32
    evader: jax.Array  # [m, 2] int32
    complete: jax.Array  # [] bool: there was room for all
    key: jax.Array  # to draw anew with


def _at(grid: jax.Array, place: jax.Array) -> jax.Array:
    """Entries [...] of `grid` [X, Y] at places [..., 2]."""
    return grid.at[place[..., 0], place[..., 1]].get(mode="promise_in_bounds")


@cache
def _wall(side: int) -> drawing.Frame:
    """Picture of a cell of the obstacle, [side, side, 3]."""
    return np.full((side, side, 3), drawing.INK, np.uint8)


@lru_cache(4096)
def _cell(side: int, seen: bool, pursuers: tuple[int, ...], evaders: int) -> drawing.Frame:
    """Picture of a cell, [side, side, 3].

    A single agent fills it; several share the four quarters, the evaders in the last.
    """
    canvas = drawing.Canvas((-0.5, -0.5), (0.5, 0.5), side)
    line = 1.0 / side
    canvas.rectangle((-0.5, -0.5), (0.5, 0.5), drawing.FAINT)
    canvas.rectangle((line - 0.5, -0.5), (0.5, 0.5 - line), drawing.WHITE)
    if seen:
        canvas.rectangle((-2 * line, -2 * line), (2 * line, 2 * line), _SEEN_COLOUR)
    labels, room = [str(i) for i in pursuers], 3 if evaders else 4
    if len(labels) > room:
        labels[room - 1 :] = [f"+{len(labels) - room + 1}"]
    shared = len(labels) + bool(evaders) > 1
    radius = 0.25 if shared else 0.4
    for label, quarter in zip(labels, _QUARTERS, strict=False):
        canvas.disk(quarter * shared, radius, _PURSUER_COLOUR, 1.0, _PURSUER_RIM, 1)
        canvas.text(quarter * shared, label, 1.7 * radius)
    if evaders:
        half, centre = round(0.2 * side) * line, _QUARTERS[-1] * shared
        canvas.rectangle(centre - half, centre + half, _EVADER_COLOUR)
        if evaders > 1:
            canvas.text(centre, str(evaders), 1.5 * half, drawing.WHITE)
    return canvas.array()


def _neighbours(grid: jax.Array, mode: str = "constant") -> jax.Array:
    """What the cells left, right, above and below hold: [X, Y] -> [4, X, Y].

    Outside of the grid that is 0 or False, and with mode "edge" what the cell itself holds.
    """
    rim = jnp.pad(grid, 1, mode=mode)
    return jnp.stack([rim[:-2, 1:-1], rim[2:, 1:-1], rim[1:-1, 2:], rim[1:-1, :-2]])


def _walls(x_size: int, y_size: int) -> NDArray[np.bool_]:
    """Cells of the obstacle: [X, Y]."""
    x, y = np.arange(x_size) / x_size, np.arange(y_size) / y_size
    inside_x = (x > _OPEN_X) & (x < 1.0 - _OPEN_X)
    inside_y = (y > _OPEN_Y) & (y < 1.0 - _OPEN_Y)
    return inside_x[:, None] & inside_y


def _open_sides(x_size: int, y_size: int) -> NDArray[np.int32]:
    """Sides from which an evader in each cell must be surrounded: [X, Y].

    As in PettingZoo, a cell loses one side per axis on whose rim it is, so that no evader can be
    surrounded on a grid of width 1.
    """
    x, y = np.arange(x_size), np.arange(y_size)
    rim_x, rim_y = (x == 0) | (x == x_size - 1), (y == 0) | (y == y_size - 1)
    wall = np.pad(_walls(x_size, y_size), 1).astype(np.int32)
    walled = wall[:-2, 1:-1] + wall[2:, 1:-1] + wall[1:-1, 2:] + wall[1:-1, :-2]
    return (4 - rim_x[:, None].astype(np.int32) - rim_y - walled).astype(np.int32)


@cache
def _can_start(x_size: int, y_size: int, count: int, share: float, tries: int = 100) -> bool:
    """Whether a team of `count` found room in any of `tries` random starts."""
    rng = np.random.default_rng(0)
    size = np.array([x_size, y_size])
    for _ in range(tries):
        corner = rng.uniform(0.0, 1.0 - share, 2)
        low, high = (size * corner).astype(int), (size * (corner + share)).astype(int)
        free = np.zeros((x_size + 2, y_size + 2), bool)
        inside = tuple(slice(a + 1, b + 1) for a, b in zip(low, high, strict=True))
        free[inside] = ~np.pad(_walls(x_size, y_size), 1)[inside]
        placed = 0
        while placed < count and free.any():
            x, y = rng.choice(np.argwhere(free))
            free[[x, x - 1, x + 1, x, x], [y, y, y, y - 1, y + 1]] = False
            placed += 1
        if placed == count:
            return True
    return False
