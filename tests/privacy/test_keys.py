from __future__ import annotations

import copy
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
    load_ssh_private_key,
)

from privacy import keys
from privacy.envelope import open_sealed, seal
from privacy.keys import Ephemeral, Identity
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import Code, InputError, IntegrityError, RefusalError
from protocol.signing import SigningKey
from tests.privacy.consortium import JOB, ROSTER, cohort_of, ephemeral, hospitals
from tests.vectors.published import load

# -- ephemeral keys -------------------------------------------------------------------------------


def with_exchange(secret: str) -> Ephemeral:
    kem = X25519PrivateKey.generate()
    return Ephemeral(X25519PrivateKey.from_private_bytes(bytes.fromhex(secret)), kem, None)


@pytest.mark.parametrize("case", load("x25519")["cases"])
def test_x25519_on_the_published_vectors(case: dict[str, str]) -> None:
    agreed = with_exchange(case["scalar"]).agree(bytes.fromhex(case["u"]))
    assert agreed.hex() == case["output"]


def test_agreement_on_the_published_vector() -> None:
    case = load("x25519")["agreement"]
    alice, bob = with_exchange(case["alice_private"]), with_exchange(case["bob_private"])
    assert alice.public_exchange.hex() == case["alice_public"]
    assert bob.public_exchange.hex() == case["bob_public"]
    assert alice.agree(bob.public_exchange).hex() == case["shared"]
    assert bob.agree(alice.public_exchange).hex() == case["shared"]


# RFC 7748, section 6.1: points of small order give zero, whatever the secret. 0, 1 and p - 1.
@pytest.mark.parametrize("u", [0, 1, 2**255 - 20])
def test_points_of_small_order_are_no_keys(u: int) -> None:
    with pytest.raises(IntegrityError, match="no X25519 key"):
        Ephemeral.generate().agree(u.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_bytes_of_another_length_are_no_keys(length: int) -> None:
    with pytest.raises(IntegrityError, match="no X25519 key"):
        Ephemeral.generate().agree(bytes([9] * length))


def test_generated_keys_are_post_quantum_and_unlike_each_other() -> None:
    made = [Ephemeral.generate() for _ in range(3)]
    assert {len(one.public_kem) for one in made} == {1184 + 32}
    assert all(isinstance(one.unsealing_key, MLKEM768X25519PrivateKey) for one in made)
    parts = [
        part for one in made for part in (one.public_exchange, one.public_kem[-32:], one.public_kem)
    ]
    assert len(set(parts)) == len(parts)


def test_without_ml_kem_in_the_library_keys_are_x25519(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        @staticmethod
        def generate() -> None:
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(keys, "MLKEM768PrivateKey", Lacking)
    made = Ephemeral.generate()
    assert len(made.public_kem) == 32
    assert isinstance(made.unsealing_key, X25519PrivateKey)
    assert Ephemeral.from_bytes(made.to_bytes()).public_kem == made.public_kem
    assert open_sealed(made, b"", seal(made.public_kem, b"", b"x")) == b"x"


@pytest.mark.parametrize("post_quantum", [True, False])
def test_a_session_in_memory_keeps_keys_and_claims(post_quantum: bool) -> None:
    before = ephemeral("site", post_quantum=post_quantum)
    before.claim("mask", "job", 1, 2, "update")
    before.claim("bundle", "job", 1)
    after = Ephemeral.from_bytes(before.to_bytes())
    assert after.to_bytes() == before.to_bytes()
    assert after.public_exchange == before.public_exchange
    assert after.public_kem == before.public_kem
    other = Ephemeral.generate()
    assert after.agree(other.public_exchange) == other.agree(before.public_exchange)
    assert open_sealed(after, b"", seal(before.public_kem, b"", b"x")) == b"x"
    with pytest.raises(IntegrityError):
        after.claim("mask", "job", 1, 2, "update")
    after.claim("mask", "job", 1, 3, "update")


def test_bytes_that_are_no_session() -> None:
    good = from_canonical(ephemeral("site").to_bytes())
    wrong: list[object] = [
        [],
        {},
        None,
        *({**good, name: value} for name in good for value in (b"short", 1)),
        *({name: good[name] for name in good if name != left} for left in good),
    ]
    for content in wrong:
        with pytest.raises(IntegrityError, match="no ephemeral keys"):
            Ephemeral.from_bytes(to_canonical(content))
    with pytest.raises(IntegrityError, match="no ephemeral keys"):
        Ephemeral.from_bytes(b"not canonical")


def test_a_claim_holds_once() -> None:
    made = ephemeral("site")
    made.claim("mask", "job", 1, 1, "update")
    for other in (
        ("mask", "job", 1, 1, "evaluation"),
        ("mask", "job", 1, 2, "update"),
        ("mask", "job", 2, 1, "update"),
        ("mask", "other job", 1, 1, "update"),
        ("bundle", "job", 1),
    ):
        made.claim(*other)
        with pytest.raises(IntegrityError, match=f"served this {other[0]} before"):
            made.claim(*other)


class Slow(str):
    """A text that lets every other thread run between the look-up and the entry."""

    __slots__ = ()

    def __hash__(self) -> int:
        time.sleep(0.002)
        return super().__hash__()


def test_of_many_threads_one_gets_the_claim() -> None:
    made = ephemeral("site")

    def claim(_: int) -> bool:
        try:
            made.claim(Slow("mask"), "job", 1, 1, "update")
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(16))) == 1


def test_keys_are_not_copied_and_not_shown() -> None:
    made = ephemeral("site")
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            duplicate(made)
    secrets = [
        part.hex() for part in from_canonical(made.to_bytes()).values() if isinstance(part, bytes)
    ]
    assert len(secrets) == 3
    assert not any(secret[:8] in repr(made) for secret in secrets)


def test_a_member_vouches_for_its_keys() -> None:
    made, key = Ephemeral.generate(), SigningKey.generate()
    member = made.member(name="north", job=JOB, roster=ROSTER, key=key)
    member.verify(job=JOB, roster=ROSTER)
    assert (member.exchange, member.kem) == (made.public_exchange, made.public_kem)
    made.check_holds(member)


def test_a_cohort_that_names_other_keys() -> None:
    one, two, _ = members = hospitals(3)
    member = cohort_of(members).member(one.name)
    mixed = replace(member, kem=two.ephemeral.public_kem)
    for keys_held, named in ((two.ephemeral, member), (one.ephemeral, mixed)):
        with pytest.raises(RefusalError, match="other ephemeral keys") as caught:
            keys_held.check_holds(named)
        assert caught.value.code is Code.COHORT


# -- long-term keys -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys that tests read; those that change anything make their own."""
    path = tmp_path_factory.mktemp("hospital") / "keys"
    Identity.create(path, "north")
    return path


def test_identity_is_read_back(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "deep" / "keys", "north")
    read = Identity.load(tmp_path / "deep" / "keys")
    assert read.card() == made.card()
    assert read.name == made.name == "north"
    assert read.signing.public == made.signing.public == made.card().signing
    assert read.exchange.public == made.exchange.public == made.card().exchange
    assert read.node.private_numbers() == made.node.private_numbers()
    read.card().verify()
    assert repr(read) == f"Identity(north, {made.card().fingerprint})"


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == dict.fromkeys(("signing.key", "exchange.key", "node.key", "card.json"), 0o600)


def test_node_key_is_what_flower_reads_and_the_card_proves(folder: Path) -> None:
    node = load_ssh_private_key((folder / "node.key").read_bytes(), None)
    assert isinstance(node, ec.EllipticCurvePrivateKey)
    assert isinstance(node.curve, ec.SECP384R1)
    on_card = load_pem_public_key(Identity.load(folder).card().node_key.encode())
    assert on_card == node.public_key()


def test_what_is_sealed_to_a_card_opens_with_the_identity(folder: Path) -> None:
    identity = Identity.load(folder)
    assert open_sealed(identity, b"model", seal(identity.card().exchange, b"model", b"x")) == b"x"


@pytest.mark.parametrize("file", ["signing.key", "exchange.key", "node.key", "card.json"])
def test_nothing_is_overwritten(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"kept")
    with pytest.raises(InputError, match="exists already"):
        Identity.create(tmp_path, "north")
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_bytes() == b"kept"


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be created"):
        Identity.create(tmp_path / "file" / "keys", "north")
    with pytest.raises(InputError, match="name of a hospital"):
        Identity.create(tmp_path / "keys", "no/name")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("file", ["signing.key", "exchange.key", "node.key", "card.json"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    Identity.create(tmp_path, "north")
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=f"{file}: cannot be read"):
        Identity.load(tmp_path)


@pytest.mark.parametrize("file", ["signing.key", "exchange.key", "node.key"])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, file: str) -> None:
    Identity.create(tmp_path, "north")
    (tmp_path / file).chmod(0o640)
    with pytest.raises(InputError, match=r"others may read.*chmod 600"):
        Identity.load(tmp_path)


def test_a_node_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    Identity.create(tmp_path, "north")
    other = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    for content in (other, b"no key"):
        (tmp_path / "node.key").write_bytes(content)
        with pytest.raises(InputError, match="not an elliptic-curve key"):
            Identity.load(tmp_path)


@pytest.mark.parametrize("file", ["signing.key", "exchange.key", "node.key", "card.json"])
def test_files_of_two_hospitals_do_not_mix(tmp_path: Path, file: str) -> None:
    for name in ("north", "south"):
        Identity.create(tmp_path / name, name)
    (tmp_path / "north" / file).write_bytes((tmp_path / "south" / file).read_bytes())
    with pytest.raises(InputError, match="not the card of the keys beside it"):
        Identity.load(tmp_path / "north")


def test_a_card_that_was_changed(tmp_path: Path) -> None:
    Identity.create(tmp_path, "north")
    path = tmp_path / "card.json"
    path.write_bytes(path.read_bytes().replace(b"north", b"south"))
    with pytest.raises(IntegrityError, match=r"card\.json: signature"):
        Identity.load(tmp_path)
    path.write_bytes(b"{}")
    with pytest.raises(InputError, match=r"card\.json: "):
        Identity.load(tmp_path)
