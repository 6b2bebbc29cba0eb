"""Every committed record was run as its study says, and every study has its records and figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mamt_jax.config import make_config
from mamt_jax.experiments.paper import NAMES
from mamt_jax.experiments.studies import STUDIES, Run
from mamt_jax.reports.report import report

RESULTS = Path(__file__).resolve().parents[2] / "results"
RUNS = {run.record: run for study in STUDIES.values() for run in study.runs if run.record}
CONSTANTS = {
    "delta_exploration": 0.5,
    "trd_tau": 1e-3,
    "modelling_clip": 0.5,
    "modelling_regularisation": 1e-3,
    "modelling_opponents": "all",
    "region_samples": 0,
    "precision": "float32",
    "delta_rule": "penalty",
    "delta_shares": "coordination",
    "share_rate": 2e-3,
    "share_limit": 1.0,
    "kl_budget": 0.1,
    "width_rate": 0.01,
}
"""What was no setting yet when some records were made, and the value that it had; of δ's
budget, which did not exist, today's."""


def read(record: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{record}.json").read_text(encoding="utf-8"))


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """Everything that defines a run, by name; how it is carried out is no part of that."""
    settings = {k: v for group in config["settings"].values() for k, v in group.items()}
    return {k: v for k, v in config.items() if k not in ("settings", "execution")} | settings


def differences(run: Run, config: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What the study and the record say of each setting in which they differ."""
    planned = flat(make_config(**run.options()).settled().to_dict())
    # A setting that an algorithm has been given since is recorded nowhere.
    recorded = CONSTANTS | {"objects": []} | flat(config)
    return {
        name: (value, recorded.get(name))
        for name, value in planned.items()
        if value != recorded.get(name)
    }


def test_every_record_belongs_to_a_study() -> None:
    found = {
        str(path.relative_to(RESULTS).with_suffix(""))
        for path in RESULTS.rglob("*.json")
        if '"config":' in path.read_text(encoding="utf-8")[:2000]
    }
    assert len(found) > 20 and found == RUNS.keys()


@pytest.mark.parametrize("record", RUNS)
def test_records_were_run_as_their_studies_say(record: str) -> None:
    run, summary = RUNS[record], read(record)
    config = summary["config"]
    assert differences(run, config) == {
        name: (run.options().get(name, 0), value) for name, value in run.recorded.items()
    }
    if run.stopped_at is not None:
        assert summary["update"][-1] == run.stopped_at
    elif run.env != "multiwalker_host":  # whose episodes have no length
        *_, before, last = summary["episode"]
        assert before < run.episodes <= last


def test_a_setting_that_is_not_the_studys_is_found() -> None:
    run = RUNS["rover_tower/mamt"]
    config = read(run.record)["config"]
    assert differences(run, config) == {}
    settings = {**run.settings, "batch_size": 512}
    other = replace(run, settings=settings, seeds=3)
    assert differences(other, config) == {"batch_size": (512, 256), "seeds": (3, 2)}
    del config["settings"]["learned trust region"]["delta_init"]
    assert differences(run, config) == {"delta_init": (1.0, None)}


def test_every_figure_belongs_to_a_study() -> None:
    named = {f"{name}/{file}" for name, study in STUDIES.items() for file in study.figures}
    kept = {str(path.relative_to(RESULTS)) for path in RESULTS.glob("*/*.png")}
    assert kept == named


@pytest.mark.parametrize("name", ["pursuit", "multiwalker_host"])
def test_reports_of_a_study_have_its_figures(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    tables, files = report([RESULTS / f"{run.record}.json" for run in study.runs], tmp_path)
    assert {file.name for file in files} >= {*study.figures}
    assert tables[0].row_count == len(study.runs) + 3  # random, scripted, the paper's MAAC


def test_columns_of_the_papers_table_are_its_algorithms() -> None:
    for study in STUDIES.values():
        if study.like_paper:
            algorithms = [run.algorithm for run in study.runs]
            assert set(algorithms) <= NAMES.keys() and len(set(algorithms)) == len(algorithms)
            assert len({run.env for run in study.runs}) == 1


def test_studies_are_data() -> None:
    code = (
        "import sys\nfrom mamt_jax.experiments.studies import STUDIES\n"
        "print(sorted({'jax', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
