"""Records of the Waveform Database (WFDB): headers and signals as PhysioNet has them.

The package wfdb reads them, from local files alone: its grammar of headers has no name of a file
that could lie in another folder or at an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.data.arrays import Array
from client.data.config import WfdbConfig
from client.data.source import needs
from protocol.errors import InputError

# What a header or signal file that was cut off or changed makes the package raise.
_DAMAGED = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError)


@dataclass(frozen=True)
class Waveforms:
    """Reads one record of a data set; see `client.data.config.WfdbConfig`.

    Args:
        config: Rate, unit and channels that every record must have.
    """

    config: WfdbConfig

    def load(self, path: Path) -> Array:
        """The signals T x C in the stated unit, channels in the stated order, NaN for no sample.

        Args:
            path: A record, with or without `.hea`.

        Raises:
            InputError: It cannot be read, or is of another rate, unit or channels. Messages name
                the file and never a sample.
        """
        with needs("wfdb", "WFDB records"):
            import wfdb  # noqa: PLC0415 - an extra, and slow to import
        base = path.with_suffix("") if path.suffix == ".hea" else path
        try:
            header = wfdb.rdheader(str(base))
        except _DAMAGED as error:
            raise _unreadable(path, error) from None
        chosen = self._chosen(path, header)
        try:
            signal = wfdb.rdrecord(str(base), channels=chosen, return_res=64).p_signal
        except _DAMAGED as error:
            raise _unreadable(path, error) from None
        return np.asarray(signal, dtype=np.float64)

    def _chosen(self, path: Path, header: Any) -> list[int]:
        """Places of the asked channels in a record that is as it was stated."""
        if not isinstance(getattr(header, "file_name", None), list):
            raise InputError(
                f"{path}: a record of several segments, or of none",
                expected="one with a line for each signal",
                remedy="cut it into records of one segment with WFDB's own tools",
            )
        names, asked = list(header.sig_name), self.config.channels
        absent = [name for name in asked if name not in names]
        if absent:
            raise _other(path, "channels", ", ".join(asked), f"no {', '.join(absent)}")
        chosen = [names.index(name) for name in asked] or list(range(len(names)))
        if float(header.fs) != self.config.rate_hz:
            raise _other(path, "rate_hz", f"{self.config.rate_hz:g} Hz", f"{header.fs:g} Hz")
        others = {header.units[place] for place in chosen} - {self.config.unit}
        if others:
            raise _other(path, "unit", self.config.unit, ", ".join(sorted(map(str, others))))
        return chosen


def _other(path: Path, what: str, expected: str, found: str) -> InputError:
    return InputError(f"{path}: another {what} than source.{what}", expected=expected, found=found)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: no readable WFDB record",
        expected="a header NAME.hea and the files that it names, beside it",
        found=type(error).__name__,
    )
