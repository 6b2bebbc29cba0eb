"""Episodes in host environments, which worker processes step between compiled programs.

Acting, inserting and updating are compiled as on the native stage. The environments' own state is
not saved: a resumed run goes on with new episodes, drawn from seeds of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.config import Execution, TrainConfig
from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.hosted import HostEnvironment
from mamt_jax.envs.workers import HostVectorEnv, WorkerError
from mamt_jax.errors import EnvironmentFailed
from mamt_jax.settings import Settings, numbers
from mamt_jax.training.learning import EpochOutput, Rule, RunState, SeedState, UpdateEvent
from mamt_jax.training.plan import Plan
from mamt_jax.training.programs import Program, as_written, kept
from mamt_jax.training.seeds import map_seeds, seed_batch
from mamt_jax.training.stage.base import Evaluator, Loop
from mamt_jax.training.store import Store
from mamt_jax.types import Algorithm, Metrics, Transition

_TRAINING, _EVALUATION = 1, 2  # first number of an episode's entropy


@dataclass(frozen=True)
class HostedStage:
    """The :class:`~mamt_jax.training.stage.base.Stage` of a host environment."""

    env: HostEnvironment
    config: TrainConfig

    def loop(self, plan: Plan, rule: Rule, store: Store, seeds: Sequence[int]) -> Loop:
        """Training; its workers start with the first epoch."""
        batch = seed_batch(self.config.execution.seed_batch, len(seeds))
        programs = _compiled(_Loop(plan, rule, store, batch))
        loop = _Training(self.config.execution, plan, programs, self.env, seeds)
        return Loop(programs.init, loop.epoch, loop.compile_ahead, loop.close)

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """Plays that many greedy episodes per seed, as many side by side as in training.

        Workers of its own, ended with the evaluation.
        """
        greedy = Program(jax.vmap(algorithm.greedy))
        execution, width = self.config.execution, min(episodes, self.config.num_envs)

        def wave(
            workers: HostVectorEnv, learners: Any, entropy: list[tuple[int, ...]]
        ) -> np.ndarray:
            """Returns of the first episode in every row ``[S * width]``."""
            rows, count = workers.reset(entropy), len(entropy)
            returns, done = np.zeros(count, np.float32), np.zeros(count, bool)
            while not done.all():
                obs = rows.obs.reshape(-1, width, *rows.obs.shape[1:])
                action = np.asarray(greedy(learners, obs))  # done before a step overwrites obs
                undecided = np.repeat((action < 0).any(axis=(1, 2)), width) & ~done
                returns[undecided] = np.nan
                done |= undecided
                workers.set_idle(done)
                workers.step(np.maximum(action, 0).reshape(count, -1))
                ended = rows.finished & ~done
                returns[ended] = rows.finished_return[ended]
                done |= ended
            return returns

        def play(learners: Any, keys: jax.Array) -> np.ndarray:
            seeds = len(keys)
            bits = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))
            drawn = np.asarray(bits(keys)).tolist()
            returns = np.zeros((seeds, 0), np.float32)
            with worker_errors():
                count = seeds * width
                workers = HostVectorEnv(
                    self.env, count, execution.env_workers, execution.env_timeout
                )
                with closing(workers):
                    for first in range(0, episodes, width):
                        entropy = [
                            (_EVALUATION, *drawn[seed], first + row)
                            for seed in range(seeds)
                            for row in range(width)
                        ]
                        new = wave(workers, learners, entropy).reshape(seeds, width)
                        returns = np.concatenate([returns, new], axis=1)
            return returns[:, :episodes]

        return play


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turns a failed worker, or one that cannot be started, into an error that a command prints."""
    try:
        yield
    except (WorkerError, OSError) as error:
        raise EnvironmentFailed(str(error)) from error


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

    def act(self, learner: Any, key: jax.Array, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of one seed: the next key, and actions."""
        key, act_key = jax.random.split(key)
        return key, self.rule.algorithm().act(learner, act_key, obs)

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
    insert: Program
    learn: Program


@kept
def _compiled(loop: _Loop) -> _Compiled:
    return _Compiled(
        init=as_written()(jax.jit(loop.init)),
        act=Program(jax.vmap(loop.act)),
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
                    state, collected = self._collect(workers, state, steps)
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
        self, workers: HostVectorEnv, state: RunState, steps: int
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
            keys, action = self._programs.act(state.seeds.learner, keys, new.obs[:, t])
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
