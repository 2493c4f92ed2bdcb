"""`fedward client trust` and `fedward client rotate`: whom this hospital believes, and as whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from client.hospital import HospitalConfig
from client.init_command import CONFIG, show_card, write_card
from client.rotation import hand_over, identity_for, prepare
from client.trusting import ASKED, Item, Kind, begin, check_digest, check_own, compare
from protocol.config import read
from protocol.errors import FedwardError, InputError
from protocol.roster import Roster, Trust, load_pinned, save_pinned
from protocol.signing import fingerprint, from_groups, in_groups, signer_of

_SAYS: dict[Kind, str] = {
    "own": "this hospital",
    "known": "confirmed before",
    "new": "NEW in this roster",
    "unconfirmed": "not confirmed so far",
    "rotated": "NEW identity, signed by the confirmed one",
    "stranger": "ANOTHER identity than the confirmed one, which did not sign it: not trusted",
    "removed": "not in the roster any more",
}
_STYLES: dict[Kind, str] = {"new": "yellow", "rotated": "yellow", "stranger": "bold red"}

Config = Annotated[Path, typer.Option("--config", "-c", help="The hospital's configuration.")]


def trust(
    roster: Annotated[Path, typer.Argument(metavar="ROSTER", help="The roster as it was sent.")],
    *,
    config: Config = Path(CONFIG),
    yes: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST",
            help="Do not ask: this is the digest of a roster whose fingerprints were compared.",
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOSPITAL",
            help="Forget the identity that was confirmed, where the hospital lost its key.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a roster's fingerprints with the hospitals, confirm them, and pin the roster.

    The node acts on a hospital only after it was confirmed here, and on a roster only after it was
    pinned. Call each hospital and let it read out its fingerprint: what came with the roster is the
    coordinator's word alone.
    """
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    desk = Desk.open(config, roster, forget or ())
    if yes is not None:
        check_digest(desk.roster, from_groups(yes))
    desk.show(console)
    decided = desk.decide(_answer if yes is None else _agree)
    desk.pin(decided)
    if as_json:
        typer.echo(json.dumps(desk.to_document(decided)))
    else:
        console.print(f"Pinned edition {desk.roster.sequence}, {desk.path}", markup=False)


def rotate(
    config: Annotated[Path, typer.Argument(help="The hospital's configuration.")] = Path(CONFIG),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make new keys for this hospital, on a card that the present identity signs.

    The node goes on with the present keys until a roster with the new card is trusted here. Run it
    again to see the card again.
    """
    hospital, base = read(HospitalConfig, config), config.parent
    identity = prepare(hospital, base)
    show_card(identity, write_card(base, identity), as_json=as_json)


@dataclass(frozen=True)
class Desk:
    """A roster and what this hospital knows, side by side.

    Args:
        config: The hospital's configuration.
        base: Folder that its paths start from.
        signed: The roster as it was sent.
        roster: The same, verified.
        pinned: The edition that is pinned now, None before the first.
        trust: What was confirmed so far, None before the first.
        items: What is to be said of each hospital.
        prepared: The roster has the identity that was prepared by `rotate`.
        listed: This hospital is in the roster.
    """

    config: HospitalConfig
    base: Path
    signed: bytes
    roster: Roster
    pinned: Roster | None
    trust: Trust | None
    items: tuple[Item, ...]
    prepared: bool
    listed: bool

    @classmethod
    def open(cls, path: Path, roster_path: Path, forget: Iterable[str]) -> Desk:
        """Read everything and change nothing.

        Raises:
            InputError: A file is missing or wrong.
            IntegrityError: The roster does not hold, is older than the pinned one, or has other
                keys under this hospital's name.
        """
        config, base = read(HospitalConfig, path), path.parent
        trust, pinned = _pinned(base / config.trust, base / config.roster)
        for name in forget:
            trust = None if trust is None else trust.forget(name)
        signed = _bytes(roster_path)
        roster = Roster.verify(signed, signer_of(signed) if trust is None else trust.coordinator)
        begin(roster, trust)
        identity, prepared = identity_for(config, base, roster)
        listed = check_own(roster, identity.card())
        items = tuple(compare(roster, identity.card(), trust, pinned))
        return cls(config, base, signed, roster, pinned, trust, items, prepared, listed)

    @property
    def path(self) -> Path:
        """Where the pinned roster is."""
        return self.base / self.config.roster

    def show(self, console: Console) -> None:
        """Print what is new, and every fingerprint."""
        roster, pinned = self.roster, self.pinned
        before = "none pinned so far" if pinned is None else f"pinned: {pinned.sequence}"
        console.print(f"Roster edition {roster.sequence} ({before})")
        console.print(f"  digest      {in_groups(roster.digest)}")
        console.print(f"  coordinator {in_groups(fingerprint(roster.coordinator))}")
        moved = pinned is not None and pinned.address != roster.address
        console.print(Text(f"  address     {roster.address}{' NEW' if moved else ''}"))
        if pinned is not None and pinned.ca != roster.ca:
            console.print("  authority of its TLS certificate: NEW", style="yellow")
        for item in self.items:
            console.print(Text(f"{item.name}: {_SAYS[item.kind]}", _STYLES.get(item.kind, "")))
            if item.before:
                console.print(f"  was {in_groups(item.before)}")
            console.print(f"  {in_groups(item.fingerprint)}")
        if not self.listed:
            console.print("This hospital is not in the roster: no job can ask it.", style="yellow")

    def decide(self, ask: Callable[[str], bool]) -> Trust:
        """What is confirmed after the administrator's answers; a hospital may stay unconfirmed.

        Raises:
            InputError: The coordinator was not recognised; nothing is pinned.
        """
        if self.trust is None:
            said = (
                f"Did the coordinator read you {in_groups(fingerprint(self.roster.coordinator))}?"
            )
            if not ask(said):
                raise InputError("the coordinator was not recognised; nothing is pinned")
        decided = begin(self.roster, self.trust)
        for item in self.items:
            digits = in_groups(item.fingerprint)
            if item.kind == "own" or (
                item.kind in ASKED and ask(f"Did {item.name} read you {digits}?")
            ):
                decided = self._confirmed(decided, item)
        return decided

    def pin(self, trust: Trust) -> None:
        """Take a prepared identity into use, then pin roster and trust together."""
        if self.prepared:
            hand_over(self.config, self.base)
        save_pinned(self.path, self.signed, self.base / self.config.trust, trust)

    def to_document(self, decided: Trust) -> dict[str, object]:
        """What was decided, for programs."""
        confirmed = decided.members(self.roster)
        return {
            "sequence": self.roster.sequence,
            "digest": self.roster.digest,
            "coordinator": decided.coordinator,
            "listed": self.listed,
            "hospitals": [
                {**vars(item), "confirmed": confirmed.get(item.name) == item.fingerprint}
                for item in self.items
            ],
        }

    def _confirmed(self, trust: Trust, item: Item) -> Trust:
        # Nobody has to sign to this hospital that it renewed its own keys.
        if item.kind == "own" and trust.confirmed.get(item.name) not in (None, item.fingerprint):
            trust = trust.forget(item.name)
        return trust.confirm(self.roster, item.name, item.fingerprint)


def _pinned(trust_path: Path, roster_path: Path) -> tuple[Trust | None, Roster | None]:
    if not trust_path.exists():
        return None, None
    trust = Trust.load(trust_path)
    try:
        return trust, load_pinned(roster_path, trust)
    except FedwardError:
        # A roster file that was lost or replaced is no reason to forget what was confirmed.
        return trust, None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None


def _answer(question: str) -> bool:
    return typer.confirm(question, err=True)


def _agree(_: str) -> bool:
    return True
