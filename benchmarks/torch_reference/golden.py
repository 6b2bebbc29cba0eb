"""``python -m benchmarks.torch_reference.golden``: what the PyTorch side computes, as small files.

A file per case holds the initial weights and the batch once, in float32, and per algorithm and
precision what the updates make of them. Random numbers are those of the JAX keys stored with them,
so that both sides sample the same actions; a seed is accepted only if no action is a close call.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.torch_reference import convert, maths, states
from benchmarks.torch_reference.cases import (
    CASES,
    PROXIMAL,
    PROXIMAL_CASES,
    ROLLOUTS_BEFORE,
    UPDATES,
    Case,
    ProximalCase,
    initial_weights,
    offset_key,
    proximal_weights,
    rollout_keys,
    rollouts,
    settings,
    transitions,
    update_keys,
)
from benchmarks.torch_reference.learner import Learner
from benchmarks.torch_reference.maths import Batch, Noise, Rollout
from benchmarks.torch_reference.proximal import ProximalLearner
from mamt_jax.settings import PPO, Coordination

MARGIN = 2e-5
"""Least gap between the two largest noisy log-probabilities of any sampled action."""
ONLINE = ("actor/", "critic/", "modelling/", "trd/", "log_delta")


PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def tensors(rows: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The fields of a batch or a rollout for PyTorch."""
    made = {name: torch.as_tensor(values) for name, values in rows.items()}
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in made.items()}


def noises(case: Case, dtype: torch.dtype) -> Iterator[Noise]:
    """The random numbers that mamt_jax's update draws from :func:`update_keys`."""
    n, kind = len(case.obs_sizes), str(dtype).removeprefix("torch.")
    with jax.enable_x64(dtype == torch.float64):
        offsets = offset_key(case)
        shape = (n, case.batch, case.num_actions)
        for key in update_keys(case):
            offsets, draw = jax.random.split(offsets)
            both = [jax.random.gumbel(part, shape, kind) for part in jax.random.split(key)]
            arrays = [*both, jax.random.normal(draw, (n,), kind)]
            yield Noise(*(torch.as_tensor(np.array(values)) for values in arrays))


def learner(case: Case, algorithm: str, dtype: torch.dtype, idiom: str, **options: Any) -> Learner:
    """A learner with the case's weights."""
    made = Learner(
        algorithm,
        case.obs_sizes,
        case.num_actions,
        settings(algorithm),
        idiom,
        dtype=dtype,
        **options,
    )
    names = convert.export(made)
    convert.load(made, {k: v for k, v in initial_weights(case).items() if k in names})
    return made


def look(of: Learner, batch: Batch) -> dict[str, np.ndarray]:
    """What an update computes on its way to gradients; nothing is stepped."""
    action = batch.action.T
    x, _, _ = maths.batch_norm(batch.obs.transpose(0, 1))
    encoded, mean, var = of._encode(action)
    trace = of.critic(x, encoded)
    weights = trace.weights
    seen = {"q": trace.q, "attention": weights}
    if weights.shape[1] < len(weights):
        seen["attention"] = maths.to_square(weights)
    if of.algorithm == "mamt":
        n, log_policy = of.num_agents, of.actor(x).log_softmax(-1)
        encoding = maths.apply_norm(mean, var, of._all_actions().expand(n, -1, -1))
        if n > 2:
            effect = of.critic.effects(trace, action, log_policy.exp(), encoding)
            seen["effect"] = effect
            for units in ("relative", "raw"):
                options = Coordination(coordination_units=units).settled()
                seen[f"coordination_{units}"] = maths.coordination(effect, options)
        coordination, _ = of._coordination(trace, action, log_policy, encoding)
        seen["drift"] = of._modelling_loss(x, action, coordination, log_policy)[1]
        seen["trd"] = of.trd(x, encoded, of.log_delta, coordination)
    return {name: values.detach().numpy() for name, values in seen.items()}


def outputs(case: Case, algorithm: str, dtype: torch.dtype, idiom: str) -> convert.Named:
    """All that a golden file keeps of one learner."""
    batch = Batch(**tensors(transitions(case), dtype))
    of = learner(case, algorithm, dtype, idiom)
    named = {f"look/{name}": values for name, values in look(of, batch).items()}
    for count, noise in enumerate(noises(case, dtype), start=1):
        if min(_gaps(of, batch, noise)) < MARGIN:
            raise ValueError(f"An action of update {count} is a close call; take another seed.")
        metrics = of.update(batch, noise)
        if count in (1, 2, UPDATES):
            named |= {f"metrics{count}/{k}": v.detach().numpy() for k, v in metrics.items()}
        if count == 1:
            named |= {f"moments/{k}": v for k, v in convert.first_moments(of).items()}
        if count in (1, UPDATES):
            named |= {f"after{count}/{k}": v for k, v in convert.export(of).items()}
    return named


@torch.no_grad()
def _gaps(of: Learner, batch: Batch, noise: Noise) -> Iterator[float]:
    """How close the closest of the coming update's sampled actions are."""
    draws = (of.target_actor, batch.next_obs, noise.target), (of.actor, batch.obs, noise.action)
    for actor, obs, gumbel in draws:
        x = maths.batch_norm(obs.transpose(0, 1))[0]
        top = (actor(x).log_softmax(-1) + gumbel).topk(2, dim=-1).values
        yield float((top[..., 0] - top[..., 1]).min())


def kept(name: str, algorithm: str, precision: str) -> bool:
    """Whether the file keeps it: float64 all but averages after one update, float32 the rest."""
    kind, _, rest = name.partition("/")
    if not kind.startswith("after"):
        return True
    online = rest.startswith(ONLINE)
    return precision == "float64" and (online or kind != "after1") or online and kind != "after1"


def write(case_name: str, directory: Path) -> Path:
    """Runs every algorithm in both precisions, from one set of weights."""
    case = CASES[case_name]
    arrays: convert.Named = {f"initial/{k}": v for k, v in initial_weights(case).items()}
    arrays |= {f"batch/{k}": v for k, v in transitions(case).items()}
    arrays["update_keys"] = np.asarray(jax.random.key_data(update_keys(case)))
    arrays["offset_key"] = np.asarray(jax.random.key_data(offset_key(case)))
    for algorithm, precision in case.runs:
        made = outputs(case, algorithm, PRECISIONS[precision], "batched")
        for name, values in made.items():
            if kept(name, algorithm, precision):
                arrays[f"{algorithm}/{precision}/{name}"] = values
    return _save(directory / f"{case_name}.npz", arrays)


def draws(case: ProximalCase) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """What mamt_jax's update draws from :func:`rollout_keys`: noise, and orders of the epochs."""
    total = case.steps * case.envs
    shape = len(case.obs_sizes), total, case.num_actions
    with jax.enable_x64(case.precision == "float64"):
        for key in rollout_keys(case):
            draw, learn = jax.random.split(key)
            keys = jax.random.split(learn, PROXIMAL[PPO].ppo_epochs)
            orders = [jax.random.permutation(jax.random.split(key)[0], total) for key in keys]
            noise = jax.random.gumbel(draw, shape, case.precision)
            yield torch.as_tensor(np.array(noise)), [torch.as_tensor(np.array(o)) for o in orders]


def proximal_outputs(case: ProximalCase) -> convert.Named:
    """All that a golden file keeps of MAPPO."""
    dtype = PRECISIONS[case.precision]
    of = ProximalLearner(case.obs_sizes, case.num_actions, PROXIMAL, dtype=dtype)
    convert.load(of, proximal_weights(case))
    named: convert.Named = {}
    both = zip(rollouts(case), draws(case), strict=True)
    for count, (rows, (noise, orders)) in enumerate(both, start=1):
        of.updates = ROLLOUTS_BEFORE[count - 1]
        rollout = Rollout(**tensors(rows, dtype))
        if _proximal_gap(of, rollout, noise) < MARGIN:
            raise ValueError(f"An action of rollout {count} is a close call; take another seed.")
        metrics = of.update(rollout, noise, orders)
        named |= {f"metrics{count}/{k}": v.numpy() for k, v in metrics.items()}
        if count in (1, len(ROLLOUTS_BEFORE)):
            named |= {f"after{count}/{k}": v for k, v in convert.export(of).items()}
    return named


@torch.no_grad()
def _proximal_gap(of: ProximalLearner, rollout: Rollout, noise: torch.Tensor) -> float:
    """How close the closest of the actions is that the coming update samples."""
    ahead = copy.deepcopy(of)
    obs, next_obs = (leaf.flatten(0, 1).transpose(0, 1) for leaf in (rollout.obs, rollout.next_obs))
    ahead._observe(obs)
    top = (ahead.actor(ahead._normalise(next_obs)) + noise).topk(2, dim=-1).values
    return float((top[..., 0] - top[..., 1]).min())


def write_proximal(case_name: str, directory: Path) -> Path:
    """Runs MAPPO on a case."""
    case = PROXIMAL_CASES[case_name]
    arrays: convert.Named = {f"initial/{k}": v for k, v in proximal_weights(case).items()}
    for count, rows in enumerate(rollouts(case), start=1):
        arrays |= {f"rollout{count}/{k}": v for k, v in rows.items()}
    arrays["update_keys"] = np.asarray(jax.random.key_data(rollout_keys(case)))
    arrays |= proximal_outputs(case)
    return _save(directory / f"{case_name}.npz", arrays)


def _save(path: Path, arrays: convert.Named) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    states.write(path, arrays)
    return path


def main() -> None:
    """Writes the files of all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tests/golden"))
    directory = parser.parse_args().out
    paths = [write(name, directory) for name in CASES]
    for path in paths + [write_proximal(name, directory) for name in PROXIMAL_CASES]:
        print(path, f"{path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
