"""Episodes in JAX environments: training is one compiled program, and so is playing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.config import TrainConfig
from mamt_jax.envs.base import Environment
from mamt_jax.envs.wrappers import VectorEnv, VectorState
from mamt_jax.settings import Settings, numbers
from mamt_jax.training.learning import (
    Carry,
    Collected,
    EpochOutput,
    Rule,
    RunState,
    SeedState,
    UpdateEvent,
)
from mamt_jax.training.plan import Plan
from mamt_jax.training.programs import Program, as_written, kept
from mamt_jax.training.seeds import map_seeds, seed_batch
from mamt_jax.training.stage.base import Evaluator, Loop
from mamt_jax.training.store import Store
from mamt_jax.types import Algorithm, Transition


@dataclass(frozen=True)
class NativeStage:
    """The :class:`~mamt_jax.training.stage.base.Stage` of a JAX environment."""

    env: Environment
    config: TrainConfig

    def loop(self, plan: Plan, rule: Rule, store: Store, seeds: Sequence[int]) -> Loop:
        """Training, in one program."""
        batch = seed_batch(self.config.execution.seed_batch, len(seeds))
        loop = _Loop(plan, rule, store, VectorEnv(self.env, plan.num_envs), batch)
        init, epoch = _compiled(loop)
        return Loop(init, epoch, epoch.compile_ahead, lambda: None)

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """Plays that many greedy episodes per seed; compiled with the first call."""
        vector = VectorEnv(self.env, episodes)

        def play(learner: Any, key: jax.Array) -> jax.Array:
            reset_key, step_key = jax.random.split(key)

            def advance(carry: _Played, key: jax.Array) -> tuple[_Played, None]:
                action = algorithm.greedy(learner, carry.state.obs)
                state, step = vector.step(key, carry.state, jnp.maximum(action, 0))
                returns = jnp.where(carry.done, carry.returns, step.finished_return)
                undecided = carry.undecided | jnp.any(action < 0)
                return _Played(state, returns, carry.done | step.finished, undecided), None

            nothing = jnp.zeros(episodes, bool)
            start = _Played(vector.reset(reset_key), jnp.zeros(episodes), nothing, jnp.bool_(False))
            keys = jax.random.split(step_key, self.env.spec.episode_length)
            end, _ = jax.lax.scan(advance, start, keys)
            return jnp.where(end.undecided, jnp.nan, end.returns)

        return Program(lambda learners, keys: jax.lax.map(lambda one: play(*one), (learners, keys)))


class _Played(NamedTuple):
    """Episodes side by side, of which the first in each environment counts."""

    state: VectorState
    returns: jax.Array
    done: jax.Array
    undecided: jax.Array
    """bool []: a policy was not finite."""


@dataclass(frozen=True)
class _Loop:
    """The loops of one run in JAX environments, outermost first."""

    plan: Plan
    rule: Rule
    store: Store
    env: VectorEnv
    seed_batch: int

    def init(self, settings: Settings, seeds: jax.Array) -> RunState:
        def one(settings: Settings, seed: jax.Array) -> SeedState:
            learner_key, env_key, key = jax.random.split(jax.random.key(seed), 3)
            learner = self.rule.algorithm(settings).init(learner_key)
            return SeedState(learner, self.store.init(), self.env.reset(env_key), key)

        states = jax.vmap(one, in_axes=(numbers.axes(settings), 0))(settings, seeds)
        return RunState(states, jnp.int32(0), jnp.int32(0))

    def epoch(self, settings: Settings, state: RunState) -> tuple[RunState, EpochOutput]:
        """One logging point: all seeds, ``plan.collect`` events each."""

        def one(settings: Settings, seed: SeedState) -> tuple[SeedState, tuple[Any, ...]]:
            event = UpdateEvent(self.plan, self.store, self.rule.algorithm(settings))
            collect_and_update = partial(self._event, event)
            carry = Carry(seed, state.transitions, state.updates)
            carry, outputs = jax.lax.scan(collect_and_update, carry, jnp.asarray(self.plan.collect))
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
    return as_written()(jax.jit(loop.init)), Program(loop.epoch, donate=(1,))
