"""The command line, up to the point where training begins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from mamt_jax import envs, policies
from mamt_jax.algorithms.registry import ALGORITHMS, all_settings
from mamt_jax.cli import flags
from mamt_jax.cli import main as cli
from mamt_jax.config import Execution, TrainConfig, make_config
from mamt_jax.env_options import read_options
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.reports.record import read_record
from mamt_jax.settings import Coordination, LearnedRegion, Learning, Networks
from mamt_jax.training.policies import Policies
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
from tests.reports.records import diverging, made_up
from tests.training import fakes


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A finished run of the fake trainer."""
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config(), fakes.trainer().game)
    run_trainer(fakes.trainer(), fakes.algorithm(), fakes.config(), directory)
    return directory.path


def loaded_by(line: str) -> tuple[set[str], str]:
    """Which heavy packages a command line loads in a fresh process, and what it prints."""
    code = (
        "import sys\nfrom mamt_jax.cli.main import main\n"
        "heavy = {'jax', 'matplotlib', 'zarr', 'wandb', 'tensorboardX', 'optuna'}\n"
        "try: sys.exit(main(sys.argv[1:]))\n"
        "finally: print(*heavy & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split()), done.stdout


@pytest.mark.parametrize(
    "line",
    ["--help", "train --help", "evaluate --help", "plot --help", "report --help", "sweep --help"],
)
def test_help_answers_without_loading_jax(line: str) -> None:
    loaded, text = loaded_by(line)
    assert not loaded
    assert ("--learning-rate" in text and "--env-option" in text) == (
        line in ("train --help", "sweep --help")
    )


def test_a_dry_run_loads_nothing_that_draws() -> None:
    loaded, text = loaded_by(
        "train --dry-run --env toy_matching --algorithm maac --wandb --tensorboard"
    )
    assert loaded == {"jax"} and "The run fits." in text


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_help_lists_what_an_algorithm_has_and_no_more(
    algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--algorithm", algorithm, "--help"])
    text = capsys.readouterr().out
    own = ALGORITHMS[algorithm].settings.flat()
    run = set(TrainConfig.__dataclass_fields__) | set(Execution.__dataclass_fields__)
    listed = set(re.findall(r"^\W* --([\w-]+)", text, re.MULTILINE))
    for name in (run | set(own)) - {"settings", "execution", "objects", "env_options"}:
        assert name.replace("_", "-") in listed, name
    for name in all_settings() - set(own):
        assert name.replace("_", "-") not in listed, name


def test_settings_of_other_algorithms_are_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in ("--gae-lambda 0.5", "--gae-lambda=0.5", "--no-trd-monotone"):
        assert cli.main(["train", "--algorithm", "maac", *line.split()]) == 1
        said = capsys.readouterr().err
        name = line.removeprefix("--").removeprefix("no-").split("=")[0].split()[0]
        assert f"maac has no {name.replace('-', '_')}; its settings are hidden_size" in said
        assert said.count("\n") == 1


def test_help_is_in_groups_of_plain_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = ["run", "execution", *(part.group for part in TrainConfig().settings.parts)]
    for columns in ("1", "80"):  # tyro's boxes do not end where there is no room for a letter
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(SystemExit):
            cli.main(["train", "-h"])
        text = capsys.readouterr().out
        assert "`" not in text and os.environ["COLUMNS"] == columns
        for group in groups:
            assert len(re.findall(rf"^\W*{group} options ", text, re.MULTILINE)) == 1
    assert flags.plain("As :func:`~a.b.c` of\n``--x``.") == "As c of --x."


@pytest.mark.parametrize(("written", "number"), [("1e4", 10_000), ("10_000", 10_000), ("2.0", 2)])
def test_whole_numbers_may_be_written_as_others(written: str, number: int) -> None:
    assert cli.parse(["train", "--episodes", written]).config.episodes == number
    assert cli.parse(["evaluate", "x", "--episodes", written]).episodes == number
    assert (
        cli.parse(["train", "--hidden-size", "1.28e2"]).config.settings[Networks].hidden_size == 128
    )


@pytest.mark.parametrize(
    "line",
    [
        "train --keep-checkpoints x",
        "train --coordination-threshold x",
        "train --learning-rate x",
        "train --seeds x",
        "evaluate run --checkpoint x",
        "evaluate run --gif-seed x",
    ],
)
def test_values_that_are_none_are_refused_in_words(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    text = capsys.readouterr().err
    assert stopped.value.code == 2 and "must be a" in text and "number" in text
    assert not any(of_python in text for of_python in ("class", "typing", "literal", "convert"))


def test_settings_that_are_no_plain_numbers() -> None:
    line = "train --keep-checkpoints {} --coordination-threshold {}"
    for kept, threshold, expected in (("all", "None", ("all", None)), ("1e1", "0.3", (10, 0.3))):
        config = cli.parse(line.format(kept, threshold).split()).config
        sigma = config.settings[Coordination].coordination_threshold
        assert (config.execution.keep_checkpoints, sigma) == expected
    assert cli.parse(["evaluate", "x", "--checkpoint", "1e1"]).checkpoint == 10


def test_mamt_alone_asks_for_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    alone = capsys.readouterr().out
    for line, says in (("--help", alone), ("-h", alone), ("--version", "mamt_jax 0.1.0\n")):
        with pytest.raises(SystemExit) as stopped:
            cli.main([line])
        assert stopped.value.code == 0 and capsys.readouterr().out == says
    assert all(f"\n  {name} " in alone for name in cli.COMMANDS)


def test_the_package_is_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert subprocess.run([sys.executable, "-m", "mamt_jax", "--version"]).returncode == 0
    assert capfd.readouterr().out == "mamt_jax 0.1.0\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train --dry-run --algorithm mampt", "'mampt' (did you mean 'mamt'?); accepted are"),
        ("train --dry-run --algorithm=MAPPO", "did you mean 'mappo'?"),
        ("train --dry-run --env spred", "'spred' (did you mean 'spread'?); there are"),
        ("train --dry-run --env-option num_agent=2", "(did you mean 'num_agents'?)"),
        ("train --dry-run --env xyzzy", "is called 'xyzzy'; there are"),
        ("evaluate a\udcff", "a\\udcff holds no run"),  # bytes that are no text are a name, too
        ("train --resume --out a\udcff", "a\\udcff holds no run"),
    ],
)
def test_names_that_are_nearly_right(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split(" ")) == 1
    text = capsys.readouterr().err
    assert says in text and text.startswith("mamt: ") and len(text.splitlines()) == 1


def test_flags_reach_the_config() -> None:
    line = "train --algorithm maac --env spread --seeds 2 --learning-rate 3e-4 --out runs/x"
    command = cli.parse([*line.split(), "--env-option", "num_agents=3"])
    assert command.config.algorithm == "maac"
    assert command.config.seeds == 2
    assert command.config.settings[Learning].learning_rate == 3e-4
    assert cli.parse(["train", "--trd-monotone"]).config.settings[LearnedRegion].trd_monotone
    assert command.directory() == Path("runs/x")
    assert read_options("spread", command.env_option) == {"num_agents": 3}
    assert cli.parse(["train"]).directory() == Path("runs/mamt-spread")


@pytest.mark.parametrize("named", [["--algorithm", "mappo"], ["--algorithm=mappo"]])
def test_an_algorithms_own_defaults_are_the_commands(
    named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = cli.parse(["train", "--policy-clip", "3", *named]).config.settings
    assert settings == ALGORITHMS["mappo"].settings.replace({"policy_clip": 3.0})
    assert settings[Learning].critic_weight_decay == 0.0
    with pytest.raises(SystemExit):
        cli.main(["train", *named, "--help"])
    assert "(default: 10.0)" in capsys.readouterr().out


def test_settings_of_the_run_may_be_given_again(tmp_path: Path) -> None:
    """Those of its algorithm, whether or not that is named again; another one is refused."""
    given = make_config(algorithm="mappo", ppo_clip=0.3)
    RunDir(tmp_path / "run").create(given)
    line = ["train", "--resume", "--out", str(tmp_path / "run")]
    for more in (["--ppo-clip", "0.3"], ["--algorithm", "mappo"]):
        assert cli.parse([*line, *more]).config == given
    with pytest.raises(ConfigError, match="mappo has no batch_size"):
        cli.parse([*line, "--batch-size", "8"])
    with pytest.raises(ConfigError, match=r"another algorithm \(run: 'mappo', asked: 'maac'\)"):
        cli.parse([*line, "--algorithm", "maac"])


def test_resume_takes_what_is_left_out_from_the_run(tmp_path: Path) -> None:
    config = fakes.config(algorithm="maac", target_tau=0.5, env_options={"num_agents": 3})
    RunDir(tmp_path / "run").create(config)
    command = cli.parse(["train", "--resume", "--out", str(tmp_path / "run")])
    assert command.config == config
    line = ["train", "--resume", "--out", str(tmp_path / "run"), "--seeds", "9"]
    with pytest.raises(ConfigError, match=r"seeds \(run: 3, asked: 9\)"):
        RunDir(tmp_path / "run").check_same(cli.parse(line).config)
    with pytest.raises(RunError, match="holds no run"):
        cli.parse(["train", "--resume", "--out", str(tmp_path / "nothing")])


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(ALGORITHMS) + len(envs.names()) + len(policies.names())
    for name in (*ALGORITHMS, *envs.names()):
        assert any(line.split()[0] == name and len(line.split()) > 3 for line in lines), name


def test_report_prints_a_table_and_draws(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recorded.parent)
    assert cli.main(["report", str(recorded)]) == 0
    text = capsys.readouterr().out
    metrics = RunDir(recorded).read_metrics()
    last = metrics.return_sum.values[:, -2:].sum(axis=1) / 10  # a tenth of 105 episodes: 2 events
    assert f"{last.mean():.2f} ± {last.std(ddof=1):.2f}" in text
    assert "paper's MAMT" in text and "-38.06" in text
    assert (recorded.parent / "figures/learning_curve.png").stat().st_size > 10_000
    assert not (recorded / "figures").exists()


def test_report_keeps_a_record(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recorded.parent)
    file = recorded.parent / "kept/one.json"
    assert cli.main(["report", str(recorded), "--keep", str(file), "--note", "2 cores"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(file)
    assert json.loads(file.read_text())["note"] == "2 cores"
    assert read_record(file)[0] == RunDir(recorded).read_config()
    for line, says in (
        ([str(recorded), str(file), "--keep", str(file)], "takes one run directory, got 2"),
        ([str(file), "--keep", str(file)], "holds no run"),
        ([str(recorded), "--note", "much"], "--note goes with --keep FILE"),
    ):
        assert cli.main(["report", *line]) == 1
        captured = capsys.readouterr()
        assert says in captured.err and len(captured.err.splitlines()) == 1 and not captured.out


@pytest.mark.parametrize(
    ("returns", "diverged_at", "lines"),
    [
        ([-40], None, ["seed 0: -40.00", "all seeds: -40.00 (1 seed)"]),
        (
            [-40, -30],
            None,
            [
                "seed 0: -40.00",
                "seed 1: -30.00",
                "all seeds: -35.00 ± 7.07 (mean ± std over 2 seeds)",
            ],
        ),
        (
            [-9, -40, -30],
            [1200, np.nan, np.nan],
            [
                "seed 0: diverged at update 1,200",
                "seed 1: -40.00",
                "seed 2: -30.00",
                "other seeds: -35.00 ± 7.07 (mean ± std over 2 seeds)",
            ],
        ),
    ],
)
def test_evaluate_prints_every_seed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    returns: list[float],
    diverged_at: list[float] | None,
    lines: list[str],
) -> None:
    data = {} if diverged_at is None else {"diverged_at_update": ("seed", diverged_at)}

    class FakeRun:
        policies = type("", (), {"seeds": tuple(range(len(returns)))})
        metrics = xr.Dataset(data, {"seed": list(policies.seeds)})

        def evaluate(self, episodes: int, seed: int) -> np.ndarray:
            return np.array([[value] * episodes for value in returns], np.float64)

    opened: list[Any] = []

    def load(*what: Any) -> FakeRun:
        opened.append(what)
        return FakeRun()

    monkeypatch.setattr("mamt_jax.training.pretrained.load", load)
    assert cli.main(["evaluate", "runs/x", "--episodes", "4", "--checkpoint", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert opened == [(Path("runs/x"), 3)]


@pytest.mark.parametrize(
    ("seeds", "lost", "ends"),
    [
        (1, {}, " (1 seed)"),
        (2, {}, " (mean ± std over 2 seeds)"),
        (4, {2: 40}, "] (mean ± std over 3 seeds [95% interval of the mean])"),
    ],
)
def test_train_ends_with_the_return(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seeds: int,
    lost: dict[int, int],
    ends: str,
) -> None:
    class FakeRun:
        metrics = diverging(made_up(set(), seeds), lost)

    monkeypatch.setattr("mamt_jax.training.run.run_config", lambda *_, **__: FakeRun())
    assert cli.main(["train", "--out", "runs/x"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Return of the last episodes: -3") and first.endswith(ends)
    assert ("±" in first.split("(")[0]) == (seeds > 1)


def test_evaluate_writes_an_animation(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ALGORITHMS, "mamt", fakes.recipe(fakes.algorithm(), "mamt"))
    path = recorded.parent / "out.gif"
    assert cli.main(["evaluate", str(recorded)]) == 0
    alone = capsys.readouterr().out
    assert cli.main(["evaluate", str(recorded), "--gif", str(path)]) == 0
    text = capsys.readouterr().out
    assert text == f"{alone}One episode of seed 0: 26 pictures in {path}\n"
    with Image.open(path) as image:
        assert 2 < image.n_frames <= 26 and image.info["duration"] == 100
    first = path.read_bytes()
    assert cli.main(["evaluate", str(recorded), "--gif", str(path), "--seed", "1"]) == 0
    assert path.read_bytes() != first


def test_a_seed_and_a_range_can_be_chosen(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ALGORITHMS, "mamt", fakes.recipe(fakes.algorithm(), "mamt"))
    monkeypatch.setenv("HOME", str(recorded.parent))
    assert cli.main(["evaluate", str(recorded), "--gif=~/home.gif"]) == 0
    assert (recorded.parent / "home.gif").exists()
    capsys.readouterr()
    path = recorded.parent / "part.gif"
    gif = ["evaluate", str(recorded), "--gif", str(path)]
    assert cli.main([*gif, "--gif-seed", "1", "--gif-frames", "3:10"]) == 0
    assert f"One episode of seed 1: 7 pictures in {path}\n" in capsys.readouterr().out
    before = path.read_bytes()
    for options, says in (
        (["--gif-seed", "9"], "No seed 9"),
        (["--gif-frames", "30:"], "within 0:26"),
    ):
        assert cli.main([*gif, *options]) == 1
        captured = capsys.readouterr()
        assert says in captured.err and len(captured.err.splitlines()) == 1 and not captured.out
    monkeypatch.setattr("mamt_jax.training.pretrained.load", lambda path: pytest.fail("loaded"))
    for options, says in (
        ([*gif, "--gif-frames", "10"], "must be FIRST:STOP"),
        (["evaluate", str(recorded), "--gif-seed", "1"], "go with --gif FILE"),
        (["evaluate", str(recorded), "--gif-frames", "1:"], "go with --gif FILE"),
    ):
        assert cli.main(options) == 1 and says in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_seed_that_diverged_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FakeRun:
        policies = Policies(fakes.algorithm(), None, (0, 1))
        metrics = xr.Dataset({"diverged_at_update": ("seed", [np.nan, 1200])}, {"seed": [0, 1]})

    monkeypatch.setattr("mamt_jax.training.pretrained.load", lambda *_: FakeRun())
    line = ["evaluate", "runs/x", "--gif", str(tmp_path / "x.gif"), "--gif-seed", "1"]
    assert cli.main(line) == 1
    assert "Seed 1 diverged at update 1,200" in capsys.readouterr().err


def test_evaluate_refuses_a_bad_name_before_it_plays(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mamt_jax.training.pretrained.load", lambda *_: pytest.fail("loaded"))
    for name, says in (("out.mp4", "must end in .gif"), ("no/out.gif", "No such file")):
        assert cli.main(["evaluate", str(recorded), "--gif", str(recorded / name)]) == 1
        text = capsys.readouterr().err
        assert text.startswith("mamt: ") and says in text and len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("trian", "did you mean 'train'?"),
        ("--seeds 3 train", "no command '--seeds'"),
        ("train --learning-rat 0.1", "--learning-rate"),
        ("train --learning-rat 0.1", "mamt train --help"),
        ("evaluate x --sed 3", "mamt evaluate --help"),
        ("report x --figure y", "mamt report --help"),
        ("report x --format xml", "latex"),
        ("plot x --format gif", "svg"),
        ("train --episodes 1.5e0", "whole number such as 10000"),
        ("train --seeds 1e99999999999", "whole number"),
        ("evaluate x --episodes nan", "whole number"),
        ("train --out=", "got an empty text"),
        ("train --seeds many", "--seeds"),
        ("train --delta-objective best", "lookahead"),
        ("evaluate", "Missing"),
    ],
)
def test_usage_errors_are_short(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert says in text and "Traceback" not in text
    assert len(text.splitlines()) < 25


def test_second_interrupt_leaves_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)

    def interrupted() -> None:
        raise KeyboardInterrupt

    cli.guarded(interrupted)
    assert capsys.readouterr().err == "mamt: stopped at once.\n"
    cli.guarded(interrupted, trains=True)
    assert left == [130, 130]
    assert "stopped at once; what was saved is kept." in capsys.readouterr().err
