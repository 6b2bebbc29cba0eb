"""Training of all seeds in one compiled program.

collect -> event -> logging point -> seeds: an event collects until ``steps_per_update`` more
transitions are stored and then updates; a logging point is a scan over events; seeds are mapped
around it. Off-policy algorithms draw batches from a replay; for on-policy ones an event collects
a rollout, which takes the replay's place, and makes one update (:func:`cadence`). Counters are the
same for all seeds and stay outside the mapped state, so that every condition on them remains one
branch, not a select.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.config import ConfigError, TrainConfig
from mamt_jax.envs.base import Environment, EnvSpec
from mamt_jax.envs.hosted import HostEnvironment
from mamt_jax.envs.wrappers import VectorEnv
from mamt_jax.training.evaluate import make_evaluator
from mamt_jax.training.game import game_of
from mamt_jax.training.programs import Program, as_written
from mamt_jax.training.replay import Replay, make_replay
from mamt_jax.training.rollout import make_rollout
from mamt_jax.types import Algorithm, Batch, Game, Metrics, Transition

Seeds = TypeVar("Seeds")

_TRANSITIONS_PER_POINT = 1500
"""About how many lie between logging points where ``log_interval`` is 0."""


class Plan(NamedTuple):
    """Static sizes of a run."""

    points: int
    """Logging points in the run."""
    episodes_per_point: int
    """Full-length episodes per logging point and seed."""
    steps_per_point: int
    """Steps of each parallel environment per logging point."""
    collect: tuple[int, ...]
    """Environment steps before each update event of a logging point."""
    updates_per_event: int
    """Updates in every event once the replay holds a batch."""
    capacity: int
    """Transitions that each seed's replay is allocated for."""

    @property
    def events_per_point(self) -> int:
        """Update events per logging point."""
        return len(self.collect)

    @property
    def updates_per_point(self) -> int:
        """Updates per logging point once the replay holds a batch."""
        return self.events_per_point * self.updates_per_event


class SeedState(NamedTuple):
    """What one seed carries through training."""

    learner: Any
    replay: Any
    """``ReplayState``, or the rollout of an on-policy algorithm."""
    env: Any
    """``VectorState``; nothing where the environments are on the host."""
    key: jax.Array


class RunState(NamedTuple):
    """A whole run: seeds stacked, counters shared."""

    seeds: SeedState
    """Leaves ``[S, ...]``."""
    transitions: jax.Array
    """int32 []: environment transitions stored so far, per seed."""
    updates: jax.Array
    """int32 []: updates done, per seed."""

    @property
    def learner(self) -> Any:
        """The algorithm's state, leaves ``[S, ...]``."""
        return self.seeds.learner


class EpochOutput(NamedTuple):
    """What one logging point hands to the host."""

    metrics: Metrics
    """``[S, events, updates_per_event, ...]``, of every update."""
    updated: jax.Array
    """bool [events]: False while the replay holds less than a batch; such rows mean nothing."""
    return_sum: jax.Array
    """float32 [S, events]: returns (mean over agents) of the episodes finished in each event."""
    episodes: jax.Array
    """int32 [S, events]: their number."""
    undecided: jax.Array
    """bool [S, events]: an action was asked of a policy that is not finite."""


class Trainer(NamedTuple):
    """Training as compiled functions, and the replay that they share."""

    plan: Plan
    replay: Replay
    init: Callable[[jax.Array], RunState]
    """Integer seeds [S] -> state."""
    epoch: Callable[[RunState], tuple[RunState, EpochOutput]]
    """One logging point. Donates its argument."""
    compile_ahead: Callable[[RunState], Any]
    """Shapes of a state -> the compiled program that updates it, which ``epoch`` uses then."""
    evaluate: Callable[[Any, jax.Array], Any]
    """Algorithm's states ``[S, ...]``, keys [S] -> returns of greedy episodes float32 ``[S, E]``;
    NaN where a policy is not finite."""
    game: Game
    """Sizes of the environment."""
    close: Callable[[], None] = lambda: None
    """Closes the environments of training; the next epoch opens new ones."""


def collection_period(num_envs: int, steps_per_update: int) -> tuple[int, ...]:
    """Environment steps before each update event, over one period of the cadence.

    Events come after every ``steps_per_update`` transitions counted over all environments: with 12
    environments and 100 transitions after steps 9, 17 and 25, so (9, 8, 8).
    """
    period = steps_per_update // math.gcd(num_envs, steps_per_update)
    events = num_envs * period // steps_per_update
    after = [math.ceil(k * steps_per_update / num_envs) for k in range(events + 1)]
    return tuple(int(step) for step in np.diff(after))


def plan_run(config: TrainConfig, spec: EnvSpec) -> Plan:
    """Works out a run's sizes.

    Raises:
      ConfigError: if the run would end before its replay held one batch.
    """
    length, envs = spec.episode_length, config.num_envs
    period = collection_period(envs, config.steps_per_update)
    interval = config.log_interval or max(_TRANSITIONS_PER_POINT // length, 1)
    wanted = min(interval, config.episodes) * length / envs
    periods = math.ceil(wanted / sum(period))
    steps = periods * sum(period)
    points = math.ceil(config.episodes * length / (steps * envs))
    total = points * steps * envs
    if config.batch_size > total:
        raise ConfigError(
            f"batch_size must be at most the transitions that the run collects ({total}), "
            f"got {config.batch_size}; lower it or raise episodes."
        )
    if total >= 2**31:
        raise ConfigError(
            f"episodes must keep the run below 2,147,483,648 transitions per seed, got {total:,}."
        )
    capacity = min(config.buffer_size, total) // envs * envs
    if capacity < config.batch_size:
        raise ConfigError(
            f"buffer_size must hold a batch after rounding down to whole steps of {envs} "
            f"environments, got {config.buffer_size} for batch_size {config.batch_size}."
        )
    return Plan(
        points=points,
        episodes_per_point=steps * envs // length,
        steps_per_point=steps,
        collect=period * periods,
        updates_per_event=config.updates_per_event,
        capacity=capacity,
    )


REPLAY_SIZES = ("steps_per_update", "updates_per_event", "batch_size", "buffer_size")
"""Settings that an on-policy algorithm does not have: ``rollout_size`` stands in their place."""


def check_sizes(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuses sizes of a replay for an algorithm that has none.

    Raises:
      ConfigError: if one of them is not left at its default.
    """
    for name in REPLAY_SIZES if algorithm.on_policy else ():
        given = getattr(config, name)
        if given != getattr(TrainConfig, name):
            raise ConfigError(
                f"{algorithm.name} learns from rollouts and has no {name} (got {given}); it goes "
                f"by rollout_size, ppo_epochs and ppo_minibatches."
            )


def cadence(config: TrainConfig, algorithm: Algorithm) -> TrainConfig:
    """The config with the sizes that the algorithm's data regime goes by.

    On-policy, an event collects one rollout and makes one update of it.
    """
    if not algorithm.on_policy:
        return config
    size = math.ceil(config.rollout_size / config.num_envs) * config.num_envs
    return replace(
        config, steps_per_update=size, updates_per_event=1, batch_size=size, buffer_size=size
    )


def make_trainer(
    config: TrainConfig, env: Environment | HostEnvironment, algorithm: Algorithm
) -> Trainer:
    """Compiles lazily: the first call of each function traces it."""
    if isinstance(env, HostEnvironment):
        from mamt_jax.training.bridged import make_bridged_trainer

        return make_bridged_trainer(config, env, algorithm)
    config = cadence(config, algorithm)
    plan = plan_run(config, env.spec)
    replay = make_store(config, plan, env.spec, algorithm)
    learning = Learning(config, algorithm, replay)
    loop = _Loop(config, plan, learning, VectorEnv(env, config.num_envs))
    greedy = make_evaluator(algorithm, env, config, config.evaluation_episodes)
    epoch = Program(loop.epoch, donate=(0,))
    init, ahead = as_written()(jax.jit(loop.init)), epoch.compile_ahead
    return Trainer(plan, replay, init, epoch, ahead, greedy, game_of(env.spec))


def make_store(config: TrainConfig, plan: Plan, spec: EnvSpec, algorithm: Algorithm) -> Replay:
    """Where transitions go: a replay, or a rollout."""
    if algorithm.on_policy:
        return make_rollout(plan.collect[0], config.num_envs, spec)
    recent = config.hyper.modelling_recent
    return make_replay(plan.capacity, config.batch_size, recent, spec)


class Collected(NamedTuple):
    """What a seed's environments say of some steps, each []."""

    return_sum: jax.Array
    episodes: jax.Array
    undecided: jax.Array
    """As in :class:`EpochOutput`."""


class Carry(NamedTuple):
    """One seed between events, with its view of the shared counters."""

    seed: SeedState
    transitions: jax.Array
    updates: jax.Array


@dataclass(frozen=True)
class Learning:
    """What one seed does between collections, wherever its transitions come from."""

    config: TrainConfig
    algorithm: Algorithm
    replay: Replay

    def learn(self, carry: Carry) -> tuple[Carry, Metrics, jax.Array]:
        """Updates if the replay holds a batch.

        Returns:
          The seed, metrics ``[updates_per_event, ...]``, and whether there were updates, bool [].
        """
        ready = carry.transitions >= self.config.batch_size
        shapes = jax.eval_shape(self._updates, carry)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        carry, metrics = jax.lax.cond(ready, self._updates, lambda kept: (kept, nothing), carry)
        return carry, metrics, ready

    def _updates(self, carry: Carry) -> tuple[Carry, Metrics]:
        """``updates_per_event`` updates, metrics ``[updates_per_event, ...]``."""
        key, keys, batches = self.draw(carry.seed.key, carry.seed.replay, carry.transitions)
        learner, metrics = self.update(carry.seed.learner, keys, batches, carry.updates)
        seed = carry.seed._replace(learner=learner, key=key)
        return Carry(seed, carry.transitions, carry.updates + len(keys)), metrics

    def draw(
        self, key: jax.Array, replay: Any, transitions: jax.Array
    ) -> tuple[jax.Array, jax.Array, Batch]:
        """What an event's updates take: the next key; a key and a batch each, ``[U, ...]``."""
        keys = jax.random.split(key, self.config.updates_per_event + 1)
        both = jax.vmap(jax.random.split)(keys[1:])
        sample = jax.vmap(lambda key: self.replay.sample(replay, key, transitions))
        return keys[0], both[:, 1], sample(both[:, 0])

    def update(
        self, learner: Any, keys: jax.Array, batches: Batch, count: jax.Array
    ) -> tuple[Any, Metrics]:
        """Updates one after another, metrics ``[U, ...]``; ``count`` is that of earlier ones."""

        def one(learner: Any, inputs: tuple[Any, ...]) -> tuple[Any, Metrics]:
            return self.algorithm.update(learner, *inputs)

        counts = count + jnp.arange(len(keys), dtype=count.dtype)
        return jax.lax.scan(one, learner, (keys, batches, counts))


@dataclass(frozen=True)
class _Loop:
    """The loops of one run in JAX environments, outermost first."""

    config: TrainConfig
    plan: Plan
    learning: Learning
    env: VectorEnv

    def init(self, seeds: jax.Array) -> RunState:
        return RunState(jax.vmap(self._init_seed)(seeds), jnp.int32(0), jnp.int32(0))

    def epoch(self, state: RunState) -> tuple[RunState, EpochOutput]:
        """One logging point: all seeds, ``plan.collect`` events each."""

        def one_seed(seed: SeedState) -> tuple[SeedState, tuple[Any, ...]]:
            carry = Carry(seed, state.transitions, state.updates)
            carry, outputs = jax.lax.scan(self._event, carry, jnp.asarray(self.plan.collect))
            return carry.seed, (*outputs, carry.transitions, carry.updates)

        seeds, outputs = map_seeds(one_seed, state.seeds, seed_batch(self.config))
        metrics, ready, collected, transitions, updates = outputs
        state = RunState(seeds, transitions[0], updates[0])
        return state, EpochOutput(metrics, ready[0], *collected)

    def _init_seed(self, seed: jax.Array) -> SeedState:
        learner_key, env_key, key = jax.random.split(jax.random.key(seed), 3)
        learner = self.learning.algorithm.init(learner_key)
        return SeedState(learner, self.learning.replay.init(), self.env.reset(env_key), key)

    def _event(self, carry: Carry, steps: jax.Array) -> tuple[Carry, tuple[Any, ...]]:
        """Collects ``steps`` environment steps, then updates if the replay holds a batch."""

        def collect(i: jax.Array, carried: tuple[SeedState, Collected]) -> tuple[Any, Collected]:
            seed, so_far = carried
            seed, new = self._collect(seed, carry.transitions + i * self.env.num_envs)
            return seed, jax.tree.map(jnp.add, so_far, new)

        start = carry.seed, Collected(jnp.float32(0), jnp.int32(0), jnp.bool_(False))
        seed, collected = jax.lax.fori_loop(0, steps, collect, start)
        transitions = carry.transitions + steps * self.env.num_envs
        carry, metrics, ready = self.learning.learn(Carry(seed, transitions, carry.updates))
        return carry, (metrics, ready, collected)

    def _collect(self, seed: SeedState, transitions: jax.Array) -> tuple[SeedState, Collected]:
        """One step of every environment."""
        key, act_key, env_key = jax.random.split(seed.key, 3)
        obs = seed.env.obs
        drawn = self.learning.algorithm.act(seed.learner, act_key, obs)
        action = jnp.maximum(drawn, 0)
        env_state, step = self.env.step(env_key, seed.env, action)
        terminated = step.terminated
        if terminated.ndim == 1:
            terminated = jnp.broadcast_to(terminated[:, None], action.shape)
        new = Transition(
            obs, action, step.reward, step.next_obs, terminated, step.alive, step.finished
        )
        buffer = self.learning.replay.insert(seed.replay, new, transitions)
        seed = SeedState(seed.learner, buffer, env_state, key)
        count = jnp.sum(step.finished, dtype=jnp.int32)
        return seed, Collected(jnp.sum(step.finished_return), count, jnp.any(drawn < 0))


def seed_batch(config: TrainConfig) -> int:
    """Seeds computed side by side: as configured, else 1 on CPU and all on an accelerator.

    One at a time keeps a seed's activations in a CPU's cache.

    Raises:
      ConfigError: if it does not divide the number of seeds.
    """
    chosen = config.seed_batch or (1 if jax.default_backend() == "cpu" else config.seeds)
    if config.seeds % chosen:
        raise ConfigError(f"seed_batch must divide seeds ({config.seeds}), got {chosen}.")
    return chosen


def map_seeds(
    function: Callable[[Seeds], tuple[Seeds, Any]], seeds: Seeds, batch: int
) -> tuple[Seeds, Any]:
    """Maps over the seeds' leading axis, ``batch`` of them vmapped at a time.

    The stacked state is the loop's carry and written in place: beside it there is room for one
    batch, where ``lax.map`` would hold a second copy of every replay.
    """
    count = jax.tree.leaves(seeds)[0].shape[0]
    if batch == count > 1:
        return jax.vmap(function)(seeds)

    def body(stacked: Seeds, start: jax.Array) -> tuple[Seeds, Any]:
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, batch), stacked)
        if batch == 1:
            part, out = function(jax.tree.map(lambda leaf: leaf[0], part))
            part, out = jax.tree.map(lambda leaf: leaf[None], (part, out))
        else:
            part, out = jax.vmap(function)(part)
        stacked = jax.tree.map(
            lambda leaf, rows: jax.lax.dynamic_update_slice_in_dim(leaf, rows, start, axis=0),
            stacked,
            part,
        )
        return stacked, out

    seeds, outputs = jax.lax.scan(body, seeds, jnp.arange(0, count, batch))
    return seeds, jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), outputs)
