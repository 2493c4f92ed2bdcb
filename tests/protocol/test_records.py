"""Packets in Flower's records: few objects, whatever the parts."""

from __future__ import annotations

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import IntegrityError
from protocol.records import LARGE_BYTES, parts_of, to_record

LARGE = b"u" * LARGE_BYTES


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=64) | st.just(LARGE), max_size=6))
def test_what_is_put_in_comes_out(parts: dict[str, bytes]) -> None:
    sent = RecordDict.inflate(to_record(parts).deflate(), to_record(parts).children)

    assert parts_of(sent) == parts


def test_small_parts_are_one_object_and_large_ones_their_own() -> None:
    small = to_record({f"part {number}": b"x" for number in range(20)})
    assert len(small.children) == 1

    both = to_record({"header": b"x", "update": LARGE, "counts": LARGE})
    assert sorted(both.array_records["blobs"]) == ["counts", "update"]
    assert list(both.config_records["packet"]) == ["header"]


@pytest.mark.parametrize(
    "strange",
    [
        RecordDict(),
        RecordDict({"packet": MetricRecord({"header": 1})}),
        RecordDict({"packet": ConfigRecord({"header": "text"})}),
        RecordDict({"packet": ConfigRecord({"header": b"x"}), "blobs": ConfigRecord()}),
        RecordDict(
            {
                "packet": ConfigRecord({"header": b"x"}),
                "blobs": ArrayRecord(
                    {"header": Array(dtype="uint8", shape=(1,), stype="bytes", data=b"y")}
                ),
            }
        ),
    ],
    ids=["nothing", "no bytes", "a text", "no arrays", "twice"],
)
def test_what_nobody_sends_is_refused(strange: RecordDict) -> None:
    with pytest.raises(IntegrityError, match="packet"):
        parts_of(strange)
