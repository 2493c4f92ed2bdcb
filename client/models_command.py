"""`fedward client models`: what this hospital's node has finished, and which version is in use."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from client.hospital import HospitalConfig
from client.up_command import Config
from learning.artefact import models, verify, versions
from learning.card import ModelCard
from learning.card_page import page
from learning.promotion import load_record, promote, remove, rollback, superseded
from protocol.config import read
from protocol.errors import FedwardError, InputError
from protocol.signing import SigningKey

app = typer.Typer(no_args_is_help=True, add_completion=False)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="NAME[/VERSION]",
        help="The model; without a version the one in use, else the newest.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_REFERENCE = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})(?:/([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, kw_only=True)
class _Store:
    """The store of a hospital, and who signs there."""

    folder: Path
    signer: str

    @classmethod
    def of(cls, config: Path) -> _Store:
        hospital = read(HospitalConfig, config)
        key = SigningKey.load(config.parent / hospital.keys / "signing.key")
        return cls(folder=config.parent / hospital.models, signer=key.fingerprint)

    def place(self, reference: str) -> Path:
        """The folder of a model that was named on the command line."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise InputError("a model", expected="NAME or NAME/VERSION, such as 'sepsis/2'")
        name, version = match.groups()
        there = versions(self.folder, name)
        if not there:
            known = ", ".join(dict.fromkeys(name for name, _ in models(self.folder)))
            raise InputError(f"no model {name!r} is in the store", expected=known or "any model")
        chosen = version or load_record(self.folder, name).promoted or there[-1]
        return self.folder / name / str(chosen)

    def verify(self, place: Path) -> ModelCard:
        """The card of a model that this hospital's node has signed."""
        return verify(place, {self.signer})


@app.callback()
def _models() -> None:
    """Look after the models that this hospital's node has finished.

    Every finished job is a version of the model of its name. Nothing is served until somebody
    promotes a version; `rollback` goes back to the one that was in use before.
    """


@app.command("list")
def list_models(config: Config, *, as_json: Json = False) -> None:
    """List every model with its versions, and say which is in use."""
    store = _Store.of(config)
    rows = [_row(store, name, version) for name, version in models(store.folder)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(_table(rows) if rows else "no job has finished yet")


def _row(store: _Store, name: str, version: int) -> dict[str, object]:
    """A version as programs read it; of one that does not verify, only what is wrong."""
    row: dict[str, object] = {
        "name": name,
        "version": version,
        "in_use": load_record(store.folder, name).promoted == version,
    }
    try:
        card = store.verify(store.folder / name / str(version))
    except FedwardError as error:
        return {**row, "state": str(error)}
    return {
        **row,
        "state": "verified",
        "created": card.created,
        "task": card.task.name,
        "mode": card.privacy.mode,
        "epsilon": card.privacy.epsilon_settled,
        "hospitals": card.cohort_size,
    }


def _table(rows: list[dict[str, object]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for name in ("model", "in use", "created", "task", "mode"):
        table.add_column(name)
    for name in ("epsilon", "hospitals"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for row in rows:
        epsilon = row.get("epsilon")
        cells = (
            f"{row['name']}/{row['version']}",
            "yes" if row["in_use"] else "",
            *(str(row.get(key, "")) for key in ("created", "task", "mode")),
            "" if epsilon is None else f"{epsilon:.4g}",
            str(row.get("hospitals", "")),
            str(row["state"]),
        )
        table.add_row(*map(Text, cells))
    return table


@app.command()
def show(config: Config, model: Reference, *, as_json: Json = False) -> None:
    """Show a model's card: what it is for, how good and how private it is."""
    store = _Store.of(config)
    card = store.verify(store.place(model))
    if as_json:
        typer.echo(card.to_bytes().decode(), nl=False)
    else:
        Console().print(Markdown(page(card)))


@app.command("verify")
def verify_models(
    config: Config,
    model: Annotated[
        str | None, typer.Argument(metavar="[NAME[/VERSION]]", help="One model instead of all.")
    ] = None,
) -> None:
    """Compare models with their checksums and their signature; leave with code 1 if one differs."""
    store = _Store.of(config)
    places = [store.folder / name / str(version) for name, version in models(store.folder)]
    wrong = 0
    for place in places if model is None else [store.place(model)]:
        try:
            typer.echo(f"verified {store.verify(place).label}")
        except FedwardError as error:
            wrong += 1
            typer.echo(f"refused {place.parent.name}/{place.name}: {error}", err=True)
    typer.echo(f"signer {store.signer}")
    if wrong:
        raise typer.Exit(1)


@app.command("promote")
def promote_model(config: Config, model: Reference) -> None:
    """Put a version into use; a server over this store changes to it without a pause."""
    store = _Store.of(config)
    place = store.place(model if "/" in model else f"{model}/{_newest(store, model)}")
    card = store.verify(place)
    promote(store.folder, card.name, card.version, datetime.now(UTC))
    typer.echo(f"in use: {card.label}")


def _newest(store: _Store, name: str) -> int:
    """The highest version, which is what promotion without a version means."""
    return (versions(store.folder, name) or (1,))[-1] if _REFERENCE.fullmatch(name) else 1


@app.command("rollback")
def rollback_model(config: Config, name: Name) -> None:
    """Put the version into use again that was in use before."""
    store = _Store.of(config)
    past = load_record(store.folder, name).promoted
    record = rollback(store.folder, name, datetime.now(UTC))
    typer.echo(f"in use: {name}/{record.promoted}, no longer {name}/{past}")


@app.command()
def export(
    config: Config,
    model: Reference,
    target: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Copy a verified model out of the store, with its card as a page.

    The folder has card, weights (safetensors), checksums (try `sha256sum -c SHA256SUMS` there), the
    node's signature, and CARD.md.
    """
    store = _Store.of(config)
    place = store.place(model)
    card = store.verify(place)
    if target.exists():
        raise InputError(f"{target} exists already", remedy="choose another folder")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as draft:
            copy = Path(draft) / card.name
            shutil.copytree(place, copy)
            (copy / "CARD.md").write_text(page(card), encoding="utf-8")
            copy.rename(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written", found=error.strerror) from None
    typer.echo(f"exported {card.label} to {target}")


@app.command("remove")
def remove_models(
    config: Config,
    model: Reference,
    *,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1, help="Given a name: remove all but this many newest versions and the one in use."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a version, or all that retention does not keep; the one in use always stays.

    The number of a removed version is never given again.
    """
    if ("/" in model) == (keep is not None):
        raise InputError("what to remove", expected="either NAME/VERSION, or NAME with --keep")
    store = _Store.of(config)
    place = store.place(model)
    name = place.parent.name if keep is None else model
    chosen = (int(place.name),) if keep is None else superseded(store.folder, name, keep)
    told = ", ".join(f"{name}/{version}" for version in chosen) or "nothing"
    if chosen and not yes:
        typer.confirm(f"Delete {told} for good?", abort=True)
    if chosen:
        remove(store.folder, name, chosen)
    typer.echo(f"removed {told}")
