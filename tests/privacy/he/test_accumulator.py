import numpy as np
import pytest

from privacy.he.accumulator import Accumulator, Shape
from privacy.he.bits import pack_bits
from privacy.he.parameters import parameters_for
from protocol.errors import IntegrityError

PACKING = parameters_for(radix=2541, max_sites=3)
SHAPE = Shape.of(PACKING, 70)


def contribution(residue: int) -> bytes:
    return bytes(64) + pack_bits(np.full(128, residue, dtype=np.uint64), SHAPE.bits)


def test_residues_add_mod_q_and_refused_contributions_leave_no_trace() -> None:
    total = Accumulator(SHAPE)
    q = PACKING.modulus
    total.add(contribution(q - 1))
    before = total.residues()
    for bad in (contribution(q), contribution(q)[:-1], contribution(1) + b"\0", b""):
        with pytest.raises(IntegrityError):
            total.add(bad)
        assert total.residues() == before
    total.add(contribution(q - 1))
    first = SHAPE.read_residues(total.residues()[: SHAPE.first_size], 128)
    assert set(first.tolist()) == {q - 2}


def test_no_more_contributions_than_the_parameters_allow() -> None:
    total = Accumulator(SHAPE)
    for _ in range(3):
        total.add(contribution(1))
    with pytest.raises(IntegrityError, match="at most 3"):
        total.add(contribution(1))


def test_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(IntegrityError, match="found none"):
        Accumulator(SHAPE).residues()
