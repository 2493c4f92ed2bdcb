"""Cards: every key is proven, a renewed identity is signed by the one before, one spelling only."""

from dataclasses import fields, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from protocol.canonical import to_canonical
from protocol.card import VERSION, Card, check_name
from protocol.errors import InputError, IntegrityError
from protocol.exchange import ExchangeKey
from protocol.signing import SigningKey, fingerprint

SIGNING, PREVIOUS = SigningKey.generate(), SigningKey.generate()
EXCHANGE = ExchangeKey.generate()
NODE = ec.generate_private_key(ec.SECP384R1())
PLAIN = Card.make(name="north", signing=SIGNING, exchange=EXCHANGE)
FULL = Card.make(name="north", signing=SIGNING, exchange=EXCHANGE, node=NODE, previous=PREVIOUS)
OTHER = Card.make(
    name="north",
    signing=SigningKey.generate(),
    exchange=ExchangeKey.generate(),
    node=ec.generate_private_key(ec.SECP384R1()),
    previous=SigningKey.generate(),
)


@pytest.mark.parametrize("card", [PLAIN, FULL])
def test_a_card_survives_the_wire(card: Card) -> None:
    assert Card.from_bytes(card.to_bytes()) == card
    assert card.fingerprint == fingerprint(SIGNING.public) == SIGNING.fingerprint


KEYS = [field.name for field in fields(Card) if field.name != "version"]


@pytest.mark.parametrize("field", KEYS)
def test_no_field_can_be_taken_from_another_card(field: str) -> None:
    """Also what a coordinator would do: its own key with another's exchange or node key."""
    value: Any = "south" if field == "name" else getattr(OTHER, field)
    with pytest.raises(IntegrityError):
        replace(FULL, **{field: value}).verify()
    with pytest.raises(IntegrityError):
        Card.from_bytes(to_canonical(replace(FULL, **{field: value})))


def test_another_version_is_named_with_what_to_do() -> None:
    blob = FULL.to_bytes().replace(b'"version":1', b'"version":2')
    with pytest.raises(InputError, match=r"protocol version.*found 2; install the same release"):
        Card.from_bytes(blob)


def forge(**values: Any) -> Card:
    """A card whose identity signed whatever it holds, as a dishonest hospital would."""
    card = replace(FULL, **values)
    parts = (card.name, card.signing, card.exchange, card.node_key, card.replaces)
    keys = to_canonical([VERSION, *parts])
    content = to_canonical([keys, card.exchange_proof, card.node_proof])
    return replace(card, signature=SIGNING.sign("card", content))


def test_a_signature_alone_does_not_put_anothers_key_on_a_card() -> None:
    with pytest.raises(IntegrityError, match="for another exchange key"):
        forge(exchange=OTHER.exchange).verify()
    # Another's key with its own, older proof: it was made for another card.
    with pytest.raises(IntegrityError, match="does not hold"):
        forge(exchange=OTHER.exchange, exchange_proof=OTHER.exchange_proof).verify()
    own = Card.make(name="north", signing=SIGNING, exchange=EXCHANGE, previous=PREVIOUS)
    parts = ("north", SIGNING.public, EXCHANGE.public, OTHER.node_key, own.replaces)
    with pytest.raises(IntegrityError, match="possession of a node key"):
        forge(
            node_key=OTHER.node_key,
            node_proof=OTHER.node_proof,
            exchange_proof=EXCHANGE.prove("card:exchange", to_canonical([VERSION, *parts])),
        ).verify()


def test_an_identity_cannot_be_renewed_without_the_one_before() -> None:
    thief = SigningKey.generate()
    made = Card.make(name="north", signing=thief, exchange=EXCHANGE, previous=PREVIOUS)
    made.verify()
    stolen = Card.make(
        name="north", signing=thief, exchange=EXCHANGE, previous=SigningKey.generate()
    )
    with pytest.raises(IntegrityError):
        replace(stolen, replaces=PREVIOUS.public).verify()
    with pytest.raises(IntegrityError, match="card:rotation"):
        replace(made, rotation=stolen.rotation).verify()


def test_an_identity_does_not_replace_itself() -> None:
    with pytest.raises(InputError, match="replaces its own key"):
        Card.make(name="north", signing=SIGNING, exchange=EXCHANGE, previous=SIGNING)
    keys = to_canonical([VERSION, "north", SIGNING.public, EXCHANGE.public, "", SIGNING.public])
    proof = EXCHANGE.prove("card:exchange", keys)
    content = to_canonical([keys, proof, b""])
    with pytest.raises(IntegrityError, match="replaces its own key"):
        replace(
            PLAIN,
            exchange_proof=proof,
            replaces=SIGNING.public,
            rotation=SIGNING.sign("card:rotation", content),
            signature=SIGNING.sign("card", content),
        ).verify()


def node_card(pem: str) -> Card:
    """A card with any text as node key, sound but for the node key's own proof."""
    keys = to_canonical([VERSION, "north", SIGNING.public, EXCHANGE.public, pem, b""])
    proof = EXCHANGE.prove("card:exchange", keys)
    content = to_canonical([keys, proof, b"proof"])
    return replace(
        PLAIN,
        node_key=pem,
        node_proof=b"proof",
        exchange_proof=proof,
        signature=SIGNING.sign("card", content),
    )


def test_a_node_key_has_one_spelling_and_one_kind() -> None:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    openssh = NODE.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    stranger = ec.generate_private_key(ec.SECP384R1()).public_key()
    other_kind = rsa.generate_private_key(65537, 2048).public_key()
    for pem in (
        "x",
        openssh.decode(),
        FULL.node_key + "\n",
        FULL.node_key.replace("\n", "\r\n"),
        other_kind.public_bytes(serialization.Encoding.PEM, spki).decode(),
    ):
        with pytest.raises(IntegrityError, match="an elliptic-curve public key in PEM"):
            node_card(pem).verify()
    pem = stranger.public_bytes(serialization.Encoding.PEM, spki).decode()
    with pytest.raises(IntegrityError, match="possession of a node key"):
        node_card(pem).verify()


@pytest.mark.parametrize(
    "values",
    [
        {"signing": bytes(31)},
        {"exchange": b""},
        {"exchange_proof": bytes(95)},
        {"node_proof": b""},
        {"node_key": ""},
        {"replaces": b""},
        {"rotation": bytes(63)},
        {"name": ""},
    ],
)
def test_malformed_cards_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(FULL, **values)


def test_only_canonical_bytes_are_a_card() -> None:
    for data in (b"", b"{}", FULL.to_bytes() + b"\n", FULL.to_bytes().replace(b":", b": ")):
        with pytest.raises(InputError):
            Card.from_bytes(data)


@pytest.mark.parametrize("name", ["a", "St.Mary-2_x", "0", "x" * 63])
def test_names_of_hospitals(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "é", "a\n", "x" * 64, "a:b"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="name of a hospital"):
        check_name(name)
