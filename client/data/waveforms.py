"""Records of the Waveform Database (WFDB): headers and signals as PhysioNet has them.

The package wfdb reads them, from local files alone: its grammar of headers has no name of a file
that could lie in another folder or at an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.data.arrays import Array
from client.data.config import WfdbConfig
from client.data.source import needs
from protocol.errors import InputError

_GAIN = re.compile(r"-?0*\.?0*[1-9]")
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
        chosen = self._chosen(base, header)
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
        doubtful = [name for name in asked if names.count(name) != 1]
        if doubtful:
            found = ", ".join(f"{names.count(name) or 'no'} {name}" for name in doubtful)
            raise _other(path, "channels", ", ".join(asked), found)
        chosen = [names.index(name) for name in asked] or list(range(len(names)))
        # A header's rate is one of frames, in which a channel may have several samples.
        rates = {float(header.fs) * header.samps_per_frame[place] for place in chosen}
        if rates != {self.config.rate_hz}:
            found = ", ".join(f"{rate:g} Hz" for rate in sorted(rates))
            raise _other(path, "rate_hz", f"{self.config.rate_hz:g} Hz", found)
        stated = _calibrated(path)
        units = {header.units[place] if stated[place] else "no gain" for place in chosen}
        if units != {self.config.unit}:
            raise _other(path, "unit", self.config.unit, ", ".join(sorted(map(str, units))))
        return chosen


def _calibrated(base: Path) -> list[bool]:
    """Whether a header states each signal's gain; without one the package takes 200 steps a mV.

    Source: WFDB, header(5): signals whose gain is missing or zero are uncalibrated.
    """
    text = base.with_name(f"{base.name}.hea").read_text(encoding="ascii", errors="ignore")
    lines = [fields for line in text.splitlines() if (fields := line.partition("#")[0].split())]
    return [_GAIN.match("".join(fields[2:3])) is not None for fields in lines[1:]]


def _other(path: Path, what: str, expected: str, found: str) -> InputError:
    return InputError(f"{path}: another {what} than source.{what}", expected=expected, found=found)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: no readable WFDB record",
        expected="a header NAME.hea and the files that it names, beside it",
        found=type(error).__name__,
    )
