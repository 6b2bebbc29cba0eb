"""What defines a run, and how it is carried out: validated before anything is traced."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from mamt_jax.algorithms import registry
from mamt_jax.backend import Precision
from mamt_jax.errors import ConfigError, close_to
from mamt_jax.settings import Settings
from mamt_jax.settings.fields import (
    POSITIVE,
    Accepts,
    Count,
    CountOrNone,
    Kept,
    Positive,
    check,
    check_fields,
)
from mamt_jax.settings.tree import recorded

MAX_EVALUATION_EPISODES = 100_000
"""Most episodes per seed that one greedy evaluation plays side by side."""


_KEPT = Accepts(lambda kept: kept == "all" or kept >= 2, '2 or greater, or "all"')
_SIDE_BY_SIDE = Accepts(
    lambda count: count <= MAX_EVALUATION_EPISODES, f"at most {MAX_EVALUATION_EPISODES}"
)


@dataclass(frozen=True)
class Execution:
    """How a run is carried out: no part of what defines it, and free to change on resuming."""

    checkpoint_interval: Count = 10
    """Logging points between checkpoints; more where writing them, with their replays, would take
    more than a twentieth of the time."""
    keep_checkpoints: Annotated[Kept, _KEPT] = 5
    """Checkpoints that are kept, or "all": the newest two, from which a run can go on, and of
    earlier ones the policies, about evenly spaced over training, the first included."""
    evaluation_interval: CountOrNone = 10
    """Logging points between evaluations of the greedy policies; 0 means none while training."""
    evaluation_episodes: Annotated[int, POSITIVE, _SIDE_BY_SIDE] = 10
    """Episodes per evaluation and seed."""
    seed_batch: CountOrNone = 0
    """Seeds that a device computes side by side; 0 means 1 on CPU and all on an accelerator. Fewer
    where there is not the memory."""
    env_workers: CountOrNone = 0
    """Processes that step an environment on the host; 0 means one per core. Environments in JAX
    need none."""
    env_timeout: Positive = 120.0
    """Seconds that one environment on the host may take for one thing (to open, reset or step)
    before it counts as hanging."""
    tensorboard: bool = False
    """Also write what is recorded for TensorBoard, into RUN/tensorboard."""
    wandb: bool = False
    """Also report what is recorded to Weights & Biases, with its files in RUN/wandb."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a run. Written to ``config.json`` of the run directory."""

    algorithm: str = "mamt"
    """Registered algorithm, see ``mamt list``; or MODULE:NAME of one of yours."""
    env: str = "spread"
    """Registered environment, see ``mamt list``; or MODULE:NAME of one of yours."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Keyword options of the environment."""
    seeds: Count = 8
    """Number of independent seeds trained together."""
    seed: CountOrNone = 0
    """First seed: the run trains seeds seed, seed + 1, …, seed + seeds − 1."""
    episodes: Count = 10_000
    """Training episodes of full length per seed, rounded up to whole logging points."""
    num_envs: Count = 12
    """Parallel environments per seed."""
    log_interval: CountOrNone = 0
    """Episodes per logging point, rounded up to whole collection periods; 0 means as many as make
    about 1500 transitions (60 episodes of Spread)."""
    precision: Precision = "float32"
    """Of the networks' matrix products on an accelerator: float32 in full; "float32x3" emulates it
    in three passes of tensor cores, "tensorfloat32" and "bfloat16" make one. On CPU all are
    float32."""
    objects: tuple[str, ...] = ()
    """Which of ``algorithm`` and ``env`` were given as objects: their names lead to nothing."""
    settings: Settings = None  # type: ignore[assignment]
    """Settings of the algorithm; its own defaults where none are given."""
    execution: Execution = field(default_factory=Execution)
    """How the run is carried out."""

    def __post_init__(self) -> None:
        if self.settings is None:
            object.__setattr__(self, "settings", registry.get(self.algorithm).settings)
        check_fields(self)
        options = self.env_options
        named = isinstance(options, dict) and all(isinstance(name, str) for name in options)
        check(named, "env_options", options, "a dict from names to values")
        end = self.seed + self.seeds
        check(end < 2**31, "seed + seeds", end, "at most 2**31 - 1")

    @property
    def seed_ids(self) -> tuple[int, ...]:
        """The seeds that are trained."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def settled(self) -> TrainConfig:
        """The same with nothing left open, for a run to record."""
        return dataclasses.replace(self, settings=self.settings.settled())

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, ready for JSON."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {
            "objects": list(self.objects),
            "settings": self.settings.to_dict(),
            "execution": dataclasses.asdict(self.execution),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Inverse of :meth:`to_dict`.

        Settings of an algorithm that is not to be had here (somebody's own) are kept as they were
        recorded.

        Raises:
            ConfigError: A name is unknown, or a value out of range.
        """
        run = dict(values)
        groups, execution = run.pop("settings"), run.pop("execution")
        flat = {name: value for group in groups.values() for name, value in group.items()}
        objects = tuple(run.pop("objects", ()))
        try:
            if "algorithm" in objects:
                raise ConfigError("The algorithm was an object.")
            settings = registry.get(run["algorithm"]).settings
        except ConfigError:
            own = Settings(tuple(recorded(group, found) for group, found in groups.items()))
            made = make_config(settings=own, **run, **execution)
        else:
            made = make_config(settings=settings, **run, **execution, **flat)
        return dataclasses.replace(made, objects=objects)


def make_config(settings: Settings | None = None, **options: Any) -> TrainConfig:
    """Builds a config from flat keywords.

    Args:
        settings: Defaults of the algorithm's settings; its registered ones where none are given.
        **options: Any field of :class:`TrainConfig` or :class:`Execution`, or any setting of the
            algorithm.

    Raises:
        ConfigError: A name is unknown, or a value out of range.
    """
    algorithm = options.get("algorithm", TrainConfig.algorithm)
    if settings is None:
        check(isinstance(algorithm, str), "algorithm", algorithm, "a name")
        settings = registry.get(algorithm).settings
    own = settings.flat()
    if taken := _TAKEN & own.keys():
        raise ConfigError(f"{min(taken)!r} is what a run is told; call the setting otherwise.")
    parts: dict[str, dict[str, Any]] = {"run": {}, "execution": {}, "settings": {}}
    for name, value in options.items():
        if name in _RUN:
            parts["run"][name] = value
        elif name in _EXECUTION:
            parts["execution"][name] = value
        elif name in own:
            parts["settings"][name] = value
        else:
            raise ConfigError(unknown_setting(name, str(algorithm), own))
    return TrainConfig(
        settings=settings.replace(parts["settings"]),
        execution=Execution(**parts["execution"]),
        **parts["run"],
    )


_RUN = {each.name for each in fields(TrainConfig)} - {"settings", "execution"}
_EXECUTION = {each.name for each in fields(Execution)}
_TAKEN = (
    _RUN
    | _EXECUTION
    | {"out", "resume", "progress", "callback", "settings", "env_option", "dry_run"}
    | {"distributed", "coordinator", "process"}
    | {"grid", "halving", "storage", "study", "together"}
)


def unknown_setting(name: str, algorithm: str, own: Mapping[str, Any]) -> str:
    """What to say of a setting that an algorithm does not have."""
    accepted = sorted((_RUN | _EXECUTION) - {"objects"})
    if name in registry.all_settings():
        return f"{algorithm} has no {name}; its settings are {', '.join(own)}."
    close = close_to(name, [*own, *accepted])
    return (
        f"Unknown option {name!r}{close}; accepted are {', '.join(accepted)} and the settings of "
        f"{algorithm}: {', '.join(own)}."
    )
