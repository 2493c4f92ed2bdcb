"""What an audit shows: table, picture, files, the command and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import typer
from matplotlib.figure import Figure
from rich.console import Console

import fedward
from protocol.errors import InputError
from simulations.audit import REFUSED_NOTE, SEEDED_NOTE, Audit, audit
from simulations.audit_cli import audit as command
from simulations.audit_evidence import Check
from simulations.audit_picture import draw, picture
from simulations.audit_report import p_text, save, table
from tests.simulations.canaries import configured

FEDWARD = Path(sys.executable).with_name("fedward")
SMALL = """
name: small
privacy: {mode: distributed, epsilon: 4.0}
canaries: 100
"""


@pytest.fixture(scope="module")
def passed() -> Audit:
    return audit(configured(canaries=100, seed=1))


@pytest.fixture(scope="module")
def failed(passed: Audit) -> Audit:
    """The same evidence without noise, and with a hole."""
    inside_MC = passed.evidence.inside_M[:, None]
    evidence = replace(
        passed.evidence,
        moves_MC=passed.claim.signal * inside_MC * passed.config.direction_MC,
        hole="the loss couples records $x$ of [bold]a batch[/bold]",
    )
    return Audit(
        config=passed.config,
        job=passed.job,
        claim=passed.claim,
        evidence=evidence,
        encrypted=False,
    )


def told(found: Audit) -> str:
    console = Console(width=90, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table(found))
    return capture.get()


def texts(figure: Figure) -> str:
    own = [text.get_text() for text in figure.texts]
    return "\n".join(own + [text.get_text() for axes in figure.axes for text in axes.texts])


def test_the_table_has_every_check_and_the_verdict(passed: Audit, failed: Audit) -> None:
    shown = told(passed)
    for check in passed.checks:
        assert check.name in shown
    assert "PASS: 8 checks on 100 canaries" in " ".join(shown.split())
    assert SEEDED_NOTE in shown
    assert "ALARM" not in shown
    shown = told(failed)
    assert shown.count("ALARM") == sum(not check.passed for check in failed.checks)
    assert "[bold]" in shown
    assert REFUSED_NOTE in " ".join(shown.split())


@pytest.mark.parametrize(
    ("p", "text"), [(None, ""), (1.0, "1"), (0.0312, "0.031"), (2e-7, "2e-07"), (1e-12, "< 1e-11")]
)
def test_p_values_are_read_by_people(p: float | None, text: str) -> None:
    assert p_text(Check(name="noise", passed=True, p_value=p, finding="")) == text


def test_files_hold_what_was_found(passed: Audit, tmp_path: Path) -> None:
    paths = save(passed, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["audit.json", "audit.png"]
    assert json.loads(paths[0].read_text(encoding="utf-8")) == passed.to_json()
    pixels = matplotlib.image.imread(paths[1])
    assert pixels.shape[1] > 1000
    assert float(np.std(pixels)) > 0.05


def test_a_folder_that_cannot_be_is_one_line(passed: Audit, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="choose --out"):
        save(passed, tmp_path / "taken")


def test_equal_audits_give_equal_pictures(passed: Audit) -> None:
    assert picture(passed) == picture(passed)


def test_the_picture_says_what_is_claimed_and_found(passed: Audit, failed: Audit) -> None:
    shown = texts(draw(passed))
    assert "PASS" in shown
    assert "4.00" in shown
    assert f"≥ {passed.weights.one_run_bound:.2f}" in shown
    assert shown.count("\nok") == 8
    assert SEEDED_NOTE in shown
    shown = texts(draw(failed))
    assert "FAULT" in shown
    assert "none that is finite" in shown
    assert REFUSED_NOTE in shown
    assert "ALARM" in shown


def test_every_text_of_the_picture_lies_inside_it(passed: Audit, failed: Audit) -> None:
    for found in (passed, failed):
        figure = draw(found)
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
            box = text.get_window_extent()
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= width, text.get_text()
            assert box.y0 >= 0, text.get_text()
            assert box.y1 <= height, text.get_text()


def test_scores_are_drawn_where_the_claim_puts_them(passed: Audit) -> None:
    axes = draw(passed).axes[0]
    outside, inside = (line.get_xydata() for line in axes.lines[:2])
    peaks = [float(np.asarray(xy)[np.asarray(xy)[:, 1].argmax(), 0]) for xy in (outside, inside)]
    shift = passed.claim.signal / passed.claim.noise
    assert peaks == pytest.approx([0.0, shift], abs=0.02)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_the_command_prints_one_object(small: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [FEDWARD, "audit", small, "--json", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["passed"]
    assert found["encrypted"]
    assert found["configuration"]["canaries"] == 100
    assert found == json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))


def test_a_pass_is_shown_and_saved(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(str(small), out=tmp_path / "out")
    shown = capsys.readouterr()
    assert "PASS" in shown.out
    assert "audit.png" in shown.err


def test_results_go_beside_those_of_simulations(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command(str(small), quiet=True)
    assert (tmp_path / "results" / "small" / "audit.png").exists()


def test_a_fault_is_exit_code_1(
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failed: Audit,
) -> None:
    def found(*_: object, watch: Callable[[str], None]) -> Audit:
        watch("training")
        return failed

    monkeypatch.setattr("simulations.audit.audit", found)
    monkeypatch.setattr(sys, "argv", ["fedward", "audit", str(small), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as end:
        fedward.main()
    assert end.value.code == 1
    assert "FAULT" in capsys.readouterr().out
    with pytest.raises(typer.Exit) as direct:
        command(str(small), out=tmp_path / "o", as_json=True)
    assert direct.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_a_configuration_of_something_else_is_one_line() -> None:
    done = subprocess.run([FEDWARD, "audit", "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "unknown key" in done.stderr
