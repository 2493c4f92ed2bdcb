"""`fedward server certificate`: how long the certificates last, and a new one for the server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from protocol.keyfile import load_secret, replace_file
from protocol.roster import split_address
from server.certificates import (
    Issued,
    days_left,
    load_certificate,
    load_key,
    make_server,
)
from server.config import Folder
from server.options import DEFAULT, Json, Server

RENEW_DAYS = 60

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="See how long the certificates last, and renew the server's.",
)


@app.command()
def show(*, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Say until when the authority's and the server's certificate are valid."""
    folder, now = Folder.open(server), datetime.now(UTC)
    found = {
        "authority": load_certificate(folder.ca.read_bytes(), str(folder.ca)),
        "server": load_certificate(folder.certificate.read_bytes(), str(folder.certificate)),
    }
    left = {name: days_left(certificate, now) for name, certificate in found.items()}
    if as_json:
        typer.echo(json.dumps({"days_left": left}))
        return
    for name, certificate in found.items():
        typer.echo(
            f"{name:<10} {left[name]:>5} days, to {certificate.not_valid_after_utc:%Y-%m-%d}"
        )


@app.command()
def renew(
    *,
    server: Server = DEFAULT,
    force: Annotated[
        bool, typer.Option("--force", help=f"Also where more than {RENEW_DAYS} days are left.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Issue the server's certificate anew; hospitals notice nothing.

    The key stays, so that the file changes in one step; a running coordinator notices it.
    """
    folder = Folder.open(server)
    until, renewed = renewed_certificate(folder, datetime.now(UTC), force=force)
    if as_json:
        typer.echo(json.dumps({"renewed": renewed, "until": f"{until:%Y-%m-%d}"}))
    else:
        typer.echo(f"{'Renewed, valid' if renewed else 'Nothing to do, valid'} to {until:%Y-%m-%d}")


def renewed_certificate(folder: Folder, now: datetime, *, force: bool) -> tuple[datetime, bool]:
    """Replace the server's certificate if it ends soon or names another host.

    Returns:
        Until when it is valid, and whether it is new.

    Raises:
        InputError: A file is missing or wrong, or the authority does not vouch for the host.
    """
    present = load_certificate(folder.certificate.read_bytes(), str(folder.certificate))
    if not force and days_left(present, now) > RENEW_DAYS:
        return present.not_valid_after_utc, False
    authority = Issued(
        load_certificate(folder.ca.read_bytes(), str(folder.ca)),
        load_key(load_secret(folder.ca_key), str(folder.ca_key)),
    )
    key = load_key(load_secret(folder.certificate_key), str(folder.certificate_key))
    host, _ = split_address(folder.config.address)
    made = make_server(host, now, authority, key)
    replace_file(folder.certificate, made.pem)
    return made.certificate.not_valid_after_utc, True
