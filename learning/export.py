"""A finished model for programs that are not this one: ONNX, torch, a repository of Triton, int8.

Every export is run before anybody gets it, on values that are drawn from the schema, against the
model's own predictions. What it was compared with and how far it was off stands beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from learning import export_onnx
from learning.artefact import Model
from learning.card_page import page
from learning.export_graph import (
    Arrays,
    Graph,
    Tensorial,
    sample,
    signature_in,
    signature_out,
    table_of,
)
from learning.export_int8 import Change, change, held_out_change
from learning.export_triton import config
from learning.readouts import scale_of
from learning.task import FloatArray, Records
from protocol.errors import InputError, IntegrityError

Format = Literal["onnx", "torch", "triton", "int8"]
FORMATS: tuple[Format, ...] = ("onnx", "torch", "triton", "int8")
TOLERANCE: Mapping[Format, float] = {"onnx": 1e-5, "torch": 1e-9, "triton": 1e-5, "int8": 1e-5}
BATCHES = (1, 2, 7, 64)
ONNX, TORCH, DESCRIPTION = "model.onnx", "model.pt2", "export.json"
_Run = Callable[[Arrays], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Check:
    """How an exported model was compared with the model's own predictions.

    Args:
        rows: Sizes of the requests.
        deviation: Largest difference; of forecasts, as a share of the label's bounds.
        tolerance: What it may be.
    """

    rows: tuple[int, ...]
    deviation: float
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class Export:
    """What stands beside an exported model.

    Args:
        model: Name and version.
        format: What was asked for.
        weights_sha256: Digest of the weights, as on the card.
        preprocessing: Version of the preprocessing, which is inside the exported model.
        intended_use: From the card.
        inputs: One a column of the schema, in order.
        output: What comes out.
        check: Of the model in single precision, where the format is int8.
        int8: What 8 bits changed.
    """

    model: str
    format: Format
    weights_sha256: str
    preprocessing: int
    intended_use: str
    inputs: tuple[Tensorial, ...]
    output: Tensorial
    check: Check
    int8: Change | None = None


def export(model: Model, kind: Format, folder: Path, held_out: Records | None = None) -> Export:
    """Write a model into an empty folder, with its card, a description and checksums.

    Guarantee: nothing of a patient is in it, unless held-out records are given: then what int8
    changed is counted on them, exactly and outside of any budget.

    Args:
        model: The finished model.
        kind: The format.
        folder: An empty folder.
        held_out: Features and targets of this hospital's held-out records, for int8.

    Raises:
        InputError: The model cannot be exported, the extra is not installed, or no record is held
            out.
        IntegrityError: The exported model predicts something else.
    """
    if held_out is not None and not len(held_out):
        raise InputError("no record is held out", remedy="leave --held-out away")
    if kind == "torch":
        made = _torch(model, folder)
    else:
        export_onnx.require()
        made = _onnx(model, kind, folder, held_out)
    card = model.card
    files = {
        "card.json": card.to_bytes(),
        "CARD.md": page(card).encode(),
        DESCRIPTION: (json.dumps(asdict(made), indent=2, ensure_ascii=False) + "\n").encode(),
    }
    place = folder / card.name if kind == "triton" else folder
    for name, data in files.items():
        (place / name).write_bytes(data)
    _sum(folder)
    return made


def _torch(model: Model, folder: Path) -> Export:
    """A program of torch.export, in double precision: it says what the node says."""
    graph = Graph(model)
    rows = torch.export.Dim("rows", min=1)
    values = tuple(map(torch.from_numpy, sample(model.task.schema, 2, _rng()).values()))
    program = torch.export.export(graph, values, dynamic_shapes=(tuple({0: rows} for _ in values),))
    torch.export.save(program, folder / TORCH)
    loaded = torch.export.load(folder / TORCH).module()

    def run(arrays: Arrays) -> FloatArray:
        with torch.no_grad():
            found: FloatArray = loaded(*map(torch.from_numpy, arrays.values())).numpy()
        return found

    return _described(model, "torch", "FP64", run)


def _onnx(model: Model, kind: Format, folder: Path, held_out: Records | None) -> Export:
    version = folder
    if kind == "triton":
        version = folder / model.card.name / str(model.card.version)
        version.mkdir(parents=True)
    inputs, output = signature_in(model.task.schema), signature_out(model, "FP32")
    graph, told, path = Graph(model, torch.float32), _told(model), version / ONNX
    export_onnx.write(graph, inputs, output, path, told)
    run = export_onnx.runner(path)
    made = _described(model, kind, "FP32", run)
    if kind == "triton":
        text = config(model.card.name, inputs, output, told)
        (version.parent / "config.pbtxt").write_text(text, encoding="utf-8")
    if kind != "int8":
        return made
    single = path.rename(folder / "single.onnx")
    export_onnx.quantise(single, path)
    changed = change(model, run, export_onnx.runner(path), (single, path))
    if held_out is not None:
        changed = held_out_change(model, changed, folder, held_out)
    single.unlink()
    return replace(made, int8=changed)


def _described(model: Model, kind: Format, datatype: str, run: _Run) -> Export:
    """The description of an export that has passed its check."""
    card = model.card
    return Export(
        model=card.label,
        format=kind,
        weights_sha256=card.digests.weights,
        preprocessing=card.preprocessing,
        intended_use=card.intended_use,
        inputs=signature_in(model.task.schema),
        output=signature_out(model, datatype),
        check=compare(model, run, TOLERANCE[kind]),
    )


def compare(model: Model, run: _Run, tolerance: float) -> Check:
    """Compare an exported model with the model's own predictions, in requests of several sizes.

    Raises:
        IntegrityError: They differ by more than the tolerance.
    """
    rng, schema, apart = _rng(), model.task.schema, []
    for rows in BATCHES:
        arrays = sample(schema, rows, rng)
        own_NC = model.predict(model.task.features(table_of(schema, arrays))[0])
        apart.append(np.abs(run(arrays) - own_NC).max())
    deviation = float(np.max(apart)) / scale_of(model.task)
    if not deviation <= tolerance:
        raise IntegrityError(
            f"model {model.card.label} would predict something else once it is exported",
            expected=f"differences of at most {tolerance:g}",
            found=f"{deviation:.3g}",
            remedy="export it with --format torch, which keeps double precision",
        )
    return Check(rows=BATCHES, deviation=deviation, tolerance=tolerance)


def _told(model: Model) -> dict[str, str]:
    """What an exported file says of itself."""
    card = model.card
    return {
        "model": card.label,
        "weights_sha256": card.digests.weights,
        "intended_use": card.intended_use,
        "preprocessing": f"version {card.preprocessing}, inside",
    }


def _sum(folder: Path) -> None:
    """Checksums of all files, as sha256sum writes them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in paths
    ]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _rng() -> np.random.Generator:
    """Public randomness: every export of a model is checked on the same values."""
    return np.random.Generator(np.random.PCG64(0))
