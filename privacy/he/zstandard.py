"""The Zstandard decoder that TenSEAL's extension module contains, with which SEAL compresses.

It opens what SEAL has just written in this process, never what a peer sent.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Decoder:
    """A decoder with its working memory, for one thread.

    Args:
        library: The extension module's file.
        capacity: Most bytes that a frame may hold, compressed or not.
    """

    def __init__(self, library: str, capacity: int) -> None:
        self._functions = _functions(library)
        self._state = self._functions.ZSTD_createDCtx()
        self.frame = np.empty(capacity, dtype=np.uint8)
        self._content = np.empty(capacity, dtype=np.uint8)
        self._addresses = self.frame.ctypes.data, self._content.ctypes.data

    def decode(self, size: int) -> Bytes:
        """The content of the first `size` bytes of `frame`, valid until the next call.

        What is no whole frame, or holds more than the capacity, has no content.
        """
        frame, content = self._addresses
        capacity = self._content.size
        # An error is a number near 2^64.
        found: int = self._functions.ZSTD_decompressDCtx(
            self._state, content, capacity, frame, size
        )
        return self._content[: found if found <= capacity else 0]

    def close(self) -> None:
        """Free the working memory."""
        self._functions.ZSTD_freeDCtx(self._state)


@cache
def _functions(library: str) -> ctypes.CDLL:
    """The library with the types of its functions; an AttributeError says that one is missing."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    functions = ctypes.CDLL(library)
    functions.ZSTD_createDCtx.restype = pointer
    functions.ZSTD_freeDCtx.argtypes = [pointer]
    functions.ZSTD_decompressDCtx.argtypes = [pointer, pointer, size, pointer, size]
    functions.ZSTD_decompressDCtx.restype = size
    return functions
