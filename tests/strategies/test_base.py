from __future__ import annotations

import struct
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named, Training
from strategies import base
from strategies.base import State, Total, load_strategy

finite = st.floats(allow_nan=False, allow_infinity=False)
TRAINING = Training(
    rounds=1, spare_attempts=0, local_steps=1, learning_rate=0.1, l2=0.0, proximal=0.0, seed=0
)


@given(
    data=st.integers(0, 3).flatmap(
        lambda count: st.integers(1, 6).flatmap(
            lambda size: arrays(np.float64, (count + 1, size), elements=finite)
        )
    ),
    step=st.integers(0, 2**63),
)
def test_bytes_bring_back_every_bit_of_a_state(data: Any, step: int) -> None:
    state = State(data[0], tuple(data[1:]), step)
    back = State.from_bytes(state.to_bytes())
    assert back.step == step
    assert len(back.moments) == len(state.moments)
    for old, new in zip(
        (state.weights, *state.moments), (back.weights, *back.moments), strict=True
    ):
        assert old.tobytes() == new.tobytes()
        assert new.flags.writeable
        assert new.flags.owndata


def test_the_bytes_are_little_endian_on_every_machine() -> None:
    written = State(np.array([1.5, -2.0]), (), 7).to_bytes()
    assert written == b"fedward-state/1\0" + struct.pack("<QQQdd", 7, 2, 1, 1.5, -2.0)


GOOD = State(np.arange(3.0), (np.ones(3),), 1).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        b"x" + GOOD[1:],
        GOOD[:20],
        b"fedward-state/1\0" + struct.pack("<QQQ", 0, 2, 0),
        b"fedward-state/1\0" + struct.pack("<QQQ", 0, 2**62, 4),
        b"fedward-state/1\0" + struct.pack("<QQQ", 0, 0, 2**40),
        b"fedward-state/1\0" + struct.pack("<QQQd", 0, 1, 1, float("nan")),
        b"fedward-state/1\0" + struct.pack("<QQQd", 0, 1, 1, float("-inf")),
    ],
    ids=["empty", "short", "long", "magic", "header", "none", "overflow", "endless", "nan", "inf"],
)
def test_other_bytes_are_no_state(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="state"):
        State.from_bytes(data)


@pytest.mark.parametrize(
    ("weights", "moments"),
    [
        (np.zeros(2), (np.zeros(3),)),
        (np.zeros((2, 2)), ()),
        (np.zeros(2, dtype=np.float32), ()),
        (np.zeros(2), (np.zeros(2, dtype=np.int64),)),
    ],
)
def test_a_state_has_float64_vectors_of_one_length(weights: Any, moments: Any) -> None:
    with pytest.raises(InputError, match="state; expected float64"):
        State(weights, moments, 0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sum_has_a_positive_divisor(weight: float) -> None:
    with pytest.raises(InputError, match="divisor"):
        Total(np.zeros(2), weight)


def entries(*values: str) -> Any:
    return lambda: tuple(EntryPoint("mine", value, "fedward.strategies") for value in values)


def test_two_installed_strategies_of_one_name_are_not_guessed_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "installed", entries("a:A", "b:B"))
    with pytest.raises(InputError, match="2 strategies named 'mine'"):
        load_strategy(Named(name="mine", options={}), TRAINING, 1)


@pytest.mark.parametrize("value", ["strategies.no_such_module:A", "strategies.fedavg:NoSuch"])
def test_a_broken_installation_is_told_plainly(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(base, "installed", entries(value))
    with pytest.raises(InputError, match=f"'mine' cannot be loaded from {value}"):
        load_strategy(Named(name="mine", options={}), TRAINING, 1)
