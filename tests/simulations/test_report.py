"""Reports: what is saved, what the table says, and that warnings are in all of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from protocol.errors import InputError
from simulations.report import save, table
from simulations.results import HospitalSummary, Result, Row

SEEDED = "noise was seeded: these runs protect nobody"


def result(*notes: str, name: str = "demo") -> Result:
    """One result with arms in no order, for this file and its neighbours."""
    return Result(
        name=name,
        rows=(
            Row(arm="local", scores=(0.95, 0.97), epsilon=1.0, epsilon_worst=1.0),
            Row(
                arm="distributed",
                scores=(0.98, 0.99),
                epsilon=3.0,
                epsilon_worst=6.811,
                seconds_per_round=0.25,
                bytes_up_per_round=228_912,
            ),
            Row(arm="distributed", scores=(0.96, 0.98), epsilon=1.0, epsilon_worst=2.1),
            Row(arm="clear", scores=(0.991, 0.993), seconds_per_round=1.5, bytes_up_per_round=870),
            Row(arm="pooled", scores=(0.99, 0.992)),
            Row(arm="local_only", scores=(0.9, 0.92, 0.94, 0.96)),
        ),
        delta=1e-5,
        seeds=(0, 1),
        model_sha256="c0ffee",
        hospitals=(
            HospitalSummary(name="north", train_size=91, test_size=23, positives=0.375),
            HospitalSummary(name="south", train_size=88, test_size=26, positives=0.4),
        ),
        notes=notes,
    )


def _text(shown: Result, width: int = 80) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(table(shown))
    return file.getvalue()


def test_the_table_has_the_arms_in_reading_order() -> None:
    lines = [line for line in _text(result()).splitlines() if "│" in line and "ε" not in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [
        ["local_only", "-", "-", "0.930 ± 0.026", "-", "-"],
        ["pooled", "-", "-", "0.991 ± 0.001", "-", "-"],
        ["clear", "-", "-", "0.992 ± 0.001", "1.50 s", "870 B"],
        ["distributed", "1", "2.1", "0.970 ± 0.014", "-", "-"],
        ["distributed", "3", "6.82", "0.985 ± 0.007", "250 ms", "228.9 kB"],
        ["local", "1", "1", "0.960 ± 0.014", "-", "-"],
    ]


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    assert "…" not in _text(result())


def test_the_table_says_what_it_is_and_warns() -> None:
    text = _text(result(SEEDED, name="a [bold]name"))
    assert "a [bold]name" in text
    assert "2 seeds (0 to 1), δ = 1e-5" in text
    assert SEEDED in text
    assert SEEDED not in _text(result())


def test_arms_are_compared_on_the_same_patients_seed_by_seed() -> None:
    words = " ".join(_text(result()).split())
    assert (
        "Against all data in one place, seed by seed: each hospital alone -0.061 ± 0.019;" in words
    )
    assert "federated, in the clear +0.001 ± 0.000;" in words
    assert "private, noise on the sum, ε = 3 -0.006 ± 0.004;" in words


def test_without_private_arms_there_is_no_delta() -> None:
    shown = Result(name="x", rows=(Row(arm="pooled", scores=(0.9,)),), delta=1e-5, seeds=(0,))
    assert "δ" not in _text(shown)
    assert "Against" not in _text(shown)
    assert "0.900" in _text(shown)


def test_three_files_are_saved_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "demo"
    paths = save(result(SEEDED), folder)
    assert [path.name for path in paths] == ["result.json", "result.png", "result.html"]
    first = [path.read_bytes() for path in paths]
    assert json.loads(first[0]) == result(SEEDED).to_json()
    assert first[1].startswith(b"\x89PNG\r\n\x1a\n")
    assert SEEDED.encode() in first[2]
    save(result(), folder)
    assert all(path.read_bytes() != old for path, old in zip(paths, first, strict=True))


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "results"
    place.write_text("")
    with pytest.raises(InputError, match="results cannot be written"):
        save(result(), place)
