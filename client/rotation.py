"""A hospital's new identity: made beside the old one, and taken into use with the roster.

Between the two the node goes on with the old identity. The hand-over can be interrupted anywhere
and repeated: each step looks at what is there.
"""

from __future__ import annotations

from pathlib import Path

from client.hospital import HospitalConfig
from client.node_state import StateFolder
from privacy.keys import Identity
from privacy.ledger import Ledger
from protocol.card import Card
from protocol.journal import Journal
from protocol.keyfile import replace_file, sync_folder
from protocol.roster import Roster
from protocol.signing import SigningKey


def prepare(config: HospitalConfig, base: Path) -> Identity:
    """Make new keys whose card the present identity signs; a second call finds the same.

    Raises:
        InputError: The present keys cannot be read, or the new ones cannot be written.
        IntegrityError: A card does not hold.
    """
    keys = base / config.keys
    present, folder = Identity.load(keys), _next(keys)
    if not folder.is_dir() or not any(folder.iterdir()):
        Identity.create(folder, present.name)
    made = Identity.load(folder)
    if made.card().replaces != present.signing.public:
        card = Card.make(
            name=made.name,
            signing=made.signing,
            exchange=made.exchange,
            node=made.node,
            previous=present.signing,
        )
        replace_file(folder / "card.json", card.to_bytes())
    return Identity.load(folder)


def identity_for(config: HospitalConfig, base: Path, roster: Roster) -> tuple[Identity, bool]:
    """The identity that a roster has for this hospital, and whether it is the prepared one.

    Raises:
        InputError: The keys cannot be read.
        IntegrityError: A card does not hold.
    """
    keys = base / config.keys
    folder = _next(keys)
    if folder.is_dir():
        made = Identity.load(folder)
        if made.card() in roster.members:
            return made, True
    return Identity.load(keys), False


def hand_over(config: HospitalConfig, base: Path) -> Path:
    """Let ledger and journal go on under the prepared identity, and put its keys in place.

    Returns:
        Where the old keys are kept.

    Raises:
        InputError: A file cannot be read or moved.
        IntegrityError: Ledger or journal do not hold.
        BusyError: The node is running.
    """
    with StateFolder(base / config.node.state).locked():
        return _hand_over(config, base)


def _hand_over(config: HospitalConfig, base: Path) -> Path:
    keys = base / config.keys
    old = keys.with_name(f"{keys.name}.old")
    if keys.is_dir():
        before, after = SigningKey.load(keys / "signing.key"), Identity.load(_next(keys)).signing
        old = keys.with_name(f"{keys.name}.{before.fingerprint[:8]}")
        _hand_over_ledger(base / config.ledger, before, after)
        _hand_over_journal(base / config.journal, before, after)
        keys.rename(old)
    _next(keys).rename(keys)
    sync_folder(keys.parent)
    return old


def _hand_over_ledger(path: Path, before: SigningKey, after: SigningKey) -> None:
    if not path.exists():
        return
    with Ledger.open(path, None) as ledger:
        done = ledger.report().signer == after.fingerprint
    if not done:
        with Ledger.open(path, before) as ledger:
            ledger.rotate(after)


def _hand_over_journal(path: Path, before: SigningKey, after: SigningKey) -> None:
    """The old journal ends with the new key, and the new one begins with the old one's head."""
    kept = path.with_name(f"{path.stem}.{before.fingerprint[:8]}{path.suffix}")
    if kept.exists() or not path.exists():
        return
    with Journal.open(path, before) as journal:
        journal.append("rotated", {"to": after.fingerprint})
        head = journal.head
    path.rename(kept)
    with Journal.open(path, after) as journal:
        journal.append("continues", {"from": before.fingerprint, "file": kept.name, "head": head})


def _next(keys: Path) -> Path:
    return keys.with_name(f"{keys.name}.next")
