"""Every algorithm by name: what it is, the settings it has, and where it is built.

Nothing here needs JAX, so that ``mamt list`` and ``mamt train --help`` answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mamt_jax.backend import Precision, with_precision
from mamt_jax.errors import ConfigError, close_to
from mamt_jax.lookup import imported, is_path
from mamt_jax.quantities import Quantity
from mamt_jax.settings import (
    PPO,
    AttentionNetworks,
    Coordination,
    Deterministic,
    FixedRegion,
    LearnedRegion,
    Learning,
    MirrorDescent,
    Modelling,
    Networks,
    OpponentShaping,
    Part,
    RegionWidth,
    Replay,
    ReplayModelling,
    Settings,
    SoftActorCritic,
    TargetNetworks,
)
from mamt_jax.settings.tree import check_part, compose

if TYPE_CHECKING:
    from mamt_jax.types import Algorithm, Game

Builder = Callable[["Game", Settings], "Algorithm"]
"""(sizes of an environment, settings) -> algorithm.

Called inside of the programs that run it, with arrays in the place of numbers: it may ask Python
questions of structure (sizes, kinds, counts of steps) alone. ConfigError where the game does not
fit.
"""


@dataclass(frozen=True)
class Recipe:
    """An algorithm: how it is built, and which settings it has."""

    build: str | Builder
    """The builder, or where it is, as MODULE:NAME."""
    settings: Settings
    """Its parts, whose values are the defaults."""
    summary: str = ""
    """One line for ``mamt list``."""
    quantities: Mapping[str, Quantity] = field(default_factory=dict, hash=False)
    """What it reports that :data:`mamt_jax.quantities.QUANTITIES` does not have."""
    precision: Precision = "float32"
    """Of its matrix products, wherever it is asked: in training, evaluation, or as policies."""

    def __post_init__(self) -> None:
        if not (callable(self.build) or (isinstance(self.build, str) and is_path(self.build))):
            raise ConfigError(
                f"A recipe's build is a function (game, settings) -> Algorithm, or MODULE:NAME of "
                f"one, got {self.build!r}."
            )
        if not isinstance(self.settings, Settings):
            raise ConfigError(
                f"A recipe's settings are Settings((part, ...)), got {self.settings!r}."
            )
        for part in self.settings.parts:
            check_part(part)

    def __call__(self, game: Game, settings: Settings | None = None) -> Algorithm:
        """Builds the algorithm, with its own default settings unless others are given.

        Args:
            game: Sizes of the environment.
            settings: Their numbers may be arrays, traced or not.

        Raises:
            ConfigError: It does not fit the game, or no algorithm is made.
        """
        from mamt_jax.types import Algorithm  # needs JAX

        build = imported(self.build) if isinstance(self.build, str) else self.build
        made = build(game, (settings or self.settings).settled())
        if not isinstance(made, Algorithm):
            raise ConfigError(f"{build} must return an Algorithm, and returned {made!r}.")
        return made if self.precision == "float32" else self._with_precision(made)

    def _with_precision(self, made: Algorithm) -> Algorithm:
        wrapped = partial(partial, with_precision, self.precision)
        return made._replace(
            act=wrapped(made.act),
            greedy=wrapped(made.greedy),
            update=wrapped(made.update),
            inspect=made.inspect and wrapped(made.inspect),
        )


def _soft(*more: Part) -> Settings:
    """Settings of the attention actor-critic with a replay."""
    common = AttentionNetworks(), Learning(), Replay(), TargetNetworks(), SoftActorCritic()
    return compose(*common, *more)


def _proximal(*more: Part) -> Settings:
    """Settings of PPO with attention; defaults of Table 6."""
    learning = Learning(policy_clip=10.0, logit_regularisation=0.0, critic_weight_decay=0.0)
    return compose(AttentionNetworks(), learning, PPO(), *more)


_HERE = "mamt_jax.algorithms.compositions"
_LEARNED = MirrorDescent(), LearnedRegion()
_PROXIMAL_REGION = LearnedRegion(delta_rule="penalty", delta_total_per_agent=1.0)
_MAMT = _soft(*_LEARNED, Coordination(), ReplayModelling())
ALGORITHMS: dict[str, Recipe] = {
    "mamt": Recipe(
        f"{_HERE}:mamt", _MAMT, "Mirror descent with learned trust regions (Li et al. 2022)"
    ),
    "mamd": Recipe(
        f"{_HERE}:mamd",
        _soft(MirrorDescent(), FixedRegion()),
        "Mirror descent with fixed, equal trust regions (Li et al. 2022, Eq. 4)",
    ),
    "mamd_kl": Recipe(
        f"{_HERE}:mamd_kl",
        _soft(MirrorDescent(), RegionWidth()),
        "MAMD with equal regions that hold a budget of local KL; ours",
    ),
    "mamd_op": Recipe(
        f"{_HERE}:mamd_op",
        _soft(MirrorDescent(), FixedRegion()),
        "MAMD with regions from prior knowledge, for spread*",
    ),
    "maac": Recipe(f"{_HERE}:maac", _soft(), "Multi-actor attention critic (Iqbal & Sha 2019)"),
    "maddpg": Recipe(
        f"{_HERE}:maddpg",
        compose(Networks(), Learning(), Replay(), Deterministic()),
        "Multi-agent deterministic policy gradient (Lowe et al. 2017)",
    ),
    "mappo": Recipe(f"{_HERE}:mappo", _proximal(), "Multi-agent PPO, on-policy (Yu et al. 2021)"),
    "lola_dqn": Recipe(
        f"{_HERE}:lola_dqn",
        compose(Networks(), Learning(), Replay(), TargetNetworks(), OpponentShaping()),
        "Opponent-learning awareness on joint Q, for 2 agents (Foerster et al. 2018)",
    ),
    "mamt_random": Recipe(
        f"{_HERE}:mamt_random",
        _soft(*_LEARNED, ReplayModelling()),
        "MAMT, coordination coefficients at random",
    ),
    "mamt_fixed": Recipe(
        f"{_HERE}:mamt_fixed",
        _soft(*_LEARNED, ReplayModelling()),
        "MAMT, equal coordination coefficients",
    ),
    "mamt_ws": Recipe(
        f"{_HERE}:mamt_ws",
        _soft(*_LEARNED, Coordination()),
        "MAMT, non-stationarity from consecutive local policies",
    ),
    "mamt_ppo": Recipe(
        f"{_HERE}:mamt_ppo",
        _proximal(_PROXIMAL_REGION, Coordination(), Modelling()),
        "MAMT, PPO in place of mirror descent, on-policy",
    ),
}


def get(name: str) -> Recipe:
    """A registered algorithm, or with MODULE:NAME one that is imported from there.

    Raises:
        ConfigError: There is none.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if is_path(name):
        return recipe_of(imported(name))
    raise ConfigError(
        f"Unknown algorithm {name!r}{close_to(name, ALGORITHMS)}; accepted are "
        f"{', '.join(ALGORITHMS)}, or MODULE:NAME of one of yours."
    )


def recipe_of(algorithm: Any) -> Recipe:
    """A recipe, or a builder's, which has the settings of ``mamt`` where it brings none.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(algorithm, Recipe):
        return algorithm
    if not callable(algorithm):
        raise ConfigError(
            f"An algorithm is a name, a Recipe, or a function (game, settings) -> Algorithm, got "
            f"{algorithm!r}."
        )
    return Recipe(algorithm, _MAMT, (algorithm.__doc__ or "").partition("\n")[0])


def register(name: str, algorithm: Recipe | Builder) -> None:
    """Gives an algorithm a name.

    Args:
        name: For ``mamt_jax.train`` in this process.
        algorithm: A recipe, or a builder with the settings of ``mamt``.

    Raises:
        ConfigError: The name is taken by another, or is none.
    """
    recipe = recipe_of(algorithm)
    if not (isinstance(name, str) and name.isidentifier()):
        raise ConfigError(f"An algorithm's name must be letters, digits and _, got {name!r}.")
    if ALGORITHMS.get(name, recipe) != recipe:
        raise ConfigError(f"There is an algorithm {name!r} already; choose another name.")
    ALGORITHMS[name] = recipe


def make(name: str, game: Game, settings: Settings | None = None) -> Algorithm:
    """Builds an algorithm by name, with its own default settings unless others are given.

    Raises:
        ConfigError: There is no algorithm of that name, or it does not fit the game.
    """
    return get(name)(game, settings)


def all_settings() -> set[str]:
    """Names of the settings of all registered algorithms."""
    return {name for recipe in ALGORITHMS.values() for name in recipe.settings.flat()}
