"""``mamt train``: trains, or says with ``--dry-run`` what training would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from mamt_jax.backend import chosen
from mamt_jax.cli import flags
from mamt_jax.cli.flags import MaybeFile, Text
from mamt_jax.config import TrainConfig, make_config
from mamt_jax.errors import ConfigError
from mamt_jax.files import quoted, user_path

if TYPE_CHECKING:
    from mamt_jax.training.link import Position


@dataclass(frozen=True)
class TrainFlags:
    """Train an algorithm: all seeds in one compiled program."""

    out: MaybeFile = None
    """Run directory; runs/ALGORITHM-ENV where none is given."""
    resume: bool = False
    """Go on with the run in --out; options left out are taken from it."""
    env_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Option of the environment, as KEY=VALUE; quotes make a text of a value: KEY='"3"'."""
    dry_run: bool = False
    """Only say how long the run is and what memory it takes."""
    distributed: bool = False
    """This is one of several processes that train the run, each some of its seeds; under Slurm,
    Open MPI or Kubernetes, or as the next two say."""
    coordinator: Text = ""
    """HOST:PORT at which process 0 listens, with --distributed."""
    process: Text = ""
    """I/K: this is process I of K, counted from 0, with --distributed."""


@dataclass(frozen=True)
class Train(TrainFlags):
    """Train an algorithm: all seeds in one compiled program."""

    config: TrainConfig = field(default_factory=TrainConfig)

    def directory(self) -> Path:
        """Where the run goes."""
        return self.out or usual_directory(self.config.algorithm, self.config.env)

    def run(self) -> None:
        """Trains and says where the results are."""
        from mamt_jax.analysis.returns import first_and_last
        from mamt_jax.analysis.seeds import surviving
        from mamt_jax.env_options import read_options
        from mamt_jax.reports.texts import sentence
        from mamt_jax.training.run import run_config

        config = self.config
        if self.env_option:
            config = replace(config, env_options=read_options(config.env, self.env_option))
        where = self._position()
        if self.dry_run:
            return print_plan(config, where)
        out = user_path(self.directory())
        if where is None:
            run = run_config(config, out=out, resume=self.resume, progress=True)
        else:
            from mamt_jax.training.distributed import train_distributed

            found = train_distributed(config, out, where, self.resume, progress=True)
            if found is None:
                return None  # process 0 says how it was
            run = found
        metrics = surviving(run.metrics)
        _, last = first_and_last(metrics)
        print(f"Return of the last episodes: {sentence(last, metrics.sizes['seed'])}")
        print(f"Recorded in {quoted(out)}; see: mamt report {quoted(out)}")

    def _position(self) -> Position | None:
        """Which process this is, if it is one of several."""
        if self.distributed:
            from mamt_jax.training.distributed import position

            return position(self.coordinator, self.process)
        if self.coordinator or self.process:
            raise ConfigError("--coordinator and --process go with --distributed.")
        return None


def print_plan(config: TrainConfig, where: Position | None = None) -> None:
    """Prints the length of a run and its memory; allocates nothing of it.

    Args:
        config: Of the run.
        where: Which process this is, where it trains some of the seeds.

    Raises:
        ConfigError: As the run would, also where it does not fit.
    """
    from mamt_jax.training import memory
    from mamt_jax.training.prepare import prepare
    from mamt_jax.training.trackers import check_trackers

    check_trackers(config)
    if where is not None:
        from mamt_jax.training.distributed import seeds_of

        config = seeds_of(config, where)
    trainer, _, config = prepare(config)
    plan, held = trainer.plan, memory.memory_of(trainer)
    print(f"{config.algorithm} on {config.env}, seeds: {config.seeds}. Each of them:")
    print(f"  environment steps    {plan.points * plan.steps_per_point * config.num_envs:>14,}")
    print(f"  updates, at most     {plan.points * plan.updates_per_point:>14,}")
    print(f"  logging points       {plan.points:>14,}")
    print(f"  transitions kept     {plan.capacity:>14,}")
    print("How it is computed:")
    for name, value in chosen().lines(config.precision, config.execution.seed_batch).items():
        print(f"  {name:<20} {value:>14}")
    print(f"  {'devices':<20} {trainer.mesh.size if trainer.mesh else 1:>14}")
    print("Memory of all seeds:")
    free = memory.free_bytes()
    for name, size in {
        **held._asdict(),
        "in an update": memory.working_bytes(trainer),
        "free": free,
    }.items():
        print(f"  {name:<20} {'unknown' if size is None else f'{size / 1e6:,.1f} MB':>14}")
    try:
        batch = memory.fitted(trainer).seed_batch
    except memory.DoesNotFit:
        if config.seeds == 1:
            raise
        return print("All seeds together do not fit: groups of them, one after another.")
    if batch < trainer.seed_batch:
        print(f"To fit, {batch} are computed side by side.")
    print("Whether the run fits is unknown." if free is None else "The run fits.")


def parse(arguments: Sequence[str]) -> Train:
    """What follows ``mamt train`` to a command.

    Defaults are the algorithm's own. A run that is resumed brings its settings: whatever is not
    given again is taken from it.

    Raises:
        SystemExit: A usage error or ``--help``.
        ConfigError: A setting is out of range.
        RunError: The run to resume cannot be read.
    """
    algorithm = flags.given(arguments, "algorithm") or TrainConfig.algorithm
    asked = [flag for flag in arguments if flag in ("--resume", "--no-resume")]
    if asked[-1:] != ["--resume"] or {"-h", "--help"} & set(arguments):
        return _train(make_config(algorithm=algorithm), arguments)
    from mamt_jax.training.run_dir import RunDir

    usual = usual_directory(algorithm, flags.given(arguments, "env") or TrainConfig.env)
    directory = user_path(flags.given(arguments, "out") or usual)
    found = RunDir(directory).read_config()
    if (asked_for := flags.given(arguments, "algorithm") or found.algorithm) != found.algorithm:
        raise ConfigError(
            f"{directory} was started with another algorithm (run: {found.algorithm!r}, asked: "
            f"{asked_for!r})."
        )
    return _train(found, arguments)


def usual_directory(algorithm: str, env: str) -> Path:
    """Where a run goes that was given no other place."""
    return Path("runs") / f"{algorithm}-{env}".replace(":", ".")


def _train(defaults: TrainConfig, arguments: Sequence[str]) -> Train:
    mine, config = flags.parse_with_settings(TrainFlags, "mamt train", defaults, arguments)
    return Train(**mine, config=config)
