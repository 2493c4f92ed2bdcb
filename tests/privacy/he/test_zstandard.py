import numpy as np
import pytest

from privacy.he.seeds import library
from privacy.he.zstandard import Decoder

# RFC 8878: magic, single segment of 5 bytes, one last raw block with "hello".
FRAME = bytes.fromhex("28b52ffd") + bytes([0x20, 5]) + bytes([5 << 3 | 1, 0, 0]) + b"hello"


def decoded(frame: bytes, capacity: int) -> bytes:
    decoder = Decoder(library(), capacity)
    decoder.frame[: len(frame)] = np.frombuffer(frame, dtype=np.uint8)
    content = decoder.decode(len(frame)).tobytes()
    decoder.close()
    return content


def test_a_frame_of_the_standard_is_opened() -> None:
    assert decoded(FRAME, 100) == b"hello"


@pytest.mark.parametrize("cut", range(len(FRAME)))
def test_half_a_frame_has_no_content(cut: int) -> None:
    assert decoded(FRAME[:cut], 100) == b""


def test_what_exceeds_the_capacity_has_no_content() -> None:
    long = bytes.fromhex("28b52ffd") + bytes([0x20, 200]) + bytes([200 << 3 & 255 | 3, 6, 0, 65])
    assert decoded(long, 200) == 200 * b"A"
    assert decoded(long, 199) == b""
