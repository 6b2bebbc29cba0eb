"""Episodes in host environments, which worker processes step between compiled programs.

Acting, inserting and updating are compiled as on the native stage. The environments' own state is
not saved: a resumed run goes on with new episodes, drawn from seeds of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.config import Execution, TrainConfig
from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.hosted import HostEnvironment
from mamt_jax.envs.rows import Rows
from mamt_jax.envs.workers import HostVectorEnv
from mamt_jax.settings import Settings, numbers
from mamt_jax.training.learning import EpochOutput, Rule, RunState, SeedState, UpdateEvent
from mamt_jax.training.plan import Plan
from mamt_jax.training.programs import Program, as_written, kept
from mamt_jax.training.seeds import map_seeds
from mamt_jax.training.stage.base import Evaluator, Loop, Player
from mamt_jax.training.stage.hosted_play import (
    Acting,
    Alone,
    Step,
    acting_keys,
    actor,
    entropy_of,
    kept_of,
    played,
    returns_of,
    side_by_side,
    worker_errors,
)
from mamt_jax.training.store import Store
from mamt_jax.trajectories.trajectory import Trajectory, as_trajectory
from mamt_jax.trajectories.watched import Moment, Watched
from mamt_jax.types import Algorithm, Metrics, Transition

_TRAINING = 1
"""First number of the entropy of an episode of training; others have ``EVALUATION``."""


@dataclass(frozen=True)
class HostedStage:
    """The :class:`~mamt_jax.training.stage.base.Stage` of a host environment."""

    env: HostEnvironment
    config: TrainConfig

    @property
    def spec(self) -> EnvSpec:
        """Of the environment."""
        return self.env.spec

    def mesh(self, rows: int) -> None:
        """One device: what it waits for is the host."""
        del rows

    def loop(
        self, plan: Plan, rule: Rule, store: Store, seeds: Sequence[int], batch: int, mesh: Any
    ) -> Loop:
        """Training; its workers start with the first epoch."""
        del mesh
        programs = _compiled(_Loop(plan, rule, store, batch))
        loop = _Training(self.config.execution, plan, programs, self.env, seeds)
        episodes = self.config.execution.evaluation_episodes

        def evaluate(settings: Settings, learners: Any, keys: jax.Array) -> np.ndarray:
            return self._returns(partial(programs.greedy, settings), learners, keys, episodes)

        return Loop(programs.init, loop.epoch, loop.compile_ahead, evaluate, loop.close)

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """As many side by side as in training; workers of its own, ended with the evaluation."""
        act = actor(algorithm, greedy=True)
        return lambda learners, keys: self._returns(act, learners, keys, episodes)

    def _returns(
        self, act: Callable[..., Any], learners: Any, keys: jax.Array, episodes: int
    ) -> np.ndarray:
        with closing(self._waves(act, learners, keys, episodes)) as waves:
            returns = [returns_of(*wave).reshape(len(keys), -1) for wave in waves]
        return np.concatenate(returns, axis=1)[:, :episodes]

    def player(self, algorithm: Algorithm, episodes: int, greedy: bool = True) -> Player:
        """As many side by side as in training; workers of its own, ended with the last episode."""
        act = actor(algorithm, greedy)
        say = Program(jax.vmap(algorithm.inspect)) if algorithm.inspect else None

        def play(learner: Any, key: jax.Array) -> Trajectory:
            learners = jax.tree.map(lambda leaf: leaf[None], learner)
            told = say and partial(say, learners)
            with closing(self._waves(act, learners, key[None], episodes)) as waves:
                kept = [kept_of(rows, steps, told, self.env.spec) for rows, steps in waves]
            return as_trajectory(side_by_side(kept, episodes), self.env)

        return play

    def watch(self, algorithm: Algorithm, learner: Any, key: jax.Array) -> Watched:
        """Plays in this process, where the environment can be asked for pictures on the way."""
        Alone(self.env).close()  # refuses what cannot be drawn
        moments = self._moments(algorithm, learner, key)
        return Watched(self.env.time_limit, self.env.spec.agents, True, moments)

    def _moments(self, algorithm: Algorithm, learner: Any, key: jax.Array) -> Generator[Moment]:
        learners = jax.tree.map(lambda leaf: leaf[None], learner)
        (entropy,), act = entropy_of(key[None], 0, 1), actor(algorithm, greedy=True)
        with closing(Alone(self.env)) as copy:
            steps = played(copy, Acting(act, learners, key[None]), [entropy])
            for number, step in enumerate(steps):
                first = step.action is None
                alive = None if first else copy.rows.alive[0] | step.undecided[0]
                total = 0.0 if first else float(copy.rows.return_so_far[0])
                action = None if step.action is None else step.action[0]
                yield Moment(number, total, action, alive, copy.draw)

    def _waves(
        self, act: Callable[..., Any], learners: Any, keys: jax.Array, episodes: int
    ) -> Generator[tuple[Rows, Iterator[Step]]]:
        """Episodes of all seeds, a wave of some side by side after another.

        Yields:
          Rows ``[S * width]``, and the steps of a wave, which are taken before the next wave.
        """
        execution, width = self.config.execution, min(episodes, self.config.num_envs)
        with worker_errors():
            count = len(keys) * width
            workers = HostVectorEnv(self.env, count, execution.env_workers, execution.env_timeout)
        with closing(workers):
            for first in range(0, episodes, width):
                acting = Acting(act, learners, acting_keys(keys, first))
                entropy = entropy_of(keys, first, width)
                yield workers.rows, played(workers, acting, entropy)


@dataclass(frozen=True)
class _Loop:
    """What is compiled, of all seeds at once."""

    plan: Plan
    rule: Rule
    store: Store
    seed_batch: int

    def init(self, settings: Settings, seeds: jax.Array) -> RunState:
        """Integer seeds [S] -> state."""

        def one(settings: Settings, seed: jax.Array) -> SeedState:
            learner_key, key = jax.random.split(jax.random.key(seed))
            learner = self.rule.algorithm(settings).init(learner_key)
            return SeedState(learner, self.store.init(), (), key)

        states = jax.vmap(one, in_axes=(numbers.axes(settings), 0))(settings, seeds)
        return RunState(states, jnp.int32(0), jnp.int32(0))

    def act(self, settings: Settings, learner: Any, key: jax.Array, obs: jax.Array) -> Any:
        """Of all seeds: the next keys, and actions ``[S, E, n]``."""

        def one(settings: Settings, learner: Any, key: jax.Array, obs: jax.Array) -> Any:
            key, act_key = jax.random.split(key)
            return key, self.rule.algorithm(settings).act(learner, act_key, obs)

        return jax.vmap(one, in_axes=(numbers.axes(settings), 0, 0, 0))(settings, learner, key, obs)

    def greedy(self, settings: Settings, learner: Any, key: jax.Array, obs: jax.Array) -> Any:
        """Likewise with the most probable actions; nothing is drawn from the keys."""

        def one(settings: Settings, learner: Any, obs: jax.Array) -> jax.Array:
            return self.rule.algorithm(settings).greedy(learner, obs)

        axes = numbers.axes(settings), 0, 0
        return key, jax.vmap(one, in_axes=axes)(settings, learner, obs)

    def insert(self, stored: Any, new: Transition, transitions: jax.Array) -> Any:
        """Stores ``[S, T, E, ...]`` transitions, step after step as they were made."""
        steps, envs = new.reward.shape[1:3]

        def one_seed(buffer: Any, new: Transition) -> Any:
            def one(t: jax.Array, buffer: Any) -> Any:
                at = jax.tree.map(lambda leaf: leaf[t], new)
                return self.store.insert(buffer, at, transitions + t * envs)

            return jax.lax.fori_loop(0, steps, one, buffer)

        return jax.vmap(one_seed)(stored, new)

    def learn(
        self,
        settings: Settings,
        learner: Any,
        key: jax.Array,
        stored: Any,
        transitions: jax.Array,
        updates: jax.Array,
    ) -> tuple[Any, jax.Array, Metrics]:
        """One event's updates of all seeds: learners, keys, metrics ``[S, U, ...]``.

        Batches are drawn for all seeds first: the stores are read where they are, not sliced.
        """
        draw = UpdateEvent(self.plan, self.store, self.rule.algorithm()).draw
        key, keys, batches = jax.vmap(draw, in_axes=(0, 0, None))(key, stored, transitions)

        def one(settings: Settings, inputs: Any) -> tuple[Any, Metrics]:
            learner, keys, batches = inputs
            event = UpdateEvent(self.plan, self.store, self.rule.algorithm(settings))
            learner, metrics = event.update(learner, keys, batches, updates)
            return (learner, keys, batches), metrics

        all_seeds: Any = (learner, keys, batches)
        (learner, *_), metrics = map_seeds(one, settings, all_seeds, self.seed_batch)
        return learner, key, metrics


class _Compiled(NamedTuple):
    """The programs of :class:`_Loop`."""

    init: Any
    act: Program
    greedy: Program
    insert: Program
    learn: Program


@kept
def _compiled(loop: _Loop) -> _Compiled:
    return _Compiled(
        init=as_written()(jax.jit(loop.init)),
        act=Program(loop.act),
        greedy=Program(loop.greedy),
        insert=Program(loop.insert, donate=(0,)),
        learn=Program(loop.learn, donate=(1,)),
    )


class _Training:
    """Training of all seeds: events on the host, everything between steps compiled."""

    def __init__(
        self,
        execution: Execution,
        plan: Plan,
        programs: _Compiled,
        env: HostEnvironment,
        seeds: Sequence[int],
    ) -> None:
        self._execution, self._plan, self._programs = execution, plan, programs
        self._env, self._seeds = env, tuple(seeds)
        self._workers: HostVectorEnv | None = None
        self._undecided = np.zeros(len(seeds), bool)
        """Seeds whose policies are no longer finite: their environments stand still."""

    def epoch(self, settings: Settings, state: RunState) -> tuple[RunState, EpochOutput]:
        """One logging point. Donates the state.

        Raises:
          EnvironmentFailed: a worker crashed or hangs.
        """
        outputs = []
        try:
            with worker_errors():
                workers = self._workers or self._start(state)
                for steps in self._plan.collect:
                    state, collected = self._collect(workers, settings, state, steps)
                    state, metrics, ready = self._update(settings, state)
                    outputs.append((metrics, ready, collected))
        except BaseException:
            self.close()  # they have ended, or are in the middle of something
            raise
        metrics, ready, collected = jax.tree.map(
            lambda *events: np.stack(jax.device_get(events)), *outputs
        )
        metrics, collected = jax.tree.map(
            lambda leaf: np.moveaxis(leaf, 0, 1), (metrics, collected)
        )
        return state, EpochOutput(metrics, ready, *collected)

    def close(self) -> None:
        """Closes all environments and ends their workers."""
        if self._workers is not None:
            self._workers.close()
        self._workers = None

    def _start(self, state: RunState) -> HostVectorEnv:
        """Starts the workers; the transitions so far tell a resumed run's episodes from others."""
        execution, begun, envs = self._execution, int(state.transitions), self._plan.num_envs
        count = len(self._seeds) * envs
        workers = HostVectorEnv(self._env, count, execution.env_workers, execution.env_timeout)
        self._workers = workers
        workers.reset(
            [(_TRAINING, seed, begun, env) for seed in self._seeds for env in range(envs)]
        )
        return workers

    def _collect(
        self, workers: HostVectorEnv, settings: Settings, state: RunState, steps: int
    ) -> tuple[RunState, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """``steps`` steps of every environment: state, and of each seed ``[S]`` the returns of
        finished episodes, their number, and whether a policy was not finite.
        """
        spec, seeds, envs = self._env.spec, len(self._seeds), self._plan.num_envs
        lead, new = (seeds, envs), _transitions(spec, (seeds, steps, envs))
        returns, episodes = np.zeros(seeds, np.float32), np.zeros(seeds, np.int32)
        keys, rows = state.seeds.key, workers.rows
        for t in range(steps):
            new.obs[:, t] = rows.obs.reshape(*lead, spec.num_agents, -1)
            keys, action = self._programs.act(settings, state.seeds.learner, keys, new.obs[:, t])
            new.action[:, t] = np.maximum(action, 0)
            self._undecided |= (np.asarray(action) < 0).any(axis=(1, 2))
            workers.set_idle(np.repeat(self._undecided, envs))
            workers.step(new.action[:, t].reshape(-1, spec.num_agents))
            new.reward[:, t] = rows.reward.reshape(*lead, -1)
            new.next_obs[:, t] = rows.next_obs.reshape(*lead, spec.num_agents, -1)
            new.terminated[:, t] = rows.terminated.reshape(*lead, -1)
            new.finished[:, t] = rows.finished.reshape(lead)
            if new.alive is not None:
                new.alive[:, t] = rows.alive.reshape(*lead, -1)
            returns += rows.finished_return.reshape(lead).sum(axis=1)
            episodes += rows.finished.reshape(lead).sum(axis=1, dtype=np.int32)
        collected = (returns, episodes, self._undecided.copy())
        if not steps:  # more environments than transitions between updates
            return state, collected
        stored = self._programs.insert(state.seeds.store, new, state.transitions)
        states = state.seeds._replace(store=stored, key=keys)
        transitions = state.transitions + steps * envs
        return RunState(states, transitions, state.updates), collected

    def _update(self, settings: Settings, state: RunState) -> tuple[RunState, Metrics, bool]:
        """Updates where the stores hold a batch: state, metrics ``[S, U, ...]``, whether."""
        seeds = state.seeds
        inputs = (seeds.learner, seeds.key, seeds.store, state.transitions, state.updates)
        learn = self._programs.learn
        if int(state.transitions) < self._plan.batch_size:
            shapes = jax.eval_shape(learn.__wrapped__, settings, *inputs)[2]
            return state, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), False
        learner, key, metrics = learn(settings, *inputs)
        seeds = seeds._replace(learner=learner, key=key)
        updates = state.updates + self._plan.updates_per_event
        return RunState(seeds, state.transitions, updates), metrics, True

    def compile_ahead(self, settings: Settings, state: RunState) -> Any:
        """Compiles the program of an update event for these shapes; events use it from here on."""
        seeds = state.seeds
        return self._programs.learn.compile_ahead(
            settings, seeds.learner, seeds.key, seeds.store, state.transitions, state.updates
        )


def _transitions(spec: EnvSpec, lead: tuple[int, ...]) -> Any:
    """A ``Transition`` of NumPy arrays to fill, ``[*lead, ...]``."""
    agents, obs = (*lead, spec.num_agents), (*lead, spec.num_agents, spec.obs_size)
    room: Any = np.empty
    return Transition(
        obs=room(obs, np.float32),
        action=room(agents, np.int32),
        reward=room(agents, np.float32),
        next_obs=room(obs, np.float32),
        terminated=room(agents, bool),
        alive=room(agents, bool) if spec.agents_may_leave else None,
        finished=room(lead, bool),
    )
