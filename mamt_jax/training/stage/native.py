"""Episodes in JAX environments: training is one compiled program, and so is playing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mamt_jax.backend import Choices, chosen
from mamt_jax.config import TrainConfig
from mamt_jax.envs.base import Environment, EnvSpec, view
from mamt_jax.envs.wrappers import VectorEnv, VectorState, VectorStep
from mamt_jax.errors import ConfigError
from mamt_jax.settings import Settings, numbers
from mamt_jax.training import packing
from mamt_jax.training.learning import (
    COLLECT,
    Carry,
    Collected,
    EpochOutput,
    Rule,
    RunState,
    SeedState,
    UpdateEvent,
)
from mamt_jax.training.mesh import ROWS, SAME, mesh_of, over
from mamt_jax.training.plan import Plan
from mamt_jax.training.programs import Program, as_written, kept
from mamt_jax.training.seeds import map_seeds
from mamt_jax.training.stage.base import Evaluator, Loop, Player
from mamt_jax.training.store import Store
from mamt_jax.trajectories.trajectory import Played, as_trajectory
from mamt_jax.trajectories.watched import Moment, Watched
from mamt_jax.types import Algorithm, Transition


@dataclass(frozen=True)
class NativeStage:
    """The :class:`~mamt_jax.training.stage.base.Stage` of a JAX environment."""

    env: Environment
    config: TrainConfig
    choices: Choices
    """Of the device that its training is for."""

    @property
    def spec(self) -> EnvSpec:
        """Of the environment."""
        return self.env.spec

    def mesh(self, rows: int) -> Mesh | None:
        """All devices of this machine that have something to do."""
        return mesh_of(rows)

    def loop(
        self, plan: Plan, rule: Rule, store: Store, seeds: Sequence[int], batch: int, mesh: Any
    ) -> Loop:
        """Training, in one program."""
        del seeds
        env = VectorEnv(self.env, plan.num_envs)
        loop = _Loop(plan, rule, store, env, batch, self.choices, mesh)
        init, epoch = _compiled(loop)
        episodes = self.config.execution.evaluation_episodes
        evaluate = _evaluating(rule, VectorEnv(self.env, episodes), self.choices, mesh)
        return Loop(init, epoch, epoch.compile_ahead, evaluate, lambda: None)

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """One program for all seeds; compiled with the first call."""
        vector = VectorEnv(self.env, episodes)
        return Program(partial(_greedy_returns, vector, lambda seed: algorithm))

    def player(self, algorithm: Algorithm, episodes: int, greedy: bool = True) -> Player:
        """One program; compiled with the first call."""
        vector, look = VectorEnv(self.env, episodes), partial(view, self.env)
        play = Program(_Episodes(algorithm, vector, greedy, look, algorithm.inspect).play)
        return lambda learner, key: as_trajectory(play(learner, key).kept, self.env)

    def watch(self, algorithm: Algorithm, learner: Any, key: jax.Array) -> Watched:
        """Plays the episode when its first moment is asked for, and draws its states."""
        spec = self.env.spec
        if not hasattr(self.env, "render"):
            raise ConfigError(f"{spec.name} cannot be drawn: it has no render method.")
        names = tuple(map(str, range(spec.num_agents)))
        moments = self._moments(algorithm, learner, key)
        return Watched(spec.episode_length, names, False, moments)

    def _moments(self, algorithm: Algorithm, learner: Any, key: jax.Array) -> Generator[Moment]:
        episodes = _Episodes(algorithm, VectorEnv(self.env, 1), look=lambda state: state)
        played = Program(episodes.play)(learner, key).kept

        def draw(moment: int) -> Any:
            return self.env.render(jax.tree.map(lambda leaf: leaf[moment, 0], played.view))

        yield Moment(0, 0.0, None, None, partial(draw, 0))
        told = jax.device_get((played.return_so_far, played.action, played.alive, played.finished))
        for step, (total, action, alive, finished) in enumerate(zip(*told, strict=True), 1):
            yield Moment(step, float(total[0]), action[0], alive[0], partial(draw, step))
            if finished[0]:
                return


class _Playing(NamedTuple):
    """Episodes side by side, of which the first in each environment counts."""

    state: VectorState
    returns: jax.Array
    done: jax.Array
    undecided: jax.Array
    """bool []: a policy was not finite."""


class _Result(NamedTuple):
    """What comes of episodes."""

    returns: jax.Array
    """float32 [E]; NaN where a policy was not finite."""
    kept: Any
    """:class:`Played`; None where only returns were asked for."""


@dataclass(frozen=True)
class _Episodes:
    """Plays one seed's episodes: all that are played on this stage, whatever is kept of them."""

    algorithm: Algorithm
    env: VectorEnv
    greedy: bool = True
    look: Callable[[Any], Any] | None = None
    """What of an environment's state is kept; where None, nothing is kept but returns."""
    inspect: Callable[..., dict[str, jax.Array]] | None = None

    def play(self, learner: Any, key: jax.Array) -> _Result:
        """E episodes, as long as the longest may be."""
        reset_key, step_key = jax.random.split(key)
        state, count = self.env.reset(reset_key), self.env.num_envs
        nothing = jnp.zeros(count, bool)
        start = _Playing(state, jnp.zeros(count), nothing, jnp.bool_(False))
        keys = jax.random.split(step_key, self.env.spec.episode_length)
        end, kept = jax.lax.scan(partial(self._step, learner), start, keys)
        if self.look is not None:
            first = state.obs, jax.vmap(self.look)(state.env_state)
            obs, seen = jax.tree.map(
                lambda one, others: jnp.concatenate([one[None], others]),
                first,
                (kept.obs, kept.view),
            )
            finished = kept.finished.at[-1].set(True)
            kept = kept._replace(obs=obs, view=seen, finished=finished)
        return _Result(jnp.where(end.undecided, jnp.nan, end.returns), kept)

    def _step(self, learner: Any, carry: _Playing, key: jax.Array) -> tuple[_Playing, Any]:
        obs = carry.state.obs
        if self.greedy:
            action = self.algorithm.greedy(learner, obs)
        else:
            key, act_key = jax.random.split(key)
            action = self.algorithm.act(learner, act_key, obs)
        state, step = self.env.step(key, carry.state, jnp.maximum(action, 0))
        returns = jnp.where(carry.done, carry.returns, step.finished_return)
        undecided = carry.undecided | jnp.any(action < 0)
        after = _Playing(state, returns, carry.done | step.finished, undecided)
        return after, self._kept(learner, obs, action, state, step)

    def _kept(
        self, learner: Any, obs: jax.Array, action: jax.Array, state: VectorState, step: VectorStep
    ) -> Any:
        """What is kept of a step, and of the moment that it led to."""
        if self.look is None:
            return None
        terminated, said = step.terminated, {}
        if terminated.ndim == 1:
            terminated = jnp.broadcast_to(terminated[:, None], action.shape)
        if self.inspect is not None:
            said = self.inspect(learner, obs, jnp.maximum(action, 0), step.alive)
        return Played(
            obs=jnp.where(step.finished[:, None, None], step.next_obs, state.obs),
            action=action,
            reward=step.reward,
            alive=jnp.ones_like(terminated) if step.alive is None else step.alive,
            terminated=terminated,
            finished=step.finished,
            return_so_far=step.return_so_far,
            view=jax.vmap(self.look)(step.last_state),
            inspected=said,
        )


@dataclass(frozen=True)
class _Loop:
    """The loops of one run in JAX environments, outermost first."""

    plan: Plan
    rule: Rule
    store: Store
    env: VectorEnv
    seed_batch: int
    choices: Choices
    mesh: Mesh | None = None

    def init(self, settings: Settings, seeds: jax.Array) -> RunState:
        def one(settings: Settings, seed: jax.Array) -> SeedState:
            learner_key, env_key, key = jax.random.split(jax.random.key(seed), 3)
            learner = self.rule.algorithm(settings).init(learner_key)
            return SeedState(learner, self.store.init(), self.env.reset(env_key), key)

        states = jax.vmap(one, in_axes=(numbers.axes(settings), 0))(settings, seeds)
        return RunState(states, jnp.int32(0), jnp.int32(0))

    def epoch(self, settings: Settings, state: RunState) -> tuple[RunState, EpochOutput]:
        """One logging point: all seeds of a device, ``plan.collect`` events each."""

        def one(settings: Settings, seed: SeedState) -> tuple[SeedState, tuple[Any, ...]]:
            event = UpdateEvent(self.plan, self.store, self.rule.algorithm(settings))
            collect_and_update = partial(self._event, event)
            carry = Carry(seed, state.transitions, state.updates)
            carry, outputs = packing.scan(collect_and_update, carry, jnp.asarray(self.plan.collect))
            return carry.seed, (*outputs, carry.transitions, carry.updates)

        seeds, outputs = map_seeds(one, settings, state.seeds, self.seed_batch)
        metrics, ready, collected, transitions, updates = outputs
        state = RunState(seeds, transitions[0], updates[0])
        return state, EpochOutput(metrics, ready[0], *collected)

    def _event(
        self, event: UpdateEvent, carry: Carry, steps: jax.Array
    ) -> tuple[Carry, tuple[Any, ...]]:
        """Collects ``steps`` environment steps, then updates if the store holds a batch."""

        def collect(i: jax.Array, carried: tuple[SeedState, Collected]) -> tuple[Any, Collected]:
            seed, so_far = carried
            seed, new = self._collect(event, seed, carry.transitions + i * self.env.num_envs)
            return seed, jax.tree.map(jnp.add, so_far, new)

        start = carry.seed, Collected(jnp.float32(0), jnp.int32(0), jnp.bool_(False))
        with jax.named_scope(COLLECT):
            seed, collected = jax.lax.fori_loop(0, steps, collect, start)
        transitions = carry.transitions + steps * self.env.num_envs
        carry, metrics, ready = event.learn(Carry(seed, transitions, carry.updates))
        return carry, (metrics, ready, collected)

    def _collect(
        self, event: UpdateEvent, seed: SeedState, transitions: jax.Array
    ) -> tuple[SeedState, Collected]:
        """One step of every environment."""
        key, act_key, env_key = jax.random.split(seed.key, 3)
        obs = seed.env.obs
        drawn = event.algorithm.act(seed.learner, act_key, obs)
        action = jnp.maximum(drawn, 0)
        env_state, step = self.env.step(env_key, seed.env, action)
        terminated = step.terminated
        if terminated.ndim == 1:
            terminated = jnp.broadcast_to(terminated[:, None], action.shape)
        new = Transition(
            obs, action, step.reward, step.next_obs, terminated, step.alive, step.finished
        )
        stored = event.store.insert(seed.store, new, transitions)
        seed = SeedState(seed.learner, stored, env_state, key)
        count = jnp.sum(step.finished, dtype=jnp.int32)
        return seed, Collected(jnp.sum(step.finished_return), count, jnp.any(drawn < 0))


@kept
def _compiled(loop: _Loop) -> tuple[Any, Program]:
    """The programs that begin and go on with a run."""
    state = RunState(ROWS, SAME, SAME)  # type: ignore[arg-type]
    output = EpochOutput(ROWS, SAME, ROWS, ROWS, ROWS)  # type: ignore[arg-type]
    init = over(loop.init, loop.mesh, state)
    epoch = over(loop.epoch, loop.mesh, (state, output))
    return as_written()(jax.jit(init)), Program(epoch, (1,), loop.choices)


@kept
def _evaluating(rule: Rule, env: VectorEnv, choices: Choices, mesh: Mesh | None) -> Program:
    """The program that evaluates a run of this rule, whatever its numbers."""

    def evaluate(settings: Settings, learners: Any, keys: jax.Array) -> jax.Array:
        def build(seed: jax.Array) -> Algorithm:
            return rule.algorithm(numbers.row(settings, seed))

        return _greedy_returns(env, build, learners, keys)

    return Program(over(evaluate, mesh, ROWS), choices=choices)


def _greedy_returns(
    env: VectorEnv, build: Callable[[jax.Array], Algorithm], learners: Any, keys: jax.Array
) -> jax.Array:
    """Returns ``[S, E]`` of all seeds, as many of them side by side as suits the device.

    Args:
      env: E of them.
      build: number of a seed in this order -> its algorithm.
      learners: states, leaves ``[S, ...]``.
      keys: [S].
    """

    def one(row: tuple[jax.Array, Any, jax.Array]) -> jax.Array:
        seed, learner, key = row
        returns: jax.Array = _Episodes(build(seed), env).play(learner, key).returns
        return returns

    rows = jnp.arange(len(keys)), learners, keys
    at_once = chosen().seeds_side_by_side is None
    returns: jax.Array = jax.vmap(one)(rows) if at_once else jax.lax.map(one, rows)
    return returns
