"""Packets as Flower carries them: small parts as one object, each large one by itself.

Flower moves a message object by object, each with a request of its own at both sides, so that many
small parts would take longer than what they say. The only module of this package that knows Flower.
"""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from protocol.errors import IntegrityError

LARGE_BYTES = 1 << 16
_SMALL = "packet"
_LARGE = "blobs"


def to_record(parts: Mapping[str, bytes]) -> RecordDict:
    """The content of a message.

    Args:
        parts: A packet's parts by name, as `protocol.messages.Packet.to_wire` gives them.
    """
    small = {name: data for name, data in parts.items() if len(data) < LARGE_BYTES}
    large = {
        name: Array(dtype="uint8", shape=(len(data),), stype="bytes", data=data)
        for name, data in parts.items()
        if name not in small
    }
    record = RecordDict({_SMALL: ConfigRecord({**small})})
    if large:
        record[_LARGE] = ArrayRecord(large)
    return record


def parts_of(record: RecordDict) -> dict[str, bytes]:
    """The parts of the packet that a message brought, by name.

    Raises:
        IntegrityError: It is no message that `to_record` makes.
    """
    try:
        small = record.config_records[_SMALL]
        large = record.array_records[_LARGE] if _LARGE in record else ArrayRecord()
        parts = {name: array.data for name, array in large.items()}
    except (KeyError, ValueError):
        raise IntegrityError("a message without a packet") from None
    for name, data in small.items():
        if not isinstance(data, bytes) or name in parts:
            raise IntegrityError("a packet's part", expected="bytes, once")
        parts[name] = data
    return parts
