"""``mamt train``: trains, or says with ``--dry-run`` what training would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import tyro

from mamt_jax.algorithms import registry
from mamt_jax.cli import flags
from mamt_jax.cli.flags import MaybeFile
from mamt_jax.config import TrainConfig, make_config, unknown_setting
from mamt_jax.errors import ConfigError
from mamt_jax.files import quoted, user_path


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


@dataclass(frozen=True)
class Train(TrainFlags):
    """Train an algorithm: all seeds in one compiled program."""

    config: TrainConfig = field(default_factory=TrainConfig)

    def directory(self) -> Path:
        """Where the run goes."""
        name = f"{self.config.algorithm}-{self.config.env}".replace(":", ".")
        return self.out or Path("runs") / name

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
        if self.dry_run:
            return print_plan(config)
        out = user_path(self.directory())
        run = run_config(config, out=out, resume=self.resume, progress=True)
        metrics = surviving(run.metrics)
        _, last = first_and_last(metrics)
        print(f"Return of the last episodes: {sentence(last, metrics.sizes['seed'])}")
        print(f"Recorded in {quoted(out)}; see: mamt report {quoted(out)}")


def print_plan(config: TrainConfig) -> None:
    """Prints the length of a run and its memory; allocates nothing of it.

    Raises:
        ConfigError: As the run would, also where it does not fit.
    """
    from mamt_jax.training import memory
    from mamt_jax.training.prepare import prepare

    trainer, _, config = prepare(config)
    plan, held = trainer.plan, memory.memory_of(trainer)
    print(f"{config.algorithm} on {config.env}, seeds: {config.seeds}. Each of them:")
    print(f"  environment steps    {plan.points * plan.steps_per_point * config.num_envs:>14,}")
    print(f"  updates, at most     {plan.points * plan.updates_per_point:>14,}")
    print(f"  logging points       {plan.points:>14,}")
    print(f"  transitions kept     {plan.capacity:>14,}")
    print("Memory of all seeds:")
    free = memory.free_bytes()
    for name, size in {
        **held._asdict(),
        "in an update": memory.working_bytes(trainer),
        "free": free,
    }.items():
        print(f"  {name:<20} {'unknown' if size is None else f'{size / 1e6:,.1f} MB':>14}")
    memory.check_memory(trainer)
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
    algorithm, place = _given("--algorithm", arguments), _given("--out", arguments)
    if "--resume" in arguments and place and algorithm is None and (found := _recorded(place)):
        return _train(found, arguments)
    command = _train(make_config(algorithm=algorithm or TrainConfig.algorithm), arguments)
    if not command.resume:
        return command
    from mamt_jax.training.run_dir import RunDir

    directory = RunDir(user_path(command.directory()))
    found = directory.read_config()
    if found.algorithm != command.config.algorithm:
        raise ConfigError(
            f"{directory.path} was started with another algorithm (run: {found.algorithm!r}, "
            f"asked: {command.config.algorithm!r})."
        )
    return _train(found, arguments)


def _given(name: str, arguments: Sequence[str]) -> str | None:
    """What a flag is given, the last time; None where it is not."""
    value = None
    for index, flag in enumerate(arguments):
        here, separator, inline = flag.partition("=")
        if here == name:
            value = inline if separator else "".join(arguments[index + 1 : index + 2]) or value
    return value


def _recorded(place: str) -> TrainConfig | None:
    """The config of the run in a directory; None where there is no run."""
    from mamt_jax.training.run_dir import RunDir

    directory = RunDir(user_path(place))
    return directory.read_config() if directory.holds_run() else None


def _train(defaults: TrainConfig, arguments: Sequence[str]) -> Train:
    own = defaults.settings.flat()
    for name in flags.given_settings(arguments):
        if name in registry.all_settings() and name not in own:
            raise ConfigError(unknown_setting(name, defaults.algorithm, own))
    parsed = flags.parse(flags.with_settings(TrainFlags, defaults), "mamt train", arguments)
    mine = {each.name: getattr(parsed, each.name) for each in fields(TrainFlags)}
    return Train(**mine, config=flags.settings(parsed, defaults))
