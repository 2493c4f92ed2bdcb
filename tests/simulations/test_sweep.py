"""Arms over seeds, from YAML to rows, with the command that people type."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import yaml

import simulations
from fedward import main
from learning import task as task_module
from protocol.errors import FedwardError, InputError
from simulations.config import Arm, DataConfig, Simulation, SimulationConfig, read_simulation
from simulations.partition import Partition
from simulations.sweep import Progress
from tests.consortium import make_request, records, schema

ARMS: tuple[Arm, ...] = (
    Arm(arm="local_only"),
    Arm(arm="pooled"),
    Arm(arm="clear"),
    Arm(arm="encrypted"),
    Arm(arm="distributed", epsilon=3.0),
    Arm(arm="local", epsilon=3.0),
)


def table(folder: Path) -> Path:
    columns = records(180, np.random.default_rng(0))
    path = folder / "sepsis.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def simulation(folder: Path, **changes: object) -> Simulation:
    config = SimulationConfig(
        name="sepsis",
        job=Path("unused.yaml"),
        data=DataConfig(path=table(folder)),
        partition=Partition(kind="iid"),
        arms=ARMS,
        hospitals=3,
    )
    return Simulation(replace(config, **changes), make_request())  # type: ignore[arg-type]


def test_every_arm_gives_a_row(tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = simulations.run(simulation(tmp_path, seeds=2), watch=seen.append)
    assert [row.arm for row in result.rows] == [arm.arm for arm in ARMS]
    assert [len(row.scores) for row in result.rows] == [6, 2, 2, 2, 2, 2]
    rows = {row.arm: row for row in result.rows}
    assert rows["pooled"].mean > 0.85
    assert rows["clear"].mean > 0.8
    assert rows["distributed"].epsilon == 3.0
    assert (rows["distributed"].epsilon_worst or 0) > 3.0
    assert rows["local"].epsilon_worst == 3.0
    assert rows["clear"].epsilon is None
    assert (rows["encrypted"].bytes_up_per_round or 0) > 0
    assert len(result.model_sha256) == 64
    assert {progress.done for progress in seen} == set(range(12))
    assert result.notes == ()


def test_seeded_simulations_repeat_and_say_so(tmp_path: Path) -> None:
    arms = (Arm(arm="distributed", epsilon=3.0),)
    first, second = (
        simulations.run(simulation(tmp_path, arms=arms, seeded_noise=True)) for _ in range(2)
    )
    assert first.model_sha256 == second.model_sha256
    assert any("seeded" in note for note in first.notes)


def test_an_arm_that_fails_is_an_error(tmp_path: Path) -> None:
    chosen = simulation(tmp_path, arms=(Arm(arm="distributed", epsilon=500.0),))
    strict = replace(chosen.request, privacy=replace(chosen.request.privacy, colluding_sites=2))
    with pytest.raises(FedwardError):
        simulations.run(Simulation(chosen.config, strict))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    chosen = simulation(tmp_path)
    changed = schema()
    changed["columns"][0]["name"] = "height"
    with pytest.raises(InputError, match="height"):
        simulations.run(Simulation(chosen.config, replace(chosen.request, schema=changed)))


def files(folder: Path, **changes: object) -> Path:
    """A simulation's YAML and its job's."""
    job: dict[str, object] = {
        "name": "sepsis-risk",
        "dataset": "sepsis",
        "intended_use": "tests only",
        "task": {"name": "diagnosis", "options": {}},
        "schema": schema(),
        "sites": [{"name": "north", "train_size": 40, "test_size": 10}],
        "privacy": {"mode": "distributed", "epsilon": 1.0},
        "training": {"rounds": 2},
    }
    config: dict[str, object] = {
        "name": "sepsis",
        "job": "job.yaml",
        "data": {"path": str(table(folder))},
        "partition": {"kind": "iid"},
        "hospitals": 3,
        "arms": [{"arm": "pooled"}, {"arm": "distributed", "epsilon": 3.0}],
    }
    for key, value in changes.items():
        target = job if key in job else config
        target[key] = value
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    (folder / "simulation.yaml").write_text(yaml.safe_dump(config))
    return folder / "simulation.yaml"


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    monkeypatch.setattr("sys.argv", ["fedward", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0 if code is None else 1), out, err


def test_json_has_the_promised_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files(tmp_path)
    out = tmp_path / "out"
    code, text, _ = command(
        monkeypatch, capsys, "simulate", str(path), "--json", "--out", str(out), "--seeds", "1"
    )
    assert code == 0
    found = json.loads(text)
    assert {"rows", "delta", "seeds", "model_sha256"} <= set(found)
    row = {
        "arm", "epsilon", "mean", "sd", "seconds_per_round", "bytes_up_per_round",
    }  # fmt: skip
    assert all(row <= set(one) for one in found["rows"])
    names = {"result.json", "result.png", "result-task.png", "result.html"}
    assert {path.name for path in out.iterdir()} == names


def test_a_table_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files(tmp_path, arms=[{"arm": "pooled"}])
    code, text, _ = command(
        monkeypatch, capsys, "simulate", str(path), "--quiet", "--out", str(tmp_path / "out")
    )
    assert code == 0
    assert "pooled" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": [{"arm": "pooled", "epsilom": 1}]}, ("epsilom", "epsilon")),
        ({"hospitals": 2}, ("arm 'distributed'", "number of sites", "found 2")),
        ({"test_fraction": 1.5}, ("simulation.yaml", "test_fraction", "1.5")),
        ({"arms": [{"arm": "distributed", "epsilon": 0}]}, ("epsilon", "0")),
        ({"arms": [{"arm": "distributed", "epsilon": -1}]}, ("epsilon", "-1")),
        ({"task": {"name": "diagnosis", "options": {"model": "forest"}}}, ("model",)),
        ({"task": {"name": "cure", "options": {}}}, ("cure", "diagnosis")),
        ({"data": {"path": "nowhere.csv"}}, ("nowhere.csv",)),
        ({"job": "nowhere.yaml"}, ("nowhere.yaml",)),
    ],
    ids=["key", "two hospitals", "fraction", "zero", "negative", "model", "task", "file", "job"],
)
def test_mistakes_are_one_line_and_exit_code_2(
    changes: dict[str, object],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = files(tmp_path, **changes)
    code, text, err = command(
        monkeypatch, capsys, "simulate", str(path), "--out", str(tmp_path / "out"), "--quiet"
    )
    assert code == 2, err
    assert text == ""
    assert err.count("\n") == 1 or len(err.splitlines()) == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_an_arm_that_cannot_run_is_refused_before_another_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(monkeypatch, capsys, "simulate", str(files(tmp_path, hospitals=2)))
    assert code == 2
    assert "run 1 of" not in err


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name such as"):
        replace(simulation(tmp_path).config, name="../evil")


def test_an_unsupported_layer_is_named_with_what_to_use_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = EntryPoint("broken", "tests.simulations.broken:Broken", task_module.GROUP)
    monkeypatch.setattr(task_module, "installed", lambda: {"broken": entry})
    path = files(tmp_path, task={"name": "broken", "options": {}})
    code, _, err = command(monkeypatch, capsys, "simulate", str(path), "--quiet")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "BatchNorm1d" in err
    assert "'0'" in err
    assert "GroupNorm" in err or "LayerNorm" in err


def test_unknown_names_list_what_exists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(monkeypatch, capsys, "simulate", "demonstration")
    assert code == 2
    assert "demo" in err
    code, _, err = command(monkeypatch, capsys, "simulate", "demo", "--engine", "petrol")
    assert code == 2
    assert "inline or ray" in err


@pytest.mark.parametrize("name", ["demo", "breast_cancer"])
def test_built_in_simulations_can_be_read(name: str) -> None:
    from simulations.cli import find_config

    assert read_simulation(find_config(name)).config.arms
