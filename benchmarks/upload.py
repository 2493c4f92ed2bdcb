"""Bytes that a hospital uploads per value of an update, measured on the messages of real rounds.

    python benchmarks/upload.py [--values 1000000] [--json]

Five virtual hospitals run a job of one round in each mode; a row divides the bytes of their
answers, presence and tag words, headers and signatures included, by hospitals and values.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from learning.task import load_task
from privacy.plan import PrivacyRequest
from protocol.jobs import Named, Site
from server.jobs import resolve
from server.requests import EncryptionRequest, EvaluationRequest, JobRequest, TrainingRequest
from simulations.consortium import declared, found, hospital_names
from simulations.engine import run_job

HOSPITALS, ROWS = 5, 200
SCHEMA: dict[str, Any] = {
    "columns": [{"name": "dose", "kind": "number", "low": -1, "high": 1}],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
CASES: dict[str, tuple[PrivacyRequest, EncryptionRequest]] = {
    "distributed": (PrivacyRequest(mode="distributed", epsilon=3.0), EncryptionRequest()),
    "distributed, clamped": (
        PrivacyRequest(mode="distributed", epsilon=3.0, coordinate_clamp=2.0**-6),
        EncryptionRequest(),
    ),
    **{
        f"{mode}, {bits} bit": (
            PrivacyRequest(mode=mode, epsilon=None if mode == "none" else 3.0),
            EncryptionRequest(digit_bits=bits),
        )
        for mode in ("local", "none")
        for bits in (8, 12, 16)
    },
}


def measure(values: int) -> list[dict[str, Any]]:
    """One row per case."""
    width = int(np.sqrt(values)) - 2
    task = Named(name="diagnosis", options={"model": "mlp", "hidden": [width, width]})
    rng = np.random.Generator(np.random.PCG64(0))
    shares = {
        name: {
            "dose": [f"{value:.4f}" for value in rng.uniform(-1, 1, ROWS)],
            "ill": ["yes" if value else "no" for value in rng.integers(0, 2, ROWS)],
        }
        for name in hospital_names(HOSPITALS)
    }
    rows = []
    for name, (privacy, encryption) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            consortium = found(
                Path(folder) / "consortium",
                shares,
                dataset="upload",
                test_fraction=0.0,
                modes=("distributed", "local", "none"),
                strategies=("fedsgd", "fedavg"),
                tasks=("diagnosis",),
                noise_seed=None,
                split_seed=0,
            )
            sizes = declared(consortium.splits(load_task(task, SCHEMA)))
            request = JobRequest(
                name="upload",
                dataset="upload",
                schema=SCHEMA,
                task=task,
                sites=tuple(Site(name=n, train_size=a, test_size=b) for n, (a, b) in sizes.items()),
                intended_use="measurement",
                privacy=privacy,
                encryption=encryption,
                training=TrainingRequest(rounds=1),
                evaluation=EvaluationRequest(enabled=False),
            )
            job = resolve(request, consortium.origin())
            outcome = run_job(consortium, job)
        event = next(event for event in outcome.events if event.kind == "round")
        length = job.privacy.update.length
        packing = job.encryption.update
        rows.append(
            {
                "case": name,
                "status": outcome.status,
                "values": length,
                "upload_bytes_per_value": event.bytes_up / HOSPITALS / length,
                "digits": 0 if packing is None else packing.digits_per_word,
                "q_bits": 0 if packing is None else packing.modulus.bit_length(),
                "seconds": event.seconds,
            }
        )
    return rows


def main() -> None:
    """Print the table or the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.values)
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table(
        title=f"Upload per value, {platform.machine()}, Python {platform.python_version()}"
    )
    headings = {"upload_bytes_per_value": "B per value"}
    for column in rows[0]:
        table.add_column(
            headings.get(column, column),
            justify="left" if column in ("case", "status") else "right",
        )
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
