"""`fedward server enrol`: take hospitals' cards into the roster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocol.errors import FedwardError, InputError
from protocol.roster import Card, Roster
from protocol.signing import from_groups, in_groups
from server.config import Folder
from server.editions import Change, place
from server.options import DEFAULT, Json, Server
from server.registry import update

_SAYS: dict[Change, str] = {
    "new": "new in the roster",
    "rotated": "new identity, signed by the one before",
    "unchanged": "in the roster already",
}


def enrol(
    cards: Annotated[
        list[Path], typer.Argument(metavar="CARD...", help="Cards as the hospitals sent them.")
    ],
    *,
    server: Server = DEFAULT,
    yes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FINGERPRINT",
            help="Do not ask about the card with this fingerprint; once for each card.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify cards, compare their fingerprints with the hospitals, and sign a new roster.

    A card that renews an identity must be signed by the identity before. Hospitals act on a new
    roster only after each of them trusted it.
    """
    folder = Folder.open(server)
    read = [read_card(path) for path in cards]
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    known = folder.load_roster(folder.load_key().fingerprint)
    changes = _placed(known, read)[1]
    compared = {from_groups(digits) for digits in yes or ()}
    for card in read:
        change = changes[card.name]
        console.print(f"{card.name}: {_SAYS[change]}", markup=False)
        console.print(f"  {in_groups(card.fingerprint)}")
        if change != "unchanged":
            _confirm(card, compared, asking=not yes)
    before, after = update(folder, lambda roster: _placed(roster, read)[0])
    told = {"sequence": after.sequence, "digest": after.digest, "changed": after != before}
    if as_json:
        typer.echo(json.dumps({**told, "cards": changes}))
        return
    if after == before:
        console.print(f"Nothing changed; edition {after.sequence} stands.")
    else:
        console.print(
            f"Edition {after.sequence} with {len(after.members)} hospitals: {folder.roster}\n"
            "Send it to every hospital; each runs: fedward client trust ROSTER\n"
            f"Digest {in_groups(after.digest)}",
            markup=False,
        )


def read_card(path: Path) -> Card:
    """Read a card and verify its signature and the proof of each key.

    Raises:
        InputError: The file cannot be read or is no card of this protocol version.
        IntegrityError: A signature or proof does not hold.
    """
    try:
        return Card.from_bytes(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None
    except FedwardError as error:
        raise error.at(str(path)) from None


def _placed(roster: Roster, cards: list[Card]) -> tuple[Roster, dict[str, Change]]:
    changes: dict[str, Change] = {}
    for card in cards:
        roster, change = place(roster, card)
        if card.name in changes and change != "unchanged":
            raise InputError(f"two cards of hospital {card.name!r}", expected="one of each")
        changes.setdefault(card.name, change)
    return roster, changes


def _confirm(card: Card, compared: set[str], *, asking: bool) -> None:
    if card.fingerprint in compared:
        return
    remedy = f"compare it with the hospital, then say: --yes {card.fingerprint}"
    if not asking:
        raise InputError(f"the fingerprint of {card.name!r} was not given", remedy=remedy)
    question = f"Did {card.name} read you this fingerprint over another channel?"
    if not typer.confirm(question, err=True):
        raise InputError(f"{card.name!r} is not enrolled; nothing was changed", remedy=remedy)
