"""Typed views of everything that crosses the wire.

A packet is a signed header and named blobs. The header holds the context every check needs (kind,
protocol version, sender, recipient, job, epoch, attempt, cohort, deadline), the small fields, and
the SHA-256 of each blob, so that one Ed25519 signature over the exact transmitted bytes covers it
all. The signature is verified before a byte is parsed.

On the wire a packet is a flat mapping of names to bytes (`to_wire`); `protocol.records` says how
Flower carries them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from protocol.canonical import to_canonical
from protocol.config import decode, parse
from protocol.errors import Code, FedwardError, IntegrityError, RefusalError
from protocol.signing import SigningKey, fingerprint, verify

VERSION = 1
EVERYBODY = "*"
_BLOB = "blob:"
_HINTS = ("kind", "sender")
_MAX_HINT = 64


class Body(Protocol):
    """A message's fields. Those named in `BLOBS` are bytes that travel beside the header."""

    KIND: ClassVar[str]
    BLOBS: ClassVar[tuple[str, ...]]
    __dataclass_fields__: ClassVar[dict[str, Any]]


B = TypeVar("B", bound=Body)


@dataclass(frozen=True, kw_only=True)
class Enrol:
    """Coordinator to hospital: take part in this job?

    Args:
        signature: Ed25519 over the job's bytes, context `job`.
        heads: Each hospital's last statement of its ledger head, by fingerprint, as it came.
        job: The job's canonical bytes.
    """

    KIND: ClassVar[str] = "enrol"
    BLOBS: ClassVar[tuple[str, ...]] = ("job",)

    signature: bytes
    heads: Mapping[str, bytes]
    job: bytes


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """Hospital to coordinator: accepted, with the ephemeral keys of this job, and where it stands.

    Args:
        name: The hospital's name in the roster.
        member: Canonical bytes of its protocol.cohort.Member (ephemeral keys, signed).
        initial_weights: SHA-256 of the weights that this job starts from (public).
        library: SEAL's version at this node.
        head: The node's signed statement of its ledger's head; opaque to the coordinator.
        step: Rounds applied to the state that this node holds, 0 where it has just begun.
        epoch: Last epoch that this node was in, 0 for none.
        attempt: Last attempt used at this node, as ledger and session know it, 0 for none.
        finished: Whether this node has stored the job's model.
    """

    KIND: ClassVar[str] = "enrolled"
    BLOBS: ClassVar[tuple[str, ...]] = ("member",)

    name: str
    member: bytes
    initial_weights: str
    library: str
    head: bytes
    step: int
    epoch: int
    attempt: int
    finished: bool


@dataclass(frozen=True, kw_only=True)
class MakeKeys:
    """Coordinator to the cohort's maker: make this epoch's keys for these members."""

    KIND: ClassVar[str] = "make-keys"
    BLOBS: ClassVar[tuple[str, ...]] = ("cohort",)

    cohort: bytes


@dataclass(frozen=True, kw_only=True)
class KeysMade:
    """Maker to coordinator: one sealed, signed bundle for each member, by name, canonical bytes."""

    KIND: ClassVar[str] = "keys-made"
    BLOBS: ClassVar[tuple[str, ...]] = ("bundles",)

    bundles: bytes


@dataclass(frozen=True, kw_only=True)
class Share:
    """Coordinator to the members of a new cohort that hold the state which it starts from.

    They enter the epoch; the attempt in the header is the one that will start from this state, and
    the `Step` that asks for it carries neither document nor bundle for them.

    Args:
        base: Rounds applied to the state that all members are to start from.
        recipients: Names of the members that do not hold it.
        send: Whether this member seals the state to each of them, too.
        cohort: The cohort document.
        bundle: This member's key bundle, where anything is encrypted.
    """

    KIND: ClassVar[str] = "share"
    BLOBS: ClassVar[tuple[str, ...]] = ("cohort", "bundle")

    base: int
    recipients: tuple[str, ...]
    send: bool
    cohort: bytes
    bundle: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Member to coordinator: its word on the state that it holds, and the state, sealed.

    Args:
        attestation: Its signature on the state (`privacy.snapshot.attest`).
        head: As in `Enrolled`.
        snapshots: Name of each recipient to the state sealed to it, canonical bytes; None where
            this member was not asked to send.
    """

    KIND: ClassVar[str] = "shared"
    BLOBS: ClassVar[tuple[str, ...]] = ("snapshots",)

    attestation: bytes
    head: bytes
    snapshots: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """Coordinator to member: apply the last sum, evaluate, train, or finish.

    Args:
        round: The round that this attempt works on; `total` completes the round before.
        train: Release an update.
        evaluate: Release evaluation counts of the weights after `total`.
        finish: Store the model; the session stays until `Stop`, so that others can still get it.
        total_attempt: The attempt whose updates are summed in `total`.
        contributors: Hospitals whose updates are in `total`, in the cohort's order.
        counts_attempt: The attempt whose evaluation counts are summed in `counts`.
        counts_contributors: Hospitals whose counts are in `counts`.
        snapshot_sender: Name of the member that sealed `snapshot`; empty without one.
        cohort: The cohort document, when an epoch begins.
        bundle: This member's key bundle, when an epoch begins and anything is encrypted.
        total: The sum of updates (residue words, or float64 in clear research runs).
        counts: The sum of evaluation counts.
        snapshot: The state to start from, sealed to this member, which does not hold it.
        attestations: Members' words on that state by name, canonical bytes; with `snapshot`.
    """

    KIND: ClassVar[str] = "step"
    BLOBS: ClassVar[tuple[str, ...]] = (
        "cohort", "bundle", "total", "counts", "snapshot", "attestations",
    )  # fmt: skip

    round: int
    train: bool
    evaluate: bool
    finish: bool
    total_attempt: int = 0
    contributors: tuple[str, ...] = ()
    counts_attempt: int = 0
    counts_contributors: tuple[str, ...] = ()
    snapshot_sender: str = ""
    cohort: bytes | None = None
    bundle: bytes | None = None
    total: bytes | None = None
    counts: bytes | None = None
    snapshot: bytes | None = None
    attestations: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """Member to coordinator: what it released.

    Args:
        weights_tag: HMAC(data key, weights after `total`), hexadecimal; SHA-256 in clear runs.
        head: As in `Enrolled`.
        metrics: Pooled metrics of the last counted model, where job and policy publish them:
            name to (value, low, high).
        model: The finished weights, where job and policy hand them to the coordinator.
        update: Encrypted, masked update.
        counts: Encrypted, masked evaluation counts.
        confirmation: Signature over a keyed tag of the finished weights, see
            `privacy.confirmation`.
    """

    KIND: ClassVar[str] = "stepped"
    BLOBS: ClassVar[tuple[str, ...]] = ("model", "update", "counts", "confirmation")

    weights_tag: str
    head: bytes
    metrics: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    model: bytes | None = None
    update: bytes | None = None
    counts: bytes | None = None
    confirmation: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Coordinator to hospital: the job is over, with or without a model; settle, forget the keys.

    Args:
        reason: Why, for people.
        attempt: The attempt that finished, 0 without a model.
        confirmations: Members' signatures of the finished model by name, canonical bytes.
    """

    KIND: ClassVar[str] = "stop"
    BLOBS: ClassVar[tuple[str, ...]] = ("confirmations",)

    reason: str
    attempt: int = 0
    confirmations: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Hospital to coordinator: done.

    Args:
        head: As in `Enrolled`.
    """

    KIND: ClassVar[str] = "stopped"
    BLOBS: ClassVar[tuple[str, ...]] = ()

    head: bytes


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Hospital to coordinator: no, with a reason from the fixed list and nothing else.

    Args:
        name: The hospital's name in the roster.
        reason: A value of `protocol.errors.Code`.
    """

    KIND: ClassVar[str] = "refused"
    BLOBS: ClassVar[tuple[str, ...]] = ()

    name: str
    reason: str

    @property
    def code(self) -> Code:
        """The reason; one that this release does not know counts as a failure."""
        return Code(self.reason) if self.reason in set(Code) else Code.FAILED


@dataclass(frozen=True, kw_only=True)
class Header:
    """The signed context of a packet.

    Args:
        kind: The body's `KIND`.
        version: Protocol version of the sender.
        sender: Fingerprint of the sender's Ed25519 key.
        recipient: Fingerprint of the recipient, or `*`.
        job: The job's digest.
        epoch: 0 until keys exist, then grows with every new cohort.
        attempt: 0 until the first release, then grows with every attempt, failed or not.
        cohort: Digest of the cohort document, empty in epoch 0.
        deadline: Unix time in seconds after which the recipient draws nothing and refuses.
        body: The body's small fields.
        blobs: SHA-256 of each blob by name, hexadecimal.
    """

    kind: str
    version: int
    sender: str
    recipient: str
    job: str
    epoch: int
    attempt: int
    cohort: str
    deadline: float
    body: Mapping[str, Any]
    blobs: Mapping[str, str]


@dataclass(frozen=True)
class Packet:
    """A header's exact bytes, its signature, and the blobs that it names.

    `kind` and `sender` only choose what to verify the packet as, and with whose key: the
    signature's context and the signed header repeat them.
    """

    kind: str
    sender: str
    header: bytes
    signature: bytes
    blobs: Mapping[str, bytes]

    def to_wire(self) -> dict[str, bytes]:
        """Name to bytes, as the transport carries them."""
        blobs = {_BLOB + name: blob for name, blob in self.blobs.items()}
        hints = {"kind": self.kind.encode(), "sender": self.sender.encode()}
        return {**hints, "header": self.header, "signature": self.signature, **blobs}

    @classmethod
    def from_wire(cls, fields: Mapping[str, bytes]) -> Packet:
        """The packet in what the transport brought.

        Raises:
            IntegrityError: A part is missing or unknown, or the kind is no short ASCII text.
        """
        blobs = {n.removeprefix(_BLOB): b for n, b in fields.items() if n.startswith(_BLOB)}
        if set(fields) != {*_HINTS, "header", "signature", *(_BLOB + name for name in blobs)}:
            raise IntegrityError("a packet holds hints, header, signature and blobs, nothing else")
        hints = [fields[name] for name in _HINTS]
        if not all(hint.isascii() and len(hint) <= _MAX_HINT for hint in hints):
            raise IntegrityError(
                "a packet's kind and sender", expected=f"at most {_MAX_HINT} ASCII characters"
            )
        kind, sender = (hint.decode() for hint in hints)
        return cls(kind, sender, fields["header"], fields["signature"], blobs)

    @property
    def size(self) -> int:
        """Bytes of payload on the wire, the transport's own framing not counted."""
        return len(self.header) + len(self.signature) + sum(map(len, self.blobs.values()))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a job a packet belongs: the part of a header that both sides compare."""

    job: str
    epoch: int = 0
    attempt: int = 0
    cohort: str = ""


def pack(body: Body, place: Place, key: SigningKey, *, recipient: str, deadline: float) -> Packet:
    """Sign a message.

    Args:
        body: What to say.
        place: Where in the job it belongs.
        key: The sender's key.
        recipient: Fingerprint of the one who may act on it, or `*`.
        deadline: Unix time in seconds after which nobody may act on it.
    """
    values = {item.name: getattr(body, item.name) for item in dataclasses.fields(body)}
    blobs = {name: values.pop(name) for name in body.BLOBS}
    present = {name: blob for name, blob in blobs.items() if blob is not None}
    header = to_canonical(
        Header(
            kind=body.KIND,
            version=VERSION,
            sender=key.fingerprint,
            recipient=recipient,
            job=place.job,
            epoch=place.epoch,
            attempt=place.attempt,
            cohort=place.cohort,
            deadline=float(deadline),
            body=values,
            blobs={name: hashlib.sha256(blob).hexdigest() for name, blob in present.items()},
        )
    )
    return Packet(
        body.KIND, key.fingerprint, header, key.sign(_context(body.KIND), header), present
    )


def open_header(packet: Packet, public: bytes) -> Header:
    """Verify a packet's signature and blobs, then read its header.

    Args:
        packet: What arrived.
        public: Ed25519 key of the only sender to be believed, 32 bytes.

    Raises:
        IntegrityError: The signature, the sender or a blob is not what it must be.
        RefusalError: The sender speaks another protocol version.
    """
    verify(public, _context(packet.kind), packet.header, packet.signature)
    try:
        header = decode(Header, packet.header, "header")
    except FedwardError as error:
        raise IntegrityError("a signed header cannot be read") from error
    if header.version != VERSION:
        raise RefusalError(
            Code.VERSION,
            "the sender speaks another protocol version",
            expected=str(VERSION),
            found=str(header.version),
            remedy="install the same release of fedward on both sides",
        )
    digests = {name: hashlib.sha256(blob).hexdigest() for name, blob in packet.blobs.items()}
    signed = (header.kind, header.sender, header.blobs)
    if signed != (packet.kind, fingerprint(public), digests) or packet.sender != header.sender:
        raise IntegrityError("a packet's kind, sender or content is not what its sender signed")
    return header


def read_body(packet: Packet, header: Header, cls: type[B]) -> B:
    """The typed body of a packet whose header has been opened.

    Raises:
        IntegrityError: Fields or blobs do not fit the kind.
    """
    if header.kind != cls.KIND or not set(packet.blobs) <= set(cls.BLOBS):
        raise IntegrityError(f"a {header.kind} packet does not fit where {cls.KIND} is expected")
    try:
        return parse(cls, {**header.body, **packet.blobs}, header.kind)
    except FedwardError as error:
        raise IntegrityError(f"a {header.kind} packet's fields do not fit its kind") from error


def _context(kind: str) -> str:
    return f"packet:{kind}"
