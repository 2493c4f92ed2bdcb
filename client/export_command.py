"""`fedward client models export`: a finished model for other programs."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.hospital import Hospital
from client.model_store import ModelStore, Reference
from client.up_command import Config
from learning.artefact import load
from learning.card_page import page
from protocol.errors import InputError

if TYPE_CHECKING:
    from learning.export import Export

COPY = "copy"


def export(
    config: Config,
    model: Reference,
    *,
    to: Annotated[Path, typer.Option(metavar="DIR", help="A folder that does not exist yet.")],
    format_: Annotated[
        str, typer.Option("--format", help="copy, onnx, torch, triton or int8.")
    ] = COPY,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="For int8: count on this data set's held-out patients what 8 bits change.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a verified model out of the store, for other programs.

    copy: card, weights (safetensors), checksums (try `sha256sum -c SHA256SUMS` there), the node's
    signature, and CARD.md. onnx: one file in single precision. torch: a program of torch.export in
    double precision. triton: a model repository for Triton Inference Server. int8: ONNX with
    weights of 8 bits, and what they change.

    Preprocessing is inside: values go in as the hospital measures them. export.json says which
    inputs the model has. Every export is run and compared with the node's own predictions.
    """
    if held_out is not None and format_ != "int8":
        raise InputError("--held-out belongs to --format int8", found=format_)
    store = ModelStore.of(config)
    place = store.place(model)
    card = store.verify(place)
    if to.exists():
        raise InputError(f"{to} exists already", remedy="choose another folder")
    made = None
    try:
        with tempfile.TemporaryDirectory(dir=to.parent) as draft:
            folder = Path(draft) / card.name
            if format_ == COPY:
                shutil.copytree(place, folder)
                (folder / "CARD.md").write_text(page(card), encoding="utf-8")
            else:
                folder.mkdir()
                made = _exported(store, place, format_, folder, (config, held_out))
            folder.rename(to)
    except OSError as error:
        raise InputError(f"{to} cannot be written", found=error.strerror) from None
    if as_json:
        told = {"model": card.label, "format": COPY} if made is None else asdict(made)
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    typer.echo(f"exported {card.label} to {to}")
    if made is not None:
        _tell(made)


def _exported(
    store: ModelStore, place: Path, format_: str, folder: Path, data: tuple[Path, str | None]
) -> Export:
    """Write the model in a format that torch is needed for."""
    from learning import export as formats  # noqa: PLC0415 - loads torch

    kinds = {kind: kind for kind in formats.FORMATS}
    if format_ not in kinds:
        raise InputError("--format", expected=", ".join((COPY, *kinds)), found=repr(format_))
    model = load(place, {store.signer})
    config, dataset = data
    if dataset is None:
        return formats.export(model, kinds[format_], folder)
    with Hospital.open(config) as hospital:
        if hospital.population(dataset) is None:
            known = ", ".join(sorted(hospital.config.datasets))
            raise InputError("--held-out", expected=known or "a data set", found=repr(dataset))
        records = hospital.split(dataset, model.task, cache=model.card.label).test
    return formats.export(model, kinds[format_], folder, records)


def _tell(made: Export) -> None:
    check = made.check
    typer.echo(
        f"checked in requests of {', '.join(map(str, check.rows))} rows: largest difference "
        f"{check.deviation:.2g}, allowed {check.tolerance:g}"
    )
    change = made.int8
    if change is None:
        return
    typer.echo(
        f"8 bits, {change.of}: differences up to {change.largest:.2g}, {change.mean:.2g} in the "
        f"mean, the same answer in {change.same_answer:.1%}; {change.bytes_int8} bytes instead of "
        f"{change.bytes_single}"
    )
    if change.measure is not None:
        typer.echo(f"{change.measure} {change.measure_single:.4f} -> {change.measure_int8:.4f}")
