"""`fedward client models`: what this hospital's node has finished, and which version is in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from client.confirmed import confirmed_by
from client.export_command import export
from client.model_store import REFERENCE, ModelStore, Reference
from client.up_command import Config
from learning.artefact import models, versions
from learning.card import ModelCard
from learning.card_page import page
from learning.promotion import load_record, promote, remove, rollback, superseded
from protocol.errors import FedwardError, InputError

app = typer.Typer(no_args_is_help=True, add_completion=False)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _models() -> None:
    """Look after the models that this hospital's node has finished.

    Every finished job is a version of the model of its name. Nothing is served until somebody
    promotes a version; `rollback` goes back to the one that was in use before.
    """


@app.command("list")
def list_models(config: Config, *, as_json: Json = False) -> None:
    """List every model with its versions, and say which is in use."""
    store = ModelStore.of(config)
    rows = [_row(store, name, version) for name, version in models(store.folder)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(_table(rows) if rows else "no job has finished yet")


def _row(store: ModelStore, name: str, version: int) -> dict[str, object]:
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
    store = ModelStore.of(config)
    card = store.verify(store.place(model))
    if as_json:
        typer.echo(card.to_bytes().decode(), nl=False)
    else:
        Console().print(Markdown(page(card) + _confirmed(store, store.place(model), card)))


def _confirmed(store: ModelStore, place: Path, card: ModelCard) -> str:
    """Who else holds the model, in Markdown; nothing where no signatures are kept."""
    found = confirmed_by(place)
    if found is None:
        return ""
    strange = set(_strange(store, found))
    told = "".join(
        f"- {name}: `{fingerprint}`{', not confirmed here' if name in strange else ''}\n"
        for name, fingerprint in sorted(found.items())
    )
    head = f"## Who signed that they hold the same ({len(found)} of {card.cohort_size})"
    return f"\n{head}\n\n{told}"


def _strange(store: ModelStore, found: Mapping[str, str]) -> list[str]:
    """Who signed with another key than the one that was confirmed under this name.

    Whoever may write to the store can sign as anybody, with keys of their own.
    """
    return sorted(name for name, digits in found.items() if store.known.get(name) != digits)


def _signed_by(store: ModelStore, place: Path) -> str:
    """The same as `_confirmed`, on one line."""
    try:
        found = confirmed_by(place)
    except InputError:
        # The model is whole; this installation cannot read its weights.
        return ", by whom confirmed only the release that made it can tell"
    if found is None:
        return ""
    strange = _strange(store, found)
    told = f", confirmed by {', '.join(sorted(found.keys() - set(strange))) or 'nobody'}"
    return told + (f", by keys not confirmed here as {', '.join(strange)}" if strange else "")


@app.command("verify")
def verify_models(
    config: Config,
    model: Annotated[
        str | None, typer.Argument(metavar="[NAME[/VERSION]]", help="One model instead of all.")
    ] = None,
) -> None:
    """Compare models with their checksums and their signature; leave with code 1 if one differs."""
    store = ModelStore.of(config)
    places = [store.folder / name / str(version) for name, version in models(store.folder)]
    wrong = 0
    for place in places if model is None else [store.place(model)]:
        try:
            card = store.verify(place)
            typer.echo(f"verified {card.label}{_signed_by(store, place)}")
        except FedwardError as error:
            wrong += 1
            typer.echo(f"refused {place.parent.name}/{place.name}: {error}", err=True)
    typer.echo(f"signer {store.signer}")
    if wrong:
        raise typer.Exit(1)


@app.command("promote")
def promote_model(config: Config, model: Reference) -> None:
    """Put a version into use; a server over this store changes to it without a pause."""
    store = ModelStore.of(config)
    place = store.place(model if "/" in model else f"{model}/{_newest(store, model)}")
    card = store.verify(place)
    promote(store.folder, card.name, card.version, datetime.now(UTC))
    typer.echo(f"in use: {card.label}")


def _newest(store: ModelStore, name: str) -> int:
    """The highest version, which is what promotion without a version means."""
    return (versions(store.folder, name) or (1,))[-1] if REFERENCE.fullmatch(name) else 1


@app.command("rollback")
def rollback_model(config: Config, name: Name) -> None:
    """Put the version into use again that was in use before."""
    store = ModelStore.of(config)
    past = load_record(store.folder, name).promoted
    record = rollback(store.folder, name, datetime.now(UTC))
    typer.echo(f"in use: {name}/{record.promoted}, no longer {name}/{past}")


app.command("export")(export)


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
    store = ModelStore.of(config)
    place = store.place(model)
    name = place.parent.name if keep is None else model
    chosen = (int(place.name),) if keep is None else superseded(store.folder, name, keep)
    told = ", ".join(f"{name}/{version}" for version in chosen) or "nothing"
    if chosen and not yes:
        typer.confirm(f"Delete {told} for good?", abort=True)
    if chosen:
        remove(store.folder, name, chosen)
    typer.echo(f"removed {told}")
