"""Policies to take home: those of one seed in one small file, with a card that says what they are.

The file is an archive of NumPy arrays, without pickles, and a JSON text: nothing in it is executed.
It holds what actions depend on and no more (no critic, no optimiser): ``RUN.evaluate``, ``play``,
``episodes`` and ``policies.act`` do what they do of a run, and nothing is said beside the actions.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.extend.core import Literal

from mamt_jax.analysis.returns import last_by_seed
from mamt_jax.analysis.seeds import surviving
from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, RunError, close_to
from mamt_jax.files import user_path, write_whole
from mamt_jax.lookup import is_path
from mamt_jax.policies import FOLDER, names
from mamt_jax.training.game import game_from_json
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import NAMES_ONLY, make_recipe
from mamt_jax.training.programs import as_written
from mamt_jax.training.result import Run
from mamt_jax.training.run import load
from mamt_jax.types import Algorithm

LARGEST = 2**20
"""Bytes of a file, above which its numbers are halved in precision."""
_EPISODES = 100
_CARD = "card"
_FORMAT = 1


@dataclass(frozen=True, eq=False, repr=False)
class Pretrained(Run):
    """A run of which the policies of one seed are left.

    Attributes:
        card: What they are: ``task``, ``algorithm``, ``seed``, ``episodes``, ``score`` and
            ``training`` (returns), ``limits``.
    """

    card: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        width = max(map(len, self.card))
        lines = (f"  {name:<{width}}  {_shown(value)}" for name, value in self.card.items())
        return "\n".join(["<Pretrained>", *lines])

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(_shown(value))}</td></tr>"
            for name, value in self.card.items()
        )
        return f"<table><tbody>{''.join(rows)}</tbody></table>"


def pretrained(name: str | Path) -> Pretrained:
    """Opens policies that come with the package, or a file of some.

    >>> run = mamt_jax.pretrained("spread/mamt")  # doctest: +SKIP
    >>> run.evaluate(episodes=100).mean()  # doctest: +SKIP

    Args:
        name: One of those that ``mamt list`` shows, or a file made by
            ``mamt report --policies``.

    Raises:
        ConfigError: There are none of this name.
        RunError: The file is damaged, or none of policies.
    """
    known = names()
    file = FOLDER / f"{name}.npz" if str(name) in known else user_path(name)
    if not file.is_file():
        raise ConfigError(
            f"There are no policies {str(name)!r}{close_to(str(name), known)}, and no file of this "
            f"name; there are {', '.join(known) or 'none'}."
        )
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {each: archive[each] for each in archive.files}
        document = json.loads(arrays.pop(_CARD).tobytes())
        if document["format"] != _FORMAT:
            raise RunError(
                f"{file} is of format {document['format']}; this version reads {_FORMAT}."
            )
        for what in ("algorithm", "env"):
            if is_path(document["config"][what]):  # which would be imported, and so executed
                raise RunError(f"{file}: its {what} is somebody's own code, which is not loaded.")
        config = TrainConfig.from_dict(document["config"])
        game, card = game_from_json(document["game"]), dict(document["card"])
        points = int(document["points"])
        algorithm = make_recipe(config, NAMES_ONLY)(game, config.settings)
        algorithm = algorithm._replace(inspect=None)
        learner = _filled(algorithm, arrays)
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise RunError(f"{file} is damaged, or no file of policies.") from error
    policies = Policies(algorithm, learner, config.seed_ids, game, points)
    metrics = xr.Dataset(coords={"seed": list(config.seed_ids), "update": [int(card["updates"])]})
    return Pretrained(config, metrics, None, partial(_same, policies), card=card)


def opened(place: Path, checkpoint: int | None = None) -> Run:
    """A run by its directory, or policies by their name or file.

    Raises:
        ConfigError: Policies are asked for a checkpoint.
        RunError: As :func:`~mamt_jax.training.run.load` and :func:`pretrained`.
    """
    if place.suffix != ".npz" and (place.exists() or str(place) not in names()):
        return load(place, checkpoint)
    if checkpoint is not None:
        raise ConfigError(
            f"{place} are policies, of one point in training; they have no checkpoints."
        )
    return pretrained(place)


def save_policies(run: Run, file: str | Path, note: str = "") -> Path:
    """Writes the policies of the seed that plays best, greedily, in 100 episodes.

    Args:
        run: A recorded run.
        file: An ``.npz`` file; its folder is created if missing.
        note: Of the card: what these policies cannot do, or where they come from.

    Raises:
        ConfigError: The algorithm or environment is an object or somebody's own.
        RunError: The run has no checkpoint, all its seeds diverged, or the file cannot be written.
    """
    file = user_path(file)
    for what in ("algorithm", "env"):
        named = getattr(run.config, what)
        if what in run.config.objects or is_path(named):
            raise ConfigError(f"Policies are kept of registered names; {what} is {named}.")
    metrics, policies = surviving(run.metrics), run.policies
    played = {
        seed: returns.mean()
        for seed, returns in zip(policies.seeds, run.evaluate(_EPISODES), strict=True)
        if seed in metrics.seed.values
    }
    seed = max(played, key=lambda each: played[each])
    scored = run.evaluate(_EPISODES, seed=1)[policies.seeds.index(seed)]
    row = metrics.seed.values.tolist().index(seed)
    learner = policies.learner_of(seed)
    needed = _needed(policies.algorithm, learner, policies)
    assert policies.game is not None
    arrays = {name: np.asarray(leaf)[None] for name, leaf in _leaves(learner) if name in needed}
    card = _card(run, metrics, row, scored, note)
    document = {
        "format": _FORMAT,
        "config": replace(run.config, seeds=1, seed=seed).to_dict(),
        "game": policies.game._asdict(),
        "points": policies.points,
        "card": card,
    }
    content = _packed(arrays, document)
    if len(content) > LARGEST:
        card["limits"] += " Weights are float16."
        halves = {name: _half(array) for name, array in arrays.items()}
        content = _packed(halves, document)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        raise RunError(f"Could not write {file}: {error.strerror or error}.") from error
    return file


def _card(run: Run, metrics: xr.Dataset, row: int, scored: np.ndarray, note: str) -> dict[str, Any]:
    last, error = last_by_seed(metrics), scored.std(ddof=1) / len(scored) ** 0.5
    spread = f" ± {last.std(ddof=1):.2f}" if len(last) > 1 else ""
    limits = "Greedy policies for this environment at its options in the config, and no critic."
    return {
        "task": f"{run.config.env} {run.config.env_options or ''}".strip(),
        "algorithm": run.config.algorithm,
        "seed": int(metrics.seed.values[row]),
        "episodes": int(metrics.episode_at_update.values[row, -1]),
        "updates": int(metrics["update"].values[-1]),
        "score": (
            f"{scored.mean():.2f} ± {error:.2f} (standard error of {len(scored)} greedy episodes, "
            f"others than those by which it was chosen of {len(last)} seeds)"
        ),
        "training": f"return of the last episodes {last.mean():.2f}{spread} over seeds",
        "limits": " ".join(filter(None, (limits, note))),
    }


def _needed(algorithm: Algorithm, learner: Any, policies: Policies) -> set[str]:
    """Names of the leaves that the program of greedy actions reads."""
    assert policies.game is not None
    game = policies.game
    obs = jnp.zeros((1, game.num_agents, max(game.obs_sizes)), jnp.float32)
    leaves, shape = jax.tree.flatten(learner)
    program = jax.make_jaxpr(
        lambda *given: algorithm.greedy(jax.tree.unflatten(shape, given), obs)
    )(*leaves).jaxpr
    wanted = {
        each for step in program.eqns for each in step.invars if not isinstance(each, Literal)
    }
    pairs = zip(_leaves(learner), program.invars, strict=True)
    return {name for (name, _), variable in pairs if variable in wanted}


@as_written()
def _filled(algorithm: Algorithm, arrays: dict[str, np.ndarray]) -> Any:
    """A learner ``[1, ...]`` with these leaves; the others, on which nothing depends, are zero."""
    like = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), 1))
    made, missing = [], set(arrays)
    for name, leaf in _leaves(like):
        if name in arrays:
            missing.discard(name)
            if arrays[name].shape != leaf.shape:
                raise ValueError(name)
            made.append(jnp.asarray(arrays[name], leaf.dtype))
        elif jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            made.append(jax.random.split(jax.random.key(0), leaf.shape))
        else:
            made.append(jnp.zeros(leaf.shape, leaf.dtype))
    if missing or not arrays:
        raise KeyError(", ".join(sorted(missing)))
    return jax.tree.unflatten(jax.tree.structure(like), made)


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _packed(arrays: dict[str, np.ndarray], document: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    card = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez_compressed(written, **{_CARD: card}, **arrays)  # type: ignore[arg-type]
    return written.getvalue()


def _half(array: np.ndarray) -> np.ndarray:
    """Halves, but of running statistics, whose small deviations have to be exact."""
    return array.astype(np.float16) if array.dtype == np.float32 and array.ndim > 2 else array


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _same(policies: Policies) -> Policies:
    return policies
