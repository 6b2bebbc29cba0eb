"""The command line: ``mamt train``, ``evaluate``, ``report`` and ``list``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import tyro

from mamt_jax import __version__
from mamt_jax.cli import flags
from mamt_jax.cli.flags import File, MaybeFile, MaybeWhole, Whole
from mamt_jax.cli.guard import end_process, guarded, say
from mamt_jax.config import ConfigError, TrainConfig, make_config
from mamt_jax.errors import RunError, close_to
from mamt_jax.files import quoted, user_path

if TYPE_CHECKING:
    from mamt_jax.training.run import Run

# JAX, the environments and matplotlib are imported by the commands that need them, so that --help
# answers at once.


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
        return self.out or Path("runs") / f"{self.config.algorithm}-{self.config.env}"

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
    from mamt_jax.training.run import prepare

    trainer, _, config = prepare(config)
    plan, held = trainer.plan, memory.memory_of(trainer, config)
    print(f"{config.algorithm} on {config.env}, seeds: {config.seeds}. Each of them:")
    print(f"  environment steps    {plan.points * plan.steps_per_point * config.num_envs:>14,}")
    print(f"  updates, at most     {plan.points * plan.updates_per_point:>14,}")
    print(f"  logging points       {plan.points:>14,}")
    print(f"  transitions kept     {plan.capacity:>14,}")
    print("Memory of all seeds:")
    free = memory.free_bytes()
    for name, size in {
        **held._asdict(),
        "in an update": memory.working_bytes(trainer, config),
        "free": free,
    }.items():
        print(f"  {name:<20} {'unknown' if size is None else f'{size / 1e6:,.1f} MB':>14}")
    memory.check_memory(trainer, config)
    print("Whether the run fits is unknown." if free is None else "The run fits.")


@dataclass(frozen=True)
class Evaluate:
    """Play greedy episodes with the policies of a run."""

    run_directory: Annotated[File, tyro.conf.arg(name="run"), tyro.conf.Positional]
    """Run directory."""
    episodes: Whole = 10
    """Episodes per trained seed."""
    seed: Whole = 0
    """Seed of the evaluation's own randomness."""
    checkpoint: MaybeWhole = None
    """Whose policies: of the checkpoint after that many logging points; by default the newest."""
    gif: MaybeFile = None
    """Also play one more episode with the policies of one seed and write it as an animation."""
    gif_seed: MaybeWhole = None
    """Trained seed that plays it; by default the first that has not diverged."""
    gif_frames: str = ":"
    """Pictures FIRST:STOP of it, as a slice; picture 0 is the start, picture t follows step t."""

    def run(self) -> None:
        """Prints one line per seed and the summary over seeds."""
        import numpy as np

        from mamt_jax.analysis.seeds import diverged
        from mamt_jax.analysis.statistics import summarise
        from mamt_jax.reports.texts import sentence
        from mamt_jax.training.run import load

        pictures = self._check_gif()
        gif = None if self.gif is None else user_path(self.gif)  # before an environment may move us
        run = load(self.run_directory, self.checkpoint)
        seeds = run.policies.seeds
        lost = diverged(run.metrics)
        if len(lost) == len(seeds):
            raise RunError(f"All seeds of {self.run_directory} diverged; nobody is left to play.")
        shown = next(seed for seed in seeds if seed not in lost)
        if self.gif_seed is not None:
            shown = self.gif_seed
            run.policies.check_seed(shown)
        if shown in lost:
            raise RunError(f"Seed {shown} diverged at update {lost[shown]:,}; show another seed.")
        write = None if gif is None else _animation(run, shown, self.seed, gif, pictures)
        returns = run.evaluate(self.episodes, self.seed).mean(axis=1)
        for seed, value in zip(seeds, returns, strict=True):
            played = f"{value:.2f}" if value == value else "its policies are NaN or infinite"
            print(f"seed {seed}:", f"diverged at update {lost[seed]:,}" if seed in lost else played)
        counts = np.isfinite(returns) & [seed not in lost for seed in seeds]
        if counts.any():
            which = "all" if counts.all() else "other"
            print(f"{which} seeds: {sentence(summarise(returns[counts]), int(counts.sum()))}")
        if write is not None:
            print(f"One episode of seed {shown}: {write()} pictures in {gif}")

    def _check_gif(self) -> slice:
        """Refuses what can be refused before a run is read; which pictures are asked for."""
        from mamt_jax.trajectories.gif import check_gif, parse_range

        if self.gif is not None:
            check_gif(user_path(self.gif))
        elif self.gif_seed is not None or self.gif_frames != Evaluate.gif_frames:
            raise ConfigError("--gif-seed and --gif-frames go with --gif FILE.")
        return parse_range(self.gif_frames)


@dataclass(frozen=True)
class Report:
    """Print the tables of recorded runs and draw their figures."""

    runs: tyro.conf.Positional[tuple[File, ...]]
    """Run directories, their records in JSON, or folders of these."""
    figures: MaybeFile = None
    """Where the figures go; by default figures/ in the first of these, or beside a record."""

    def run(self) -> None:
        """Prints the tables and the names of the figures."""
        from mamt_jax.reports.report import print_tables, report

        tables, files = report(list(self.runs), self.figures)
        print_tables(*tables)
        for file in files:
            print(file)


@dataclass(frozen=True)
class List:
    """List algorithms and environments."""

    def run(self) -> None:
        """Prints one line each."""
        from mamt_jax import envs
        from mamt_jax.algorithms.registry import ALGORITHMS

        _print_section("Algorithms", {name: entry.summary for name, entry in ALGORITHMS.items()})
        _print_section("Environments", envs.summaries())


COMMANDS: dict[str, Any] = {"train": Train, "evaluate": Evaluate, "report": Report, "list": List}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        return guarded(_print_help) or 2
    return guarded(lambda: parse(given).run(), trains=given[0] == "train")


def parse(arguments: Sequence[str]) -> Any:
    """Command line to command.

    Defaults are the algorithm's own. A run that is resumed brings its settings: whatever is not
    given again is taken from it.

    Raises:
        SystemExit: A usage error, ``--help`` or ``--version``.
        ConfigError: A setting is out of range.
        RunError: The run to resume cannot be read.
    """
    name, *rest = arguments
    if name in ("-h", "--help"):
        _print_help()
        raise SystemExit(0)
    if name == "--version":
        print(f"mamt_jax {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        say(
            f"mamt: There is no command {name!r}{close_to(name, COMMANDS)}; there are "
            f"{', '.join(COMMANDS)}. See mamt --help."
        )
        raise SystemExit(2)
    if name == "train":
        return _parse_train(rest)
    return flags.parse(COMMANDS[name], f"mamt {name}", rest)


def _parse_train(arguments: Sequence[str]) -> Train:
    algorithm = TrainConfig.algorithm
    for index, flag in enumerate(arguments):
        name, separator, inline = flag.partition("=")
        if name == "--algorithm":
            following = arguments[index + 1 : index + 2]
            algorithm = inline if separator else "".join(following) or algorithm
    command = _train(make_config(algorithm=algorithm), arguments)
    if not command.resume:
        return command
    from mamt_jax.training.run_dir import RunDir

    return _train(RunDir(user_path(command.directory())).read_config(), arguments)


def _train(defaults: TrainConfig, arguments: Sequence[str]) -> Train:
    parsed = flags.parse(flags.with_settings(TrainFlags, defaults), "mamt train", arguments)
    own = {each.name: getattr(parsed, each.name) for each in fields(TrainFlags)}
    return Train(**own, config=flags.settings(parsed, defaults))


def _print_help() -> None:
    print("usage: mamt COMMAND [OPTIONS]\n")
    print("Cooperative multi-agent RL with mirror descent and trust regions.\n")
    texts = {name: (command.__doc__ or "").partition("\n")[0] for name, command in COMMANDS.items()}
    _print_section("Commands", texts)
    print(
        "\nmamt COMMAND --help lists the options of a command; mamt --version says which this is."
    )


def _animation(run: Run, trained: int, seed: int, path: Path, which: slice) -> Callable[[], int]:
    """Ready to play a greedy episode of a `trained` seed into `path`; returns how many pictures."""
    from mamt_jax.envs.drawing import milliseconds_per_frame
    from mamt_jax.training.run import make_env
    from mamt_jax.training.seeds import evaluation_keys
    from mamt_jax.trajectories.frames import frames
    from mamt_jax.trajectories.gif import write_gif

    env = make_env(run.config)
    (key,) = evaluation_keys([trained], seed, point=1)  # the evaluation's own have point 0
    pictures = frames(env, run.policies, trained, key, which)
    return partial(write_gif, pictures, path, milliseconds_per_frame(env.spec.episode_length))


def _print_section(title: str, lines: dict[str, str]) -> None:
    width = max(map(len, lines))
    print(f"{title}:")
    for name, summary in lines.items():
        print(f"  {name:<{width}}  {summary}")


def entry() -> NoReturn:
    """What ``mamt`` runs: a command, and then the end of the process."""
    end_process(main())


if __name__ == "__main__":
    entry()
