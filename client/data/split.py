"""Which patients are held out for evaluation: a keyed hash of each one, and nothing else.

A side that depends on one row alone never moves when others come or go, so no patient is trained
on today and evaluated on tomorrow, and the two partitions of the privacy ledger stay disjoint. The
key is the hospital's secret: without it nobody who knows a patient's number can tell the side.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learning.schema import as_text
from protocol.errors import InputError

Value = str | float | None
Identity = Value | tuple[Value, ...]

_CONTEXT = b"fedward/split/1\0"
_NOTHING = b"\xff" * 8
_RANGE = 1 << 64


def is_held_out(identity: Sequence[Identity], key: bytes, fraction: float) -> npt.NDArray[np.bool_]:
    """For each of N records, whether it is held out, (N,).

    Args:
        identity: Per record its patient's number, or, where no column names the patient, all of
            its cells: equal records then share a side. Numbers and text are compared as the schema
            compares them, so that "7" and 7.0 are one patient.
        key: The population's secret, at least 16 bytes, the same for ever.
        fraction: Expected share of identities held out, in [0, 1]. Those held out at a smaller
            fraction stay so at a larger one.

    Raises:
        InputError: The fraction or the key cannot be used.

    Source: RFC 2104 with SHA-256; the first 64 bits of the code against fraction * 2^64.

    >>> is_held_out(["a", "b", "a"], b"k" * 32, 1.0).tolist()
    [True, True, True]
    """
    if not 0.0 <= fraction <= 1.0:
        raise InputError("held-out fraction", expected="from 0 to 1", found=str(fraction))
    if len(key) < 16:
        raise InputError("split key", expected="at least 16 bytes", found=f"{len(key)}")
    threshold = int(fraction * _RANGE)

    codes = (hmac.digest(key, _CONTEXT + _encode(one), "sha256") for one in identity)
    held = (int.from_bytes(code[:8], "big") < threshold for code in codes)
    return np.fromiter(held, np.bool_, count=len(identity))


def _encode(identity: Identity) -> bytes:
    """Length and text of every value, so that no two identities share their bytes."""
    values = identity if isinstance(identity, tuple) else (identity,)
    return b"".join(_encode_value(value) for value in values)


def _encode_value(value: Value) -> bytes:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _NOTHING
    text = as_text(value).encode()
    return len(text).to_bytes(8, "big") + text
