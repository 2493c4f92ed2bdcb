"""How long and how much memory it takes to train on a source that is larger than memory allows.

    python benchmarks/sources.py [--json [FILE]] [--rows 5000000] [--kinds csv parquet sqlite]

Every kind of source is written to a temporary folder and read by a fresh process, whose largest
memory the operating system tells: from the files to both sides of the split, and one step of
training on all records. Numbers are invented; a patient has five rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from report import how_many, parser_of, publish

from client.data.config import CsvConfig, Database, ParquetConfig, SourceConfig, SqlConfig
from client.data.gathering import gather_sides
from client.data.opening import open_source
from client.data.split import is_held_out
from learning.task import load_task
from learning.trainer import PlainGradient
from protocol.jobs import Named

ROWS = 5_000_000
CHUNK = 100_000
NUMBERS = tuple(f"x{place}" for place in range(12))
TARGET_MB = 1500
HEADINGS = {
    "kind": "kind",
    "file_mb": "file MB",
    "records": "records",
    "read_s": "read s",
    "step_s": "step s",
    "records_mb": "records MB",
    "memory_mb": "peak MB",
}
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": name, "kind": "number", "low": -5, "high": 5, "spread": 1} for name in NUMBERS
    ],
    "label": {"name": "ill", "classes": ["0", "1"]},
    "patient": "patient",
}
KINDS: dict[str, SourceConfig] = {
    "csv": CsvConfig(kind="csv", path=Path("records.csv")),
    "parquet": ParquetConfig(kind="parquet", path=Path("parts")),
    "sqlite": SqlConfig(
        kind="sql",
        database=Database(url="sqlite:///records.sqlite"),
        query="SELECT * FROM records",
    ),
}


def chunks(rows: int) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Numbers and labels, a chunk at a time; the first row's place says the patients."""
    rng = np.random.Generator(np.random.PCG64(1))
    for start in range(0, rows, CHUNK):
        x_NF = rng.normal(size=(min(CHUNK, rows - start), len(NUMBERS))).round(3)
        yield x_NF, (x_NF[:, 0] + rng.normal(size=len(x_NF)) > 0).astype(np.int64)


def write(kind: str, rows: int, folder: Path) -> None:
    writers = {"csv": write_csv, "parquet": write_parquet, "sqlite": write_sqlite}
    writers[kind](rows, folder)


def write_csv(rows: int, folder: Path) -> None:
    start = 0
    with (folder / "records.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(("patient", *NUMBERS, "ill")) + "\n")
        for x_NF, y_N in chunks(rows):
            patient_N = (start + np.arange(len(y_N))) // 5
            table = np.column_stack([patient_N, x_NF, y_N])
            np.savetxt(file, table, delimiter=",", fmt=["%d", *["%.3f"] * len(NUMBERS), "%d"])
            start += len(y_N)


def write_parquet(rows: int, folder: Path) -> None:
    import polars as pl  # noqa: PLC0415 - the reading process shall not have it from here

    (folder / "parts").mkdir()
    start = 0
    for x_NF, y_N in chunks(rows):
        columns = {name: x_NF[:, place] for place, name in enumerate(NUMBERS)}
        patient_N = (start + np.arange(len(y_N))) // 5
        frame = pl.DataFrame({"patient": patient_N, **columns, "ill": y_N})
        frame.write_parquet(folder / "parts" / f"{start:09}.parquet")
        start += len(y_N)


def write_sqlite(rows: int, folder: Path) -> None:
    names = ", ".join(("patient", *NUMBERS, "ill"))
    marks = ", ".join("?" * (len(NUMBERS) + 2))
    start = 0
    with sqlite3.connect(folder / "records.sqlite") as connection:
        connection.execute(f"CREATE TABLE records ({names})")
        for x_NF, y_N in chunks(rows):
            patient_N = (start + np.arange(len(y_N))) // 5
            columns = (patient_N.tolist(), *x_NF.T.tolist(), y_N.tolist())
            insert = f"INSERT INTO records VALUES ({marks})"  # noqa: S608
            connection.executemany(insert, zip(*columns, strict=True))
            start += len(y_N)
    connection.close()


def train(kind: str, folder: Path) -> dict[str, float]:
    """Gather both sides and take one gradient over all training records."""
    task = load_task(Named(name="diagnosis", options={}), SCHEMA)
    begun = time.perf_counter()
    (records, _), (held, _) = gather_sides(
        open_source(KINDS[kind], folder),
        task,
        identity=("patient",),
        held_out=lambda identity: is_held_out(identity, b"k" * 32, 0.2),
        units={},
    )
    read = time.perf_counter()
    gradient = PlainGradient(task, len(records))
    gradient(records, task.initial(0), 0)
    return {
        "records": len(records) + len(held),
        "read_s": read - begun,
        "step_s": time.perf_counter() - read,
        "records_mb": (records.x_NF.nbytes + held.x_NF.nbytes) / 1e6,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(kind: str, rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write(kind, rows, Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        command = [sys.executable, __file__, "--child", kind, folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {"kind": kind, "file_mb": size / 1e6, **json.loads(done.stdout)}


def main() -> None:
    """Print the table; exit code 1 where a process takes more memory than is allowed."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=how_many, default=ROWS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(train(options.child[0], Path(options.child[1]))))
        return
    rows = [measure(kind, options.rows) for kind in options.kinds]
    publish(
        "Gathering and one step of training",
        rows,
        target=options.json,
        packages=("numpy", "torch", "polars"),
        headings=HEADINGS,
        notes=[f"At most {TARGET_MB:,} MB of memory are allowed."],
    )
    sys.exit(any(row["memory_mb"] > TARGET_MB for row in rows))


if __name__ == "__main__":
    main()
