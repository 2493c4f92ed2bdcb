"""Hospitals' files for `fedward client data-check`: a few rows, and a ward of sixty."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from client.data_check import data_check
from protocol.errors import InputError

FEDWARD = Path(sys.executable).with_name("fedward")
SECRET = "Zaphod-4711"  # noqa: S105 - nobody's
TELLING = "87.65432109"
"""A number that is no round one, for the same purpose."""
ROWS = 60
Report = Callable[..., tuple[dict[str, Any], str]]
"""data-check over `Files`: the JSON document, and the complaint, empty where there is none."""

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 120},
        {"name": "lactate", "kind": "number", "low": 0, "high": 20, "may_be_missing": True},
        {"name": "sex", "kind": "category", "categories": ["f", "m"]},
        {"name": "smoker", "kind": "flag"},
    ],
    "label": {"name": "sepsis", "classes": ["no", "yes"]},
    "patient": "patient",
    "time": "admitted",
}
CLEAN: dict[str, Sequence[str]] = {
    "age": ["50", "60", "70", "80"],
    "lactate": ["1.5", "", "2", "4"],
    "sex": ["f", "m", "f", "m"],
    "smoker": ["yes", "no", "0", "1"],
    "sepsis": ["no", "yes", "no", "yes"],
    "patient": ["a", "b", "a", "c"],
    "admitted": ["2026-01-01", "", "2026-01-02", "2026-01-03"],
}
WARD: dict[str, Any] = {
    "columns": [
        {
            "name": "glucose", "kind": "number", "unit": "mmol/l", "low": 0, "high": 40,
            "centre": 6, "spread": 2, "molar_mass": 180.156,
        },
        {"name": "temperature", "kind": "number", "unit": "degC", "low": 30, "high": 45},
        {"name": "crp", "kind": "number", "low": 0, "high": 500, "may_be_missing": True},
        *(
            {"name": name, "kind": "number", "low": 0, "high": 1}
            for name in ("a", "b", "c")
        ),
        {"name": "ward", "kind": "category", "categories": ["icu", "er", "op"]},
        {"name": "smoker", "kind": "flag", "may_be_missing": True},
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
    "patient": "patient",
}  # fmt: skip


def ward_cells() -> dict[str, list[str]]:
    rng = np.random.default_rng(1)
    return {
        "glucose": [f"{value:.2f}" for value in 4 + 5 * rng.random(ROWS)],
        "temperature": [f"{value:.1f}" for value in 36 + 3 * rng.random(ROWS)],
        "crp": ["" if row % 7 == 0 else str(row) for row in range(ROWS)],
        **{name: [f"{value:.4f}" for value in rng.random(ROWS)] for name in ("a", "b", "c")},
        "ward": [("icu", "er", "op")[row % 3] for row in range(ROWS)],
        "smoker": [("yes", "no")[row % 4 // 2] for row in range(ROWS)],
        "ill": [("no", "yes")[row % 2] for row in range(ROWS)],
        "patient": [f"P{row // 2 + 10:03}" for row in range(ROWS)],
    }


def _write_csv(folder: Path, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    with (folder / "records.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return {"kind": "csv", "path": "records.csv"}


def _write_parquet(folder: Path, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    pl.DataFrame(columns).write_parquet(folder / "records.parquet")
    return {"kind": "parquet", "path": "records.parquet"}


def _write_sqlite(folder: Path, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    marks = ", ".join("?" * len(columns))
    with sqlite3.connect(folder / "records.sqlite") as connection:
        connection.execute(f"CREATE TABLE records ({', '.join(columns)})")
        rows = zip(*columns.values(), strict=True)
        connection.executemany(f"INSERT INTO records VALUES ({marks})", rows)  # noqa: S608
    connection.close()
    database = {"url": "sqlite:///records.sqlite"}
    return {"kind": "sql", "database": database, "query": "SELECT * FROM records"}


SOURCES = {"csv": _write_csv, "parquet": _write_parquet, "sqlite": _write_sqlite}
"""By kind: writes records and returns the source's configuration."""


class Files:
    """A hospital's configuration, its records and a job, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hospital = folder / "hospital.yaml"
        self.job = folder / "job.yaml"
        self.records(CLEAN)
        self.datasets("sepsis")
        self.document({"dataset": "sepsis", "schema": SCHEMA, "min_sites": "not looked at"})

    def datasets(self, *names: str, columns: Mapping[str, str] | None = None, **more: str) -> None:
        source = {"kind": "csv", "path": "records.csv", "columns": dict(columns or {})}
        self.source(source, *names, **more)

    def source(self, source: Mapping[str, Any], *names: str, **more: str) -> None:
        config = {
            "name": "north",
            "datasets": {name: {"source": source, "population": "all", **more} for name in names},
            "populations": {"all": {}},
        }
        self.hospital.write_text(json.dumps(config))

    def records(self, columns: Mapping[str, Sequence[str]]) -> None:
        _write_csv(self.folder, columns)

    def plant(self, **columns: Sequence[str]) -> None:
        self.records({**CLEAN, **columns})

    def document(self, content: object) -> None:
        self.job.write_text(json.dumps(content))

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FEDWARD, "client", "data-check", self.hospital, self.job, *options],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )


class Ward:
    """A hospital's files; `check` returns the document, the complaint and the page."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "job.yaml").write_text(json.dumps({"dataset": "icu", "schema": WARD}))

    def check(
        self,
        planted: Mapping[str, Sequence[str] | None],
        units: Mapping[str, str] | None = None,
        patient: str | None = None,
    ) -> tuple[dict[str, Any], str, str]:
        table = {name: cells for name, cells in {**ward_cells(), **planted}.items() if cells}
        with (self.folder / "icu.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        source = {"kind": "csv", "path": "icu.csv", "units": dict(units or {})}
        dataset = {"source": source, "population": "all", "patient": patient}
        hospital = {"name": "n", "datasets": {"icu": dataset}, "populations": {"all": {}}}
        (self.folder / "hospital.yaml").write_text(json.dumps(hospital))
        complaint, report = "", self.folder / "check.html"
        try:
            data_check(
                self.folder / "hospital.yaml",
                self.folder / "job.yaml",
                as_json=True,
                report=report,
            )
        except InputError as error:
            complaint = str(error)
        return json.loads(self._capsys.readouterr().out), complaint, report.read_text()
