"""The sizes of an environment apart from it: all that building an algorithm needs."""

from __future__ import annotations

from typing import Any

from mamt_jax.envs.base import EnvSpec
from mamt_jax.errors import ConfigError
from mamt_jax.types import Game


def game_of(spec: EnvSpec) -> Game:
    """What an algorithm knows of an environment."""
    return Game(spec.obs_sizes, spec.action_counts, spec.teams, spec.agents)


def game_from_json(values: Any) -> Game:
    """Inverse of ``game._asdict()`` after a round trip through JSON.

    Raises:
        ValueError, TypeError: These are no sizes of a game.
    """
    game = Game(**values)
    game = Game(
        tuple(map(int, game.obs_sizes)),
        tuple(map(int, game.action_counts)),
        None if game.teams is None else tuple(tuple(map(int, team)) for team in game.teams),
        tuple(map(str, game.agents)),
    )
    sizes = *game.obs_sizes, *game.action_counts
    if not (1 < game.num_agents == len(game.action_counts) == len(game.agents) and min(sizes) > 0):
        raise ValueError("its lists must be as long as there are agents")
    return game


def check_unchanged(name: str, then: Game, now: Game) -> None:
    """Refuses an environment in which a run's policies would act for others than they learned for.

    Args:
        name: Of the environment.
        then: As it was when the run was started.
        now: As it is.

    Raises:
        ConfigError: Its sizes or the order of its agents differ.
    """
    for what in ("obs_sizes", "action_counts", "agents"):
        before, here = getattr(then, what), getattr(now, what)
        renamed = what == "agents" and set(before) != set(here)
        if before != here and not renamed:
            raise ConfigError(
                f"{name} has changed since the run: {what.replace('_', ' ')} are {here}, and were "
                f"{before}."
            )


def check_fits(asked: str, learned: Game, here: Game) -> None:
    """Refuses an environment of other sizes than those that policies learned for.

    Args:
        asked: Name and options of the environment.
        learned: What they learned for.
        here: What they are to play in.

    Raises:
        ConfigError: Its sizes differ.
    """
    for what in ("obs_sizes", "action_counts"):
        before, now = getattr(learned, what), getattr(here, what)
        if before != now:
            raise ConfigError(
                f"{asked} does not fit these policies: its {what.replace('_', ' ')} are {now}, and "
                f"they learned for {before}."
            )
