"""Records as PhysioNet's own package writes them, and what is refused of them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from client.data.config import WfdbConfig
from client.data.waveforms import Waveforms
from protocol.errors import InputError
from tests.source_cases import write_waveform

SIGNAL = np.arange(20.0).reshape(10, 2)


def loader(**changes: Any) -> Waveforms:
    told: dict[str, Any] = {"path": Path(), "index": Path("index.csv"), "rate_hz": 100.0}
    return Waveforms(WfdbConfig(kind="wfdb", **(told | changes)))


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record, on a machine without a network."""
    write_waveform(wfdb, tmp_path / "ecg7", SIGNAL)

    def unreachable(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    return tmp_path / "ecg7"


@pytest.mark.parametrize("suffix", ["", ".hea"])
def test_signals_come_in_their_unit_without_a_network(record: Path, suffix: str) -> None:
    found = loader().load(record.with_name(record.name + suffix))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, SIGNAL)


def test_channels_come_in_the_order_in_which_they_are_asked(record: Path) -> None:
    np.testing.assert_array_equal(loader(channels=("II", "I")).load(record), SIGNAL[:, ::-1])
    np.testing.assert_array_equal(loader(channels=("II",)).load(record), SIGNAL[:, 1:])


def test_a_sample_that_was_not_taken_is_missing(tmp_path: Path) -> None:
    gaps = SIGNAL.copy()
    gaps[3, 1] = np.nan
    write_waveform(wfdb, tmp_path / "gaps", gaps)
    np.testing.assert_array_equal(loader().load(tmp_path / "gaps"), gaps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": 500.0}, "another rate_hz than source.rate_hz; expected 500 Hz; found 100 Hz"),
        ({"unit": "uV"}, "another unit than source.unit; expected uV; found mV"),
        ({"channels": ("I", "V6")}, "another channels than .*; expected I, V6; found no V6"),
    ],
)
def test_a_record_of_another_kind_is_refused(
    record: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        loader(**changes).load(record)


def _header(change: Callable[[str], str]) -> Callable[[Path], None]:
    def act(record: Path) -> None:
        path = record.with_suffix(".hea")
        path.write_text(change(path.read_text()))

    return act


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # Two samples a frame would be read as their mean, at half the rate.
        ("ecg7.dat 16 ", "ecg7.dat 16x2 ", "another rate_hz than .*; found 200 Hz"),
        # Without a gain the package takes 200 steps for a millivolt.
        ("1.0(0)/mV", "0(0)/mV", "another unit than source.unit; expected mV; found no gain$"),
        (" 1.0(0)/mV 16 0", "", "another unit than .*; found no gain$"),
        (" II\n", " I\n", "another channels than .*; expected I; found 2 I$"),
    ],
)
def test_a_channel_that_would_be_taken_for_another_is_refused(
    record: Path, old: str, new: str, message: str
) -> None:
    _header(lambda text: text.replace(old, new))(record)
    with pytest.raises(InputError, match=message):
        loader(channels=("I",)).load(record)


@pytest.mark.parametrize("gain", ["1(0)/mV", "1e0(0)/mV", "1", "1.0/mV"])
def test_a_gain_may_be_written_in_several_ways(record: Path, gain: str) -> None:
    _header(lambda text: " # a remark\n" + text.replace("1.0(0)/mV", gain))(record)
    np.testing.assert_array_equal(loader().load(record), SIGNAL)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda record: record.with_suffix(".hea").unlink(), "no readable WFDB record"),
        (lambda record: record.with_suffix(".dat").unlink(), "no readable WFDB record"),
        (lambda record: record.with_suffix(".dat").write_bytes(b"12"), "no readable WFDB record"),
        (_header(lambda _: "Zaphod-4711"), "no readable WFDB record"),
        (_header(lambda text: text.replace("ecg7.dat", "/etc/hostname")), "no readable"),
        (_header(lambda _: ""), "no readable WFDB record"),
        (_header(lambda text: text.replace("ecg7.dat", "../ecg7.dat")), "no readable"),
        (_header(lambda text: text.replace("ecg7.dat", "http://db/x.dat")), "no readable"),
        (_header(lambda _: "ecg7/2 2 100 20\na 10\nb 10\n"), "several segments"),
        (_header(lambda _: "ecg7 0 100 10\n"), "several segments, or of none"),
    ],
)
def test_what_is_damaged_or_elsewhere_is_told_without_a_sample(
    record: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(record)
    with pytest.raises(InputError, match=message) as caught:
        loader().load(record)
    assert "Zaphod" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rate_hz": 0.0}, "rate_hz"), ({"channels": ("I", "I")}, "every channel named once")],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        loader(**changes)
