"""``mamt reproduce``: trains what a table or figure is made of, and writes it.

OUT/runs/...            what is being trained, and its networks
OUT/records/...         a record of each finished run
OUT/NAME/...            the figure as PNG, SVG and CSV; its tables as Markdown and CSV
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamt_jax.errors import ConfigError, RunError, close_to
from mamt_jax.experiments.budgets import BUDGETS, QUICK, planned, with_seeds
from mamt_jax.experiments.claims import verdicts
from mamt_jax.experiments.runs import Opened, Places, find, train
from mamt_jax.experiments.sheet import Shown, to_csv, to_markdown, to_rich
from mamt_jax.experiments.studies import Run
from mamt_jax.experiments.targets import TARGETS, Target
from mamt_jax.experiments.tuning import tuning
from mamt_jax.files import user_path, write_whole
from mamt_jax.reports.plots import default_style
from mamt_jax.reports.plotted import save
from mamt_jax.reports.report import print_tables
from mamt_jax.training.run_dir import disk_errors

TUNING = "tuning"
NAMES = (*TARGETS, "verdicts", "all", TUNING)
"""What can be reproduced."""


_TUNED = ("spread",)


def targets() -> dict[str, str]:
    """What each name is."""
    texts = {name: target.title for name, target in TARGETS.items()}
    return texts | {
        "verdicts": "Whether the paper's claims hold",
        "all": "All of these",
        TUNING: "Tables 8 and 9: successive halving of 24 and 216 settings; not part of all",
    }


@dataclass(frozen=True)
class Request:
    """What is to be reproduced, and how."""

    names: tuple[str, ...]
    """Of :data:`TARGETS`, or ``verdicts``."""
    budget: str
    """Of :data:`~mamt_jax.experiments.budgets.BUDGETS`."""
    envs: tuple[str, ...] = ()
    """Only these; all that a name and a budget have, by default."""
    seeds: int | None = None
    """In place of the budget's."""
    recorded: bool = False
    """Train nothing."""
    note: str = ""
    """Of the records that are made."""

    def runs(self, name: str) -> dict[tuple[str, str], Run]:
        """The runs of a table or figure, by environment and variant."""
        usual = QUICK.get(self.budget, tuple(BUDGETS[self.budget]))
        cells = TARGETS[name].cells(self.envs or usual) if name in TARGETS else []
        made = {(env, each): planned(each, env, self.budget) for each, env in cells}
        return {cell: with_seeds(run, self.seeds) for cell, run in made.items()}


def checked(
    names: Sequence[str],
    budget: str = "cpu",
    envs: Sequence[str] = (),
    seeds: int | None = None,
    recorded: bool = False,
    note: str = "",
) -> Request:
    """A request that can be met.

    Raises:
        ConfigError: A name, the budget or an environment is unknown, or none of the names has runs
            in these environments.
    """
    if not names:
        raise ConfigError(f"Name what is to be reproduced: {', '.join(NAMES)}.")
    for what, given, accepted in (
        ("name", names, NAMES),
        ("budget", [budget], tuple(BUDGETS)),
        ("environment", envs, tuple(BUDGETS["paper"])),
    ):
        for each in given:
            if each not in accepted:
                raise ConfigError(
                    f"There is no {what} {each!r}{close_to(each, accepted)}; there are "
                    f"{', '.join(accepted)}."
                )
    if seeds is not None and seeds < 1:
        raise ConfigError(f"seeds must be 1 or greater, got {seeds}.")
    every = (*TARGETS, "verdicts")
    wanted = tuple(dict.fromkeys(every if "all" in names else names))
    request = Request(wanted, budget, tuple(envs), seeds, recorded, note)
    having = [name for name in wanted if name not in TARGETS or request.runs(name)]
    if not having:
        where = envs or QUICK.get(budget, ())
        raise ConfigError(f"{', '.join(wanted)} has no run in {', '.join(where)}.")
    return Request(tuple(having), budget, tuple(envs), seeds, recorded, note)


def plan(request: Request, places: Places) -> list[tuple[Run, Path | None]]:
    """Every run that is needed, once, and its record where there is one."""
    needed: dict[str, Run] = {}
    for name in _targets(request):
        needed |= {run.record: run for run in request.runs(name).values()}
    return [(run, places.record(run)) for run in needed.values()]


def reproduce(request: Request, places: Places) -> list[Path]:
    """Trains what is missing, prints the tables, and writes everything.

    Returns:
        The files written.

    Raises:
        RunError: A record or run is of something else, or nothing is recorded and nothing is to be
            trained; or the disk refuses.
        InterruptedRun: Ctrl-C or SIGTERM; the same again goes on.
    """
    opened: dict[str, Opened] = {}
    steps = plan(request, places)
    for number, (run, _) in enumerate(steps, 1):
        found = find(run, places)
        if found is None and not request.recorded:
            print(
                f"{number} of {len(steps)}: {run.algorithm} on {run.env}, {run.seeds} seeds, "
                f"{run.episodes:,} episodes ({run.record})",
                flush=True,
            )
            found = train(run, places, request.note)
        if found is not None:
            opened[run.record] = found
    if not opened and any(name != TUNING for name in request.names):
        raise RunError(
            f"Nothing of {', '.join(request.names)} is recorded at the budget {request.budget}; "
            f"leave --recorded out to train it."
        )
    written = []
    for name in request.names:
        shown = _shown(name, request, opened, places)
        if shown is not None:
            print_tables(*map(to_rich, shown.sheets))
            with disk_errors(places.out, "write", "the runs are untouched"):
                written += _write(name, shown, places.out / name)
    return written


def _targets(request: Request) -> tuple[str, ...]:
    """Tables and figures whose runs are needed; the verdicts are on those of all of them."""
    return tuple(TARGETS) if "verdicts" in request.names else request.names


def _found(
    target: Target, runs: dict[tuple[str, str], Run], opened: dict[str, Opened]
) -> dict[str, dict[str, Opened]]:
    """Recorded runs by environment and variant, in the order of a target."""
    made: dict[str, dict[str, Opened]] = {}
    for env in target.envs:
        here = {
            variant: opened[run.record]
            for (where, variant), run in runs.items()
            if where == env and run.record in opened
        }
        if here:
            made[env] = here
    return made


def _together(request: Request, opened: dict[str, Opened]) -> dict[str, dict[str, Opened]]:
    """Recorded runs of all tables and figures, by environment and variant."""
    every: dict[str, dict[str, Opened]] = {}
    for name, target in TARGETS.items():
        for env, runs in _found(target, request.runs(name), opened).items():
            every.setdefault(env, {}).update(runs)
    return every


def everything(budget: str, where: Places) -> dict[str, dict[str, Opened]]:
    """All that is recorded of a budget, by environment and variant.

    Raises:
        RunError: A record is of another run than is planned.
    """
    request = checked(["all"], budget)
    found = {run.record: find(run, where) for run, _ in plan(request, where)}
    return _together(request, {name: each for name, each in found.items() if each is not None})


def _shown(name: str, request: Request, opened: dict[str, Opened], places: Places) -> Shown | None:
    """What a name comes to; None where nothing of it is recorded."""
    if name == TUNING:
        if request.recorded:
            return None
        out = places.out / "runs" / request.budget / TUNING
        each = [tuning(env, request.budget, out, request.seeds) for env in request.envs or _TUNED]
        return Shown([sheet for sheets in each for sheet in sheets], {})
    if name == "verdicts":
        return Shown([verdicts(_together(request, opened), request.budget)], {})
    found = _found(TARGETS[name], request.runs(name), opened)
    if not found:
        return None
    with default_style():
        return TARGETS[name].show(found)


def _write(name: str, shown: Shown, folder: Path) -> list[Path]:
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    with default_style():
        for stem, figure in shown.figures.items():
            written += save(figure, folder / stem)
    markdown = folder / f"{name}.md"
    write_whole(markdown, "\n".join(map(to_markdown, shown.sheets)).encode())
    written.append(markdown)
    for index, sheet in enumerate(shown.sheets):
        file = folder / f"{name}_table{'' if len(shown.sheets) == 1 else f'_{index + 1}'}.csv"
        write_whole(file, to_csv(sheet).encode())
        written.append(file)
    return written


def places(out: str | Path, kept: Sequence[str | Path] = ()) -> Places:
    """Where runs and records are, by paths as people give them."""
    return Places(user_path(out), tuple(user_path(each) for each in kept))
