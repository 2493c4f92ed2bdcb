"""Bytes that a hospital uploads per value of an update, measured on the messages of real rounds.

    python benchmarks/upload.py [--values 1000000] [--json [FILE]]

Five virtual hospitals run a job of one round in each mode; a row divides the bytes of their
answers, presence and tag words, headers and signatures included, by hospitals and values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import Row, from_on, parser_of, publish, refusing

from learning.task import load_task
from privacy.plan import PrivacyRequest
from protocol.jobs import Job, Named, Site
from server.jobs import resolve
from server.launch import Outcome
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


def run_case(
    privacy: PrivacyRequest,
    encryption: EncryptionRequest,
    *,
    hidden: Sequence[int],
    schema: dict[str, Any],
    shares: Mapping[str, Mapping[str, list[str]]],
    rounds: int = 1,
) -> tuple[Job, Outcome]:
    """A job of virtual hospitals, from founding them to the finished model."""
    task = Named(name="diagnosis", options={"model": "mlp", "hidden": list(hidden)})
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
        sizes = declared(consortium.splits(load_task(task, schema)))
        request = JobRequest(
            name="upload",
            dataset="upload",
            schema=schema,
            task=task,
            sites=tuple(Site(name=n, train_size=a, test_size=b) for n, (a, b) in sizes.items()),
            intended_use="measurement",
            privacy=privacy,
            encryption=encryption,
            training=TrainingRequest(rounds=rounds),
            evaluation=EvaluationRequest(enabled=False),
        )
        job = resolve(request, consortium.origin())
        return job, run_job(consortium, job)


def measure(values: int) -> list[Row]:
    """One row per case."""
    width = int(np.sqrt(values)) - 2
    rng = np.random.Generator(np.random.PCG64(0))
    shares = {
        name: {
            "dose": [f"{value:.4f}" for value in rng.uniform(-1, 1, ROWS)],
            "ill": ["yes" if value else "no" for value in rng.integers(0, 2, ROWS)],
        }
        for name in hospital_names(HOSPITALS)
    }
    rows: list[Row] = []
    for name, (privacy, encryption) in CASES.items():
        job, outcome = run_case(
            privacy, encryption, hidden=[width, width], schema=SCHEMA, shares=shares
        )
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
    parser = parser_of(__doc__)
    parser.add_argument("--values", type=from_on(9), default=1_000_000, help="a model's parameters")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with refusing(parser):
        rows = measure(arguments.values)
    publish(
        "Upload per value",
        rows,
        target=arguments.json,
        packages=["fedward", "tenseal", "torch"],
    )


if __name__ == "__main__":
    main()
