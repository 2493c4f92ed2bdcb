"""A store of signed models, and a server over it in a process of its own."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from learning.artefact import load, save
from learning.promotion import promote
from learning.task import FloatVector, Metric
from protocol.jobs import Named
from protocol.signing import SigningKey
from serving.config import ServedModel
from serving.loading import Catalogue
from tests.models import card_of, invented_weights

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "low": 0, "high": 120},
        {"name": "ward", "kind": "category", "categories": ["a", "b", "3"]},
        {"name": "smoker", "kind": "flag", "may_be_missing": True},
        {"name": "pulse", "kind": "array", "shape": [4, 2], "low": 0, "high": 200},
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
}
PLAIN: dict[str, Any] = {**SCHEMA, "columns": SCHEMA["columns"][:1]}
TASK = Named(name="diagnosis", options={"model": "mlp", "hidden": [5]})
KEY = SigningKey.from_seed(bytes(range(32)))
SERVED = (ServedModel(name="sepsis"), ServedModel(name="age"))


def weights_of(schema: dict[str, Any], version: int, task: Named = TASK) -> FloatVector:
    return invented_weights(task, schema, version)


def add(
    store: Path,
    name: str,
    schema: dict[str, Any],
    version: int,
    task: Named = TASK,
    metrics: Mapping[str, Metric] | None = None,
) -> Path:
    """Store a version, signed."""
    weights_P = weights_of(schema, version, task)
    told = {"name": name, "version": version, "metrics": metrics or {}}
    card = card_of(task, schema, weights_P, **told)
    return save(store, card, weights_P, KEY)


def fill(store: Path) -> None:
    """Two versions of `sepsis` and one of `age`; the first of each is in use."""
    add(store, "sepsis", SCHEMA, 1)
    add(store, "sepsis", SCHEMA, 2)
    add(store, "age", PLAIN, 1)
    for name in ("sepsis", "age"):
        put(store, name, 1)


def put(store: Path, name: str, version: int) -> None:
    promote(store, name, version, datetime.now(UTC))


def catalogue(store: Path) -> Catalogue:
    made = Catalogue(store, [KEY.fingerprint], SERVED, 4096)
    made.load()
    return made


ROWS: dict[str, Any] = {
    "age": np.array([[60.0], [np.nan], [300.0]]),
    "ward": np.array([["a"], ["x"], ["3"]], dtype=object),
    "smoker": np.array([[True], [False], [True]]),
    "pulse": np.arange(24, dtype=np.float64).reshape(3, 4, 2),
}
TYPES = {"age": "FP64", "ward": "BYTES", "smoker": "BOOL", "pulse": "FP64"}


def expected(store: Path, version: int = 1) -> np.ndarray[Any, Any]:
    """What the task itself predicts of ROWS."""
    model = load(store / "sepsis" / str(version))
    table = {
        name: rows if name == "pulse" else rows.reshape(-1).tolist() for name, rows in ROWS.items()
    }
    return model.predict(model.task.features(table)[0])


def _listed(rows: np.ndarray[Any, Any]) -> list[Any]:
    values = rows.reshape(-1).tolist()
    return [None if isinstance(one, float) and math.isnan(one) else one for one in values]


def body(**changes: Any) -> dict[str, Any]:
    """ROWS as a JSON request."""
    inputs = [
        {
            "name": name,
            "datatype": TYPES[name],
            "shape": list(rows.shape),
            "data": _listed(rows),
        }
        for name, rows in ROWS.items()
    ]
    return {"id": "7", "inputs": inputs, **changes}


def configure(folder: Path, **changes: Any) -> Path:
    """A configuration whose servers take any free port of this machine."""
    config = {
        "store": "models",
        "signers": [KEY.fingerprint],
        "models": [{"name": "sepsis"}, {"name": "age"}],
        "rest": "127.0.0.1:0",
        "grpc": "127.0.0.1:0",
        "refresh_s": 0.05,
        **changes,
    }
    path = folder / "serving.yaml"
    path.write_text(json.dumps(config))
    return path


@dataclass(frozen=True)
class Running:
    """A server process and its addresses."""

    process: subprocess.Popen[str]
    rest: str
    grpc: str

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def serving(config: Path) -> Iterator[Running]:
    """Run `fedward serve` until the block ends."""
    command = [str(Path(sys.executable).with_name("fedward")), "serve", str(config)]
    log = config.with_suffix(".log")
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ}
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving: REST (\S+), gRPC (\S+)\n", line)
        assert found is not None, log.read_text()
        yield Running(process, *found.groups())
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def until(true: Any, seconds: float = 10.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
