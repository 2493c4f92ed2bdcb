import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.he import bits
from privacy.he.bits import Words, pack_bits, packed_size, rounded, unpack_bits
from protocol.errors import IntegrityError


def as_integers(data: bytes, width: int, words: int) -> list[int]:
    """Independent reading: column by column, one long integer of 64 fields each."""
    columns = np.frombuffer(data, dtype="<u8").reshape(-1, words // 64)
    fields: list[list[int]] = []
    for column in columns.T:
        number = int.from_bytes(column.tobytes(), "little")
        fields.append([number >> (width * row) & ((1 << width) - 1) for row in range(64)])
    return [field for row in zip(*fields, strict=True) for field in row]


@st.composite
def words_and_width(draw: st.DrawFn) -> tuple[Words, int]:
    width = draw(st.integers(1, 64))
    count = 64 * draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**32))
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(0, 2**64, count, dtype=np.uint64)
    return drawn >> np.uint64(64 - width), width


@given(words_and_width())
def test_what_was_packed_comes_back_in_exactly_so_many_bits(case: tuple[Words, int]) -> None:
    words, width = case
    data = pack_bits(words, width)
    assert len(data) == words.size * width // 8 == packed_size(words.size, width)
    assert np.array_equal(unpack_bits(data, words.size, width), words)
    assert as_integers(data, width, words.size) == words.tolist()


def test_long_streams_are_packed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.arange(64 * 7, dtype=np.uint64)
    monkeypatch.setattr(bits, "BLOCK", 128)
    data = pack_bits(words, 9)
    assert np.array_equal(unpack_bits(data, words.size, 9), words)
    assert data[:144] == pack_bits(words[:128], 9)


def test_any_other_length_is_refused() -> None:
    data = pack_bits(np.zeros(64, dtype=np.uint64), 55)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(IntegrityError, match="440 bytes"):
            unpack_bits(wrong, 64, 55)


def test_counts_are_rounded_up_to_whole_columns() -> None:
    assert [rounded(count) for count in (0, 1, 64, 65)] == [0, 64, 64, 128]
