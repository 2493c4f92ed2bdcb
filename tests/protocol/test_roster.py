"""The roster: signed bytes first, cards second, and no key or name twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.canonical import from_canonical, to_canonical
from protocol.card import Card
from protocol.errors import InputError, IntegrityError
from protocol.exchange import ExchangeKey
from protocol.roster import VERSION, Roster, Trust, load_pinned, save_pinned, split_address
from protocol.signing import SigningKey

COORDINATOR = SigningKey.generate()
NODE = ec.generate_private_key(ec.SECP384R1())


def make_card(name: str, **keys: Any) -> Card:
    return Card.make(
        **{"signing": SigningKey.generate(), "exchange": ExchangeKey.generate(), **keys}, name=name
    )


NORTH, SOUTH = make_card("north", node=NODE), make_card("south")
ROSTER = Roster(
    version=VERSION,
    sequence=1,
    coordinator=COORDINATOR.public,
    address="coordinator:8000",
    members=(NORTH, SOUTH),
)
BLOB = ROSTER.sign(COORDINATOR)


def test_a_roster_survives_the_wire() -> None:
    roster = Roster.verify(BLOB, COORDINATOR.fingerprint)
    assert roster == ROSTER
    assert roster.digest == ROSTER.digest
    assert roster.card("south") == SOUTH
    with pytest.raises(InputError, match="no hospital 'west'"):
        roster.card("west")


def test_the_digest_is_over_the_signed_bytes() -> None:
    changed = replace(ROSTER, address="elsewhere:8000")
    assert changed.digest != ROSTER.digest
    assert from_canonical(BLOB)["document"] == from_canonical(ROSTER.to_bytes())


def test_another_coordinators_roster_is_refused() -> None:
    stranger = SigningKey.generate()
    own = replace(ROSTER, coordinator=stranger.public)
    with pytest.raises(IntegrityError, match="signed by another key"):
        Roster.verify(own.sign(stranger), COORDINATOR.fingerprint)
    with pytest.raises(InputError, match="another coordinator than this key"):
        ROSTER.sign(stranger)
    # Signed by the right key, but naming another.
    with pytest.raises(IntegrityError, match="another coordinator than its signer"):
        Roster.verify(COORDINATOR.sign_attached("roster", own.to_bytes()), COORDINATOR.fingerprint)


def test_a_signature_of_another_kind_is_refused() -> None:
    blob = COORDINATOR.sign_attached("job", ROSTER.to_bytes())
    with pytest.raises(IntegrityError, match="does not hold"):
        Roster.verify(blob, COORDINATOR.fingerprint)


def test_bytes_are_verified_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("read before it was verified")

    monkeypatch.setattr("protocol.roster.decode", fail)
    with pytest.raises(IntegrityError):
        Roster.verify(
            BLOB.replace(b"coordinator:8000", b"coordinator:9000"), COORDINATOR.fingerprint
        )
    unread = COORDINATOR.sign_attached("roster", b"{}")
    with pytest.raises(AssertionError, match="read before"):
        Roster.verify(unread, COORDINATOR.fingerprint)


def test_the_last_roster_that_passed_passes_for_its_own_coordinator_alone() -> None:
    assert Roster.verify(BLOB, COORDINATOR.fingerprint) == ROSTER
    for _ in range(2):
        with pytest.raises(IntegrityError):
            Roster.verify(BLOB, NORTH.fingerprint)


def test_a_signed_text_that_is_no_roster_is_the_signers_mistake() -> None:
    with pytest.raises(InputError, match="roster: missing 'version'"):
        Roster.verify(COORDINATOR.sign_attached("roster", b"{}"), COORDINATOR.fingerprint)


def test_every_card_is_verified_by_who_signs_and_by_who_reads() -> None:
    forged = replace(SOUTH, exchange=NORTH.exchange, exchange_proof=NORTH.exchange_proof)
    roster = replace(ROSTER, members=(forged,))
    with pytest.raises(IntegrityError, match="card of 'south': "):
        roster.sign(COORDINATOR)
    with pytest.raises(IntegrityError, match="card of 'south': "):
        Roster.verify(
            COORDINATOR.sign_attached("roster", to_canonical(roster)), COORDINATOR.fingerprint
        )


@pytest.mark.parametrize(
    ("card", "what"),
    [
        (make_card("North"), "names"),
        (replace(NORTH, name="west"), "identities"),
        (make_card("west", signing=COORDINATOR), "identities"),
        (replace(make_card("west"), exchange=SOUTH.exchange), "exchange keys"),
        (make_card("west", node=NODE), "node keys"),
    ],
)
def test_no_name_and_no_key_occurs_twice(card: Card, what: str) -> None:
    with pytest.raises(InputError, match=f"repeated {what} in a roster"):
        replace(ROSTER, members=(*ROSTER.members, card))


def test_hospitals_without_a_node_are_no_duplicates() -> None:
    assert len(replace(ROSTER, members=(*ROSTER.members, make_card("west"))).members) == 3


@pytest.mark.parametrize("change", [{"version": VERSION + 1}, {"sequence": 0}])
def test_numbers_of_a_roster(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="numbers of a roster"):
        replace(ROSTER, **change)  # type: ignore[arg-type]


def test_a_pinned_roster_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    trust = Trust.pin(ROSTER)
    with pytest.raises(InputError, match=r"roster\.json: cannot be read"):
        load_pinned(path, trust)
    path.write_bytes(BLOB)
    assert load_pinned(path, trust) == ROSTER
    path.write_bytes(replace(ROSTER, sequence=2).sign(COORDINATOR))
    with pytest.raises(IntegrityError, match=r"roster\.json: not the pinned roster"):
        load_pinned(path, trust)
    path.write_bytes(BLOB[:-1])
    with pytest.raises(IntegrityError, match=r"roster\.json: not a signed 'roster'"):
        load_pinned(path, trust)


def authority(*, ca: bool) -> str:
    """A certificate that vouches for itself, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    day = datetime(2026, 11, 20, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, day, day.replace(year=2027))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_an_authority_is_one_certificate_in_one_spelling() -> None:
    pem = authority(ca=True)
    roster = replace(ROSTER, ca=pem)
    assert Roster.verify(roster.sign(COORDINATOR), COORDINATOR.fingerprint).ca == pem
    for wrong in ("PEM", pem + pem, pem.replace("\n", "\r\n"), authority(ca=False)):
        with pytest.raises(InputError, match="ca of a roster; expected the certificate"):
            replace(ROSTER, ca=wrong)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        ":8000",
        "host:x",
        "host:70000",
        "::1:8000",
        "[host]:1",
        "a b:1",
        "u@h:1",
    ],
)
def test_an_address_that_nobody_can_dial(address: str) -> None:
    with pytest.raises(InputError, match="address; expected host:port"):
        split_address(address)


class TestPinning:
    """Roster and trust file change together, whenever it is interrupted."""

    NEWER = replace(ROSTER, sequence=2, members=(NORTH,))

    @pytest.fixture
    def paths(self, tmp_path: Path) -> tuple[Path, Path]:
        roster, trust = tmp_path / "roster.json", tmp_path / "trust.json"
        save_pinned(roster, BLOB, trust, Trust.pin(ROSTER))
        return roster, trust

    def test_both_are_replaced(self, paths: tuple[Path, Path]) -> None:
        roster, trust = paths
        newer = Trust.load(trust).adopt(self.NEWER)
        save_pinned(roster, self.NEWER.sign(COORDINATOR), trust, newer)
        assert load_pinned(roster, Trust.load(trust)) == self.NEWER
        assert sorted(path.name for path in roster.parent.iterdir()) == [
            "roster.json",
            "trust.json",
        ]

    def test_a_trust_that_pins_another_roster_is_refused(self, paths: tuple[Path, Path]) -> None:
        roster, trust = paths
        with pytest.raises(IntegrityError, match="not the pinned roster"):
            save_pinned(roster, self.NEWER.sign(COORDINATOR), trust, Trust.load(trust))
        assert load_pinned(roster, Trust.load(trust)) == ROSTER

    @pytest.mark.parametrize("step", ["save", "replace"])
    def test_interrupted_it_leaves_one_pair_or_the_other(
        self, paths: tuple[Path, Path], step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        roster, trust = paths
        newer = Trust.load(trust).adopt(self.NEWER)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            if step == "save":
                patch.setattr(Trust, "save", stop)
            else:
                patch.setattr(Path, "replace", keep_but_drafts(Path.replace))
            with pytest.raises(KeyboardInterrupt):
                save_pinned(roster, self.NEWER.sign(COORDINATOR), trust, newer)
        expected = ROSTER if step == "save" else self.NEWER
        assert load_pinned(roster, Trust.load(trust)) == expected
        save_pinned(roster, self.NEWER.sign(COORDINATOR), trust, newer)
        assert load_pinned(roster, Trust.load(trust)) == self.NEWER


def keep_but_drafts(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """A renaming that stops before the roster gets its own name."""

    def replaced(path: Path, target: Path) -> Path:
        if path.name == "roster.json.next":
            raise KeyboardInterrupt
        return move(path, target)

    return replaced
