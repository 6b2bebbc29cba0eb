"""Follows the README: environments and algorithms of somebody else, without editing our files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.cli import main as cli
from mamt_jax.errors import ConfigError
from mamt_jax.quantities import Quantity
from mamt_jax.settings import Part, Replay, Settings
from mamt_jax.settings.tree import compose
from mamt_jax.types import Algorithm, Batch, Game

TINY: dict[str, Any] = {
    "seeds": 2,
    "episodes": 40,
    "batch_size": 8,
    "num_envs": 2,
    "steps_per_update": 10,
    "log_interval": 10,
}
SMALL = {"hidden_size": 8, "attention_heads": 2} | TINY
FLAGS = [
    part for name, value in TINY.items() for part in (f"--{name.replace('_', '-')}", str(value))
]


@dataclass(frozen=True)
class Greed(Part):
    """Of an algorithm of somebody else."""

    group: ClassVar[str] = "greed"

    greed: float = 1.0
    """How fast it climbs."""


def bandit(game: Game, settings: Settings) -> Algorithm:
    """Policies that ignore what they see and climb the expected immediate reward."""
    shape = (game.num_agents, game.num_actions)

    def act(state: jax.Array, key: jax.Array, obs: jax.Array) -> jax.Array:
        logits = jnp.broadcast_to(state, (obs.shape[0], *shape))
        return jax.random.categorical(key, logits).astype(jnp.int32)

    def greedy(state: jax.Array, obs: jax.Array) -> jax.Array:
        return jnp.broadcast_to(state.argmax(-1), obs.shape[:2]).astype(jnp.int32)

    def update(
        state: jax.Array, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        chosen = jax.nn.one_hot(batch.sample.action, shape[1])
        gain = (chosen * (batch.sample.reward - batch.reward_mean)[..., None]).mean(0)
        metrics = {"reward_mean": batch.reward_mean, "zeal": jnp.abs(gain).max(-1)}
        return state + settings[Greed].greed * gain, metrics

    return Algorithm("bandit", lambda key: jnp.zeros(shape), act, greedy, update)


BANDIT = mamt_jax.Recipe(
    bandit,
    compose(Replay(), Greed()),
    "Climbs the immediate reward",
    quantities={"zeal": Quantity(("agent",), "reward", "zeal", "largest gain of an action")},
)


def written(name: str) -> str:
    """The README's code whose first line is this comment."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"```python\n(# {name}\n.*?)```", text, re.DOTALL)
    return str(code)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of somebody else."""
    (tmp_path / "countdown.py").write_text(written("countdown.py"))
    (tmp_path / "variants.py").write_text(written("variants.py"))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("countdown", "variants"):
            del sys.modules[name]


@pytest.fixture
def countdown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The README's environment."""
    module = ModuleType("countdown")
    monkeypatch.setitem(sys.modules, "countdown", module)
    exec(written("countdown.py"), vars(module))
    return module.Countdown


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered in one test is not in the next."""
    monkeypatch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))
    monkeypatch.setattr(envs, "_REGISTRY", dict(envs._REGISTRY))


def test_the_readmes_files_run_from_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, resumed, evaluated and reported."""
    own = ["--algorithm", "variants:mamt_fixed_ws", "--env", "countdown:Countdown"]
    line = ["train", *own, *FLAGS, "--hidden-size", "8", "--attention-heads", "2", "--out", "run"]
    assert cli.main([*line, "--env-option", "prize=2.0"]) == 0
    assert cli.main(["train", "--resume", "--out", "run", "--episodes", "60"]) == 0
    assert cli.main(["evaluate", "run"]) == 0
    assert cli.main(["report", "run"]) == 0
    text = capsys.readouterr().out
    assert "variants:mamt_fixed_ws" in text and "countdown:Countdown (prize=2)" in text
    run = mamt_jax.load(folder / "run")
    assert (run.metrics.coordination_mean.values[:, -1] == 1 - np.eye(2)).all()
    assert np.isfinite(run.metrics.nonstationarity.values[:, -1]).all()
    assert run.config.env_options == {"prize": 2.0}


def test_such_a_run_is_read_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics without its modules; policies and evaluation say what is missing."""
    mamt_jax.train("variants:mamt_fixed_ws", "countdown:Countdown", out=folder / "run", **SMALL)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    code = (
        "import mamt_jax\nrun = mamt_jax.load('../run')\nassert run.metrics.sizes['seed'] == 2\n"
        "assert run.config.settings.flat()['hidden_size'] == 8\n"
        "try: run.policies\nexcept mamt_jax.ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Cannot import variants: ModuleNotFoundError" in done.stdout, done.stderr


def test_objects_do_in_the_place_of_names(tmp_path: Path, countdown: Any) -> None:
    run = mamt_jax.train(BANDIT, countdown(prize=2.0), greed=5.0, out=tmp_path / "run", **TINY)
    returns = run.metrics.return_mean.values
    assert (returns[:, -1] > returns[:, 0]).all()
    assert (run.evaluate(episodes=3) == 10.0).all()  # five steps, two points each
    assert run.metrics.zeal.attrs["long_name"] == "zeal" and run.metrics.zeal.dims[-1] == "agent"
    assert run.config.objects == ("algorithm", "env")
    loaded = mamt_jax.load(tmp_path / "run")
    assert loaded.metrics.reward_mean.agent.values.tolist() == ["agent_0", "agent_1"]
    with pytest.raises(ConfigError, match="bandit was given as an object; give it again"):
        _ = loaded.policies
    loaded = mamt_jax.load(tmp_path / "run", algorithm=BANDIT)
    assert (loaded.policies.act(np.zeros((2, 1))) == 1).all()
    with pytest.raises(ConfigError, match="countdown was given as an object; give it again"):
        loaded.evaluate()
    whole = mamt_jax.load(tmp_path / "run", algorithm=BANDIT, env=countdown(prize=3.0))
    assert (whole.evaluate(episodes=3) == 15.0).all()
    with pytest.warns(UserWarning, match="nothing to do"):
        mamt_jax.train(
            BANDIT, countdown(prize=2.0), greed=5.0, out=tmp_path / "run", resume=True, **TINY
        )


def test_the_command_line_says_that_a_run_was_given_objects(
    tmp_path: Path, countdown: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mamt_jax.train("maac", countdown(), out=tmp_path / "run", **SMALL)
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "countdown was given as an object" in said and said.count("\n") == 1


def test_a_run_of_objects_resumed_and_loaded_otherwise(
    tmp_path: Path, countdown: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mamt_jax.train(BANDIT, countdown(), out=tmp_path, **TINY)
    assert cli.main(["train", "--resume", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "bandit was given as an object; give it again" in said and said.count("\n") == 1
    for env in ("spread", countdown):
        with pytest.raises(ConfigError, match=r"env must be one with a spec \(EnvSpec\), got"):
            mamt_jax.load(tmp_path, algorithm=BANDIT, env=env)


def test_registered_names_are_names(countdown: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mamt_jax.register("countdown", countdown)
    mamt_jax.register("bandit", BANDIT)
    mamt_jax.register("bandit", BANDIT)  # the same again is no conflict
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert "bandit" in text and "Climbs the immediate reward" in text and "countdown" in text
    run = mamt_jax.train("bandit", "countdown", env_options={"prize": 2.0}, greed=5.0, **TINY)
    assert run.config.objects == () and (run.evaluate(episodes=1) == 10.0).all()
    run = mamt_jax.train("maddpg", "countdown", hidden_size=8, **TINY)
    assert np.isfinite(run.metrics.critic_loss.values[:, -1]).all()


def test_its_settings_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    mamt_jax.register("bandit", BANDIT)
    with pytest.raises(SystemExit):
        cli.main(["train", "--algorithm", "bandit", "--help"])
    text = capsys.readouterr().out
    assert (
        "How fast it climbs." in text and "--greed FLOAT" in text and "--learning-rate" not in text
    )
    assert cli.main(["train", "--algorithm", "bandit", "--discount", "0.5"]) == 1
    assert "bandit has no discount; its settings are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "own", "says"),
    [
        ("mamt", BANDIT, "There is an algorithm 'mamt' already; choose another name"),
        ("my rule", BANDIT, "An algorithm's name must be letters, digits and _, got 'my rule'"),
        (5, BANDIT, "An algorithm's name must be letters, digits and _, got 5"),
        ("mine", 3, "An algorithm is a name, a Recipe, or a function .*, got 3"),
        ("mine", dict, "An environment's class has spec, reset and step; .*dict.* lacks some"),
    ],
)
def test_what_cannot_be_registered(name: str, own: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mamt_jax.register(name, own)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mamt", "mamt_jax.mazes:Maze"), "Cannot import mamt_jax.mazes: ModuleNotFoundError"),
        ((3, "spread"), "An algorithm is a name, a Recipe, or a function"),
        (("mamt", 3), "env must be the name of an environment, or one with a spec"),
        (("mamt", "nowhere:Maze"), "Cannot import nowhere: ModuleNotFoundError"),
        (("mamt", "json:Maze"), "json has no Maze"),
    ],
)
def test_what_is_neither_a_name_nor_an_object(arguments: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mamt_jax.train(*arguments, **TINY)


@pytest.mark.parametrize(
    ("build", "settings", "says"),
    [
        (None, BANDIT.settings, "A recipe's build is a function .*, got None"),
        ("nothing", BANDIT.settings, "A recipe's build is a function .*, got 'nothing'"),
        ("nothing:here", BANDIT.settings, "Cannot import nothing: ModuleNotFoundError"),
        (bandit, Replay(), "A recipe's settings are Settings"),
        (lambda game, settings: 3, BANDIT.settings, "must return an Algorithm, and returned 3"),
    ],
)
def test_recipes_that_are_none(build: Any, settings: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mamt_jax.train(mamt_jax.Recipe(build, settings), "toy_matching", **TINY)


class Mutable:
    """Like the README's environment, but no value: somebody may change its prize."""

    def __init__(self, made: Any, prize: float) -> None:
        self.made, self.prize = made, prize

    @property
    def spec(self) -> Any:
        return self.made().spec

    def reset(self, key: jax.Array) -> Any:
        return self.made().reset(key)

    def step(self, key: jax.Array, state: Any, actions: jax.Array) -> Any:
        return self.made(prize=self.prize).step(key, state, actions)


def test_an_environment_that_was_changed_is_another(countdown: Any) -> None:
    env = Mutable(countdown, 1.0)
    before = mamt_jax.train(BANDIT, env, greed=0.0, **TINY).metrics.return_mean
    env.prize = 10.0
    after = mamt_jax.train(BANDIT, env, greed=0.0, **TINY).metrics.return_mean
    np.testing.assert_allclose(after, 10 * before, 1e-6)


def test_options_of_an_object_are_its_own(countdown: Any) -> None:
    with pytest.raises(ConfigError, match="given as an object has its options already"):
        mamt_jax.train("mamt", countdown(), env_options={"prize": 3.0}, **TINY)


def test_quantities_that_nobody_described_are_refused() -> None:
    silent = mamt_jax.Recipe(bandit, BANDIT.settings)
    with pytest.raises(ConfigError, match="reports zeal, and nothing says what that is"):
        mamt_jax.train(silent, "toy_matching", **TINY)
