"""The same records in every kind of source, for the suite that all of them must pass."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 7
AGES = (64, 71, None, 50, 38, 82, 45)
SEXES = ("f", "m", "f", None, "m", "f", "m")
PATIENTS = tuple(f"p{row}" for row in range(ROWS))


@dataclass(frozen=True)
class Case:
    """A kind of source: how its files come about, and which columns they have.

    `write` makes the files in a folder and returns the configuration.
    """

    write: Callable[[Path], dict[str, Any]]
    columns: Mapping[str, Sequence[str | float | None]]
    array: str | None = None


def table() -> dict[str, Sequence[Any]]:
    return {"patient": PATIENTS, "age": AGES, "sex": SEXES}


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(
            ["" if cell is None else cell for cell in row]
            for row in zip(*columns.values(), strict=True)
        )


def csv_source(folder: Path) -> dict[str, Any]:
    write_csv(folder / "records.csv", table())
    return {"kind": "csv", "path": "records.csv"}


def parquet_source(folder: Path) -> dict[str, Any]:
    import polars as pl

    frame = pl.DataFrame(table())
    (folder / "parts").mkdir()
    frame[:3].write_parquet(folder / "parts" / "a.parquet")
    frame[3:].write_parquet(folder / "parts" / "b.parquet")
    return {"kind": "parquet", "path": "parts"}


def parquet_arrays(folder: Path) -> dict[str, Any]:
    import polars as pl

    wave = pl.Series("wave", waves(1)[..., 0].tolist(), dtype=pl.List(pl.Float64))
    pl.DataFrame(table()).with_columns(wave).write_parquet(folder / "records.parquet")
    return {"kind": "parquet", "path": "records.parquet"}


def sqlite_source(folder: Path) -> dict[str, Any]:
    with sqlite3.connect(folder / "records.sqlite") as connection:
        connection.execute("CREATE TABLE stays (patient TEXT, age INTEGER, sex TEXT, ward TEXT)")
        rows = zip(*table().values(), ["ICU"] * ROWS, strict=True)
        connection.executemany("INSERT INTO stays VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return {
        "kind": "sql",
        "database": {"url": "sqlite:///records.sqlite"},
        "query": "SELECT patient, age, sex FROM stays WHERE ward = :ward ORDER BY patient;",
        "parameters": {"ward": "ICU"},
    }


def fhir_source(folder: Path) -> dict[str, Any]:
    genders = {"f": "female", "m": "male", None: "unknown"}
    people = [
        {
            "resourceType": "Patient",
            "id": patient,
            "gender": genders[sex],
            **({} if age is None else {"birthDate": f"{2026 - age}-01-01"}),
        }
        for patient, age, sex in zip(PATIENTS, AGES, SEXES, strict=True)
    ]
    for name, part in (("Patient.0", people[:4]), ("Patient.1", people[4:])):
        (folder / f"{name}.ndjson").write_text("".join(json.dumps(one) + "\n" for one in part))
    return {"kind": "fhir", "path": ".", "at": "2026-06-01"}


def waves(channels: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.arange(ROWS * 4 * channels, dtype=np.float64).reshape(ROWS, 4, channels)


def npz_source(folder: Path) -> dict[str, Any]:
    image_NHW = np.arange(ROWS * 6, dtype=np.uint8).reshape(ROWS, 2, 3)
    label_N1 = np.arange(ROWS)[:, None] % 2
    np.savez(
        folder / "medmnist.npz",
        train_images=image_NHW[:4],
        train_labels=label_N1[:4],
        val_images=image_NHW[4:5],
        val_labels=label_N1[4:5],
        test_images=image_NHW[5:],
        test_labels=label_N1[5:],
    )
    return {"kind": "npz", "path": "medmnist.npz"}


def images_source(folder: Path) -> dict[str, Any]:
    from PIL import Image

    for row in range(ROWS):
        kind = folder / "xray" / ("ill" if row < 3 else "well")
        kind.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), color=row).save(kind / f"p{row}_front.png")
    return {"kind": "images", "path": "xray", "size": [2, 3], "patient": r"^(p\d+)_"}


def series_source(folder: Path) -> dict[str, Any]:
    (folder / "ecg").mkdir()
    for row, series in enumerate(waves(2)):
        np.save(folder / "ecg" / f"{row}.npy", series)
    files = [f"{row}.npy" for row in range(ROWS)]
    write_csv(folder / "index.csv", {**table(), "file": files})
    return {"kind": "series", "path": "ecg", "index": "index.csv"}


def wfdb_source(folder: Path) -> dict[str, Any]:
    import wfdb

    (folder / "ecg").mkdir()
    for row, series in enumerate(waves(2)):
        write_waveform(wfdb, folder / "ecg" / f"r{row}", series)
    write_csv(folder / "index.csv", {**table(), "file": [f"r{row}" for row in range(ROWS)]})
    return {"kind": "wfdb", "path": "ecg", "index": "index.csv", "rate_hz": 100}


def write_waveform(wfdb: Any, path: Path, series: np.ndarray[Any, Any]) -> None:
    """A record of two channels in mV at 100 Hz, written as PhysioNet's own tools do."""
    told = {"units": ["mV", "mV"], "sig_name": ["I", "II"], "fmt": ["16", "16"]}
    gains = {"adc_gain": [1.0, 1.0], "baseline": [0, 0]}
    wfdb.wrsamp(path.name, 100, p_signal=series, write_dir=str(path.parent), **told, **gains)


def dicom_source(folder: Path) -> dict[str, Any]:
    from tests.dicom import image, save

    (folder / "ct").mkdir()
    for row in range(ROWS):
        save(image(np.full((2, 3), row), PatientID=f"p{row}"), folder / "ct" / f"{row}.dcm")
    index = {"file": [f"{row}.dcm" for row in range(ROWS)], "age": AGES, "sex": SEXES}
    write_csv(folder / "index.csv", index)
    tags = {"patient": "PatientID"}
    return {"kind": "dicom", "path": "ct", "index": "index.csv", "size": [2, 3], "tags": tags}


FLAT = table()
LABELS = ["ill"] * 3 + ["well"] * 4
CASES = {
    "csv": Case(csv_source, FLAT),
    "parquet": Case(parquet_source, FLAT),
    "parquet with arrays": Case(parquet_arrays, FLAT, "wave"),
    "sqlite": Case(sqlite_source, FLAT),
    "fhir": Case(fhir_source, FLAT),
    "npz": Case(npz_source, {"label": [row % 2 for row in range(ROWS)]}, "image"),
    "images": Case(images_source, {"patient": PATIENTS, "label": LABELS}, "image"),
    "series": Case(series_source, FLAT, "series"),
    "wfdb": Case(wfdb_source, FLAT, "series"),
    "dicom": Case(dicom_source, FLAT, "image"),
}
