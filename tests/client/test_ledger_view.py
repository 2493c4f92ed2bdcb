from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from typer.testing import CliRunner

from client.ledger_plot import draw
from client.ledger_view import ledger
from privacy.budget import Caps
from privacy.ledger import Ledger
from privacy.ledger_heads import sign_head
from protocol.errors import BudgetError, InputError, IntegrityError, RefusalError
from protocol.signing import SigningKey
from tests.privacy.ledgers import CAPS, KEY, NOW, charge, job, tamper

WITHOUT_CAPS = Caps(epsilon=math.inf, epsilon_worst=math.inf, delta=1e-5)
ODD = "stroke [red]"

app = typer.Typer(add_completion=False)
app.command()(ledger)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with jobs of each status in three populations."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, KEY) as opened:
        opened.reserve([charge(1, 12), charge(1, 2, partition="test")], CAPS, NOW)
        opened.record_release(job=job(1), epoch=1, attempt=1, purpose="update", digest=job(0))
        opened.settle(job(1), NOW)
        opened.reserve([charge(2, 40, sigma=3.0, q=0.05, population=ODD)], CAPS, NOW)
        opened.reserve([charge(3, 1, sigma=0.0, population="public")], WITHOUT_CAPS, NOW)
        with pytest.raises(BudgetError):
            opened.reserve([charge(4, 900)], CAPS, NOW)
    return path


def run(*arguments: object, env: Mapping[str, str | None] | None = None) -> str:
    """What the command prints; its errors come out as they are."""
    result = CliRunner().invoke(
        app,
        [str(argument) for argument in arguments],
        env={"NO_COLOR": None, "FORCE_COLOR": None, "COLUMNS": None, **(env or {})},
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    return result.output


def plain(output: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()


@pytest.mark.parametrize("env", [{}, {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"}])
def test_tables_align_and_fit(path: Path, env: Mapping[str, str]) -> None:
    lines = plain(run(path, env=env))
    assert max(map(len, lines)) <= (80 if env else 150)
    header = next(line for line in lines if "held to cap" in line)
    ends = [header.index(name) + len(name) for name in ("epsilon", "held to cap", " cap  delta")]
    ends[2] -= len("  delta")
    row = next(line for line in lines if "public" in line)
    assert [row[:end].split()[-1] for end in ends] == ["inf"] * 3
    spent = next(line for line in lines if "cardiology" in line and "train" in line)
    worst = lines[lines.index(spent) + 1]
    with Ledger.open(path, None) as opened:
        epsilons = opened.spent(population="cardiology", partition="train", delta=1e-5)
    assert [line[: ends[0]].split()[-1] for line in (spent, worst)] == [
        f"{epsilon:.4f}" for epsilon in epsilons
    ]
    assert [line[: ends[2]].split()[-1] for line in (spent, worst)] == ["3", "10"]


def test_jobs_show_what_they_used_of_what_they_reserved(path: Path) -> None:
    output = run(path)
    for cells in (
        ("cardiology", "train", "settled", "2026-11-20", "30 / 15", "1", "1 / 12"),
        ("cardiology", "test", "settled", "2026-11-20", "30 / 15", "1", "0 / 2"),
        (ODD, "train", "reserved", "2026-11-20", "3 / 1.5", "0.05", "40 / 40"),
        ("cardiology", "train", "refused", "2026-11-20", "30 / 15", "1", "0 / 900"),
    ):
        assert re.search(r"\s+".join(map(re.escape, cells)), output)
    assert "7 rows, not verified" in output


def test_colours_follow_the_terminal_and_no_color(path: Path) -> None:
    with Ledger.open(path, KEY) as opened, pytest.raises(RefusalError):
        opened.check_echo(sign_head("0" * 64, KEY))
    coloured = {"FORCE_COLOR": "1", "TERM": "xterm"}
    red = "\x1b[1;31mblocked"
    assert red in run(path, env=coloured)
    assert "\x1b[1mblocked" in run(path, env={**coloured, "NO_COLOR": "1"})
    assert "\x1b" not in run(path)


def test_a_blocked_ledger_says_what_to_do(path: Path) -> None:
    with Ledger.open(path, KEY) as opened, pytest.raises(RefusalError):
        opened.check_echo(sign_head("0" * 64, KEY))
    told = " ".join(run(path).split())
    assert "blocked: this is an old copy, and nothing is released; put the newest copy" in told
    document = json.loads(run(path, "--json"))
    assert document["blocked"]
    assert "newest copy" in document["remedy"]


def test_json_holds_the_same_numbers(path: Path) -> None:
    document = json.loads(run(path, "--json", "--verify"))
    with Ledger.open(path, None) as opened:
        report = opened.verify()
    assert (document["rows"], document["head"], document["signer"]) == (
        report.rows,
        report.head,
        KEY.fingerprint,
    )
    assert (document["verified"], document["blocked"]) == (True, False)
    assert document["remedy"] is None
    budgets = {(one["population"], one["partition"]): one for one in document["budgets"]}
    for balance in report.balances:
        shown = budgets[balance.population, balance.partition]
        if balance.population == "public":
            assert shown["epsilon"] == shown["epsilon_cap"] == shown["epsilon_filter"] == "inf"
        else:
            assert shown["epsilon"] == balance.epsilon
            assert shown["epsilon_worst"] == balance.epsilon_worst
            assert [shown["epsilon_filter"], shown["epsilon_worst_filter"]] == [*balance.admission]
            assert [shown["epsilon_cap"], shown["epsilon_worst_cap"]] == [3.0, 10.0]
    first = document["jobs"][0]
    assert (first["job"], first["status"], first["steps"], first["used"], first["released"]) == (
        job(1), "settled", 12, 1, 1,
    )  # fmt: skip


def test_one_population_is_shown_alone(path: Path, tmp_path: Path) -> None:
    output = run(path, "--population", ODD)
    assert ODD in output
    assert "cardiology" not in output
    picture = tmp_path / "one.png"
    document = json.loads(run(path, "--json", "--population", "public", "--plot", picture))
    assert {one["population"] for one in document["budgets"] + document["jobs"]} == {"public"}
    every = tmp_path / "every.png"
    run(path, "--plot", every)
    assert imread(picture).shape[0] < imread(every).shape[0]
    with pytest.raises(InputError, match="no budget of population 'nobody'") as error:
        run(path, "--population", "nobody")
    assert "cardiology" in str(error.value)


def test_the_plot_draws_both_epsilons(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "ledger.png"
    run(path, "--plot", target)
    pixels = imread(target)[:, :, :3]
    for colour in ("tab:blue", "tab:red"):
        assert (abs(pixels - to_rgb(colour)).max(axis=2) < 0.02).sum() > 100
    with pytest.raises(InputError, match="cannot be written"):
        run(path, "--plot", tmp_path / "nowhere" / "ledger.png")


def test_the_plot_is_a_png_of_the_history(path: Path) -> None:
    with Ledger.open(path, None) as opened:
        picture = draw(opened.history())
    assert imread(io.BytesIO(picture)).ndim == 3


def test_an_empty_ledger_shows_empty_tables_and_no_plot(tmp_path: Path) -> None:
    path = tmp_path / "empty.sqlite"
    Ledger.open(path, KEY).close()
    assert "1 rows" in run(path)
    with pytest.raises(InputError, match="nothing to plot"):
        run(path, "--plot", tmp_path / "empty.png")


def test_verification_says_so_and_finds_a_changed_row(path: Path, tmp_path: Path) -> None:
    assert "verified: every link, signature, grant and epsilon" in run(path, "--verify")
    export = tmp_path / "export.json"
    run(path, "--export", export)
    assert len(json.loads(export.read_text())["rows"]) == 7
    tamper(path, "UPDATE rows SET signature = zeroblob(64) WHERE number = 3")
    run(path)
    with pytest.raises(IntegrityError, match="row 3"):
        run(path, "--verify")


@pytest.fixture
def hospital(path: Path) -> Path:
    """The configuration of the hospital that the ledger belongs to."""
    (path.parent / "keys").mkdir()
    KEY.save(path.parent / "keys" / "signing.key")
    config = path.parent / "hospital.yaml"
    config.write_text("name: north\ndatasets: {}\npopulations: {}\n")
    return config


def test_a_hospitals_configuration_names_its_ledger(hospital: Path) -> None:
    output = run("--config", hospital, "--verify")
    assert KEY.fingerprint in output


def test_another_nodes_ledger_does_not_pass_for_the_hospitals(hospital: Path) -> None:
    key = hospital.parent / "keys" / "signing.key"
    key.unlink()
    SigningKey.generate().save(key)
    assert "not verified" in run("--config", hospital)
    with pytest.raises(IntegrityError, match="not this hospital's"):
        run("--config", hospital, "--verify")


@pytest.mark.parametrize(
    "arguments", [lambda _: (), lambda path: (path / "nowhere.sqlite",)], ids=["none", "missing"]
)
def test_a_ledger_must_be_named_and_be_there(
    tmp_path: Path, arguments: Callable[[Path], tuple[Path, ...]]
) -> None:
    with pytest.raises(InputError, match=r"no ledger is named|no privacy ledger"):
        run(*arguments(tmp_path))


def test_the_command_line_shows_it(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedward", "client", "ledger", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Privacy budget" in done.stdout
    assert "\x1b" not in done.stdout
