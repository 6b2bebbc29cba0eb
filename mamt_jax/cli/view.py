"""``mamt view``: a page that plays episodes of runs, or recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from mamt_jax.cli.flags import File, KeptNumber, MaybeFile, Whole
from mamt_jax.errors import OutputError, RunError
from mamt_jax.files import quoted, user_path

if TYPE_CHECKING:
    from mamt_jax.training.run import Run
    from mamt_jax.trajectories.viewer import Source

_RECORDINGS = (".nc", ".zarr")


@dataclass(frozen=True)
class View:
    """Write a page that plays episodes: one HTML file, which needs nothing else."""

    played: Annotated[tuple[File, ...], tyro.conf.arg(name="run"), tyro.conf.Positional]
    """Run directories, or recordings (.nc, .zarr). Of several, the first and the last are shown
    side by side at first, and all can be chosen on the page."""
    out: MaybeFile = None
    """The page; by default NAME.html in the current folder, NAME being that of the run."""
    episodes: Whole = 10
    """Greedy episodes of each run, seed and checkpoint."""
    seeds: tuple[KeptNumber, ...] = ()
    """Trained seeds to choose from, or all; by default the first that has not diverged."""
    checkpoints: tuple[KeptNumber, ...] = ()
    """Checkpoints to choose from, by the logging points before them, or all; by default the newest.
    Of several, the first and the last are shown side by side at first."""
    key: Whole = 0
    """Seed of the episodes' own randomness: equal keys and seeds give equal starts."""
    live: bool = False
    """A page in which the agents of one run, seed and checkpoint act before your eyes, and answer
    when you drag landmarks or one of them: Spread, Rover-Tower and Pursuit."""

    def run(self) -> None:
        """Writes the page, and says what is on it."""
        from mamt_jax.trajectories.viewer import check_page, page, write_page

        if not self.played:
            raise RunError("Give at least one run directory or recording.")
        places = [user_path(one) for one in self.played]
        recorded = all(place.suffix in _RECORDINGS for place in places)
        if recorded and (self.seeds or self.checkpoints):
            raise RunError("A recording is of one seed and checkpoint; choose them of a run.")
        out = user_path(self.out) if self.out else _default_page(places)
        check_page(out)
        if self.live:
            write_page(self._live(places), out)
            return _say_written(out)
        sources = _told_apart([self._source(place) for place in places], self.played)
        title = " and ".join(dict.fromkeys(source.label for source in sources))
        write_page(page(sources, title), out)
        _say_written(out)

    def _live(self, places: list[Path]) -> str:
        from mamt_jax.training.prepare import make_env
        from mamt_jax.training.run import load
        from mamt_jax.trajectories.viewer.live import Trained, check_live, live_page

        asked = self.seeds, self.checkpoints
        if (
            len(places) > 1
            or places[0].suffix in _RECORDINGS
            or any(len(one) > 1 or "all" in one for one in asked)
        ):
            raise RunError("A live page (--live) is of one run directory, seed and checkpoint.")
        (place,) = places
        (point,) = _checkpoints(place, self.checkpoints)
        run = load(place, point)
        config = run.config
        check_live(config.algorithm, config.env)
        (seed,) = _seeds(run, self.seeds, place)
        env, policies = make_env(config), run.policies
        assert policies.game is not None
        label = _label({"algorithm": config.algorithm, "env": config.env})
        about = f"seed {seed}, " + ("newest checkpoint" if point is None else f"checkpoint {point}")
        learner = policies.learner_of(seed)
        print(f"{place}: {label}, {about}.")
        trained = Trained(env, config.algorithm, config.settings, policies.game, learner, about)
        return live_page(trained, label)

    def _source(self, place: Path) -> Source:
        from mamt_jax.trajectories.recording import read_recording
        from mamt_jax.trajectories.viewer import Source

        if place.suffix in _RECORDINGS:
            recording = read_recording(place)
            print(f"{place}: {recording.sizes['episode']} episodes, as recorded.")
            return Source(_label(recording.attrs), [recording])
        from mamt_jax.training.run import load

        run = load(place)
        seeds, points = _seeds(run, self.seeds, place), _checkpoints(place, self.checkpoints)
        recordings = [
            run.episodes(self.episodes, seed=seed, key=self.key, checkpoint=point)
            for seed in seeds
            for point in points
        ]
        shown = ", ".join(str(one.attrs["checkpoint"]) for one in recordings[: len(points)])
        print(
            f"{place}: {self.episodes} greedy episodes with key {self.key}; "
            f"seeds {', '.join(map(str, seeds))}; checkpoints {shown}."
        )
        return Source(_label(recordings[0].attrs), recordings)


def _say_written(out: Path) -> None:
    print(f"{quoted(out)}: {out.stat().st_size / 1e6:.2f} MB; open it in a browser.")


def _label(about: dict[str, object]) -> str:
    return f"{about['algorithm']} on {about['env']}"


def _told_apart(sources: list[Source], given: Sequence[Path]) -> list[Source]:
    """Those of one algorithm and environment by where they are, too."""
    labels = [source.label for source in sources]
    return [
        source._replace(label=f"{source.label}, {place}")
        if labels.count(source.label) > 1
        else source
        for source, place in zip(sources, given, strict=True)
    ]


def _default_page(places: list[Path]) -> Path:
    """NAME.html in the current folder, unless that is in one of the runs."""
    here = user_path(".")
    inside = next((place for place in places if here == place or place in here.parents), None)
    if inside is not None:
        raise OutputError(f"The current folder is in {inside}; say where the page goes (--out).")
    names = dict.fromkeys(
        place.stem if place.suffix in _RECORDINGS else place.name for place in places
    )
    return here / f"{'-and-'.join(names)[:100]}.html"


def _seeds(run: Run, asked: tuple[int | str, ...], place: Path) -> list[int]:
    """Trained seeds that play."""
    from mamt_jax.analysis.seeds import diverged

    seeds, lost = run.policies.seeds, diverged(run.metrics)
    left = [seed for seed in seeds if seed not in lost]
    if not left:
        raise RunError(f"All seeds of {place} diverged; nobody is left to play.")
    chosen = left[:1] if not asked else _numbers(asked, left)
    for seed in chosen:
        run.policies.check_seed(seed)
        if seed in lost:
            raise RunError(f"Seed {seed} diverged at update {lost[seed]:,}; show another seed.")
    return chosen


def _checkpoints(place: Path, asked: tuple[int | str, ...]) -> list[int | None]:
    """Checkpoints whose policies play, the earliest first; None for the newest."""
    from mamt_jax.training.shards import Recorded

    if not asked:
        return [None]
    directory = Recorded(place)
    chosen = sorted(_numbers(asked, directory.saved()))
    for point in chosen:
        directory.checkpoint_at(point)
    return [*chosen]


def _numbers(asked: tuple[int | str, ...], there: Iterable[int]) -> list[int]:
    """What is asked for, each once; "all" is all that are there."""
    whole = [*there] if "all" in asked else []
    return [*dict.fromkeys([*whole, *(one for one in asked if isinstance(one, int))])]
