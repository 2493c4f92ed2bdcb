"""What attackers read: all of what their parties hold, and nothing that they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learning.trainer import PlainGradient
from privacy.he.accumulator import Shape
from privacy.he.bits import pack_bits, rounded
from privacy.he.codec import pack
from simulations.attack_bench import Exchange
from simulations.attack_jobs import Defence
from simulations.attack_views import (
    ciphertext_as_plain,
    readings,
    remainder,
    sum_readings,
    unmasked,
    with_invented_key,
)
from tests.simulations.attacked import BOTH, ENCRYPTION, EVERY, NOISE, NONE, bench

ENCRYPTED = pytest.mark.parametrize("defence", [ENCRYPTION, BOTH], ids=lambda one: one.label)


def second_round(defence: Defence, **changes: object) -> Exchange:
    hospitals = bench(defence, **changes)  # type: ignore[arg-type]
    return hospitals.exchange(hospitals.rounds(1))


def truth(exchange: Exchange, victim: str) -> np.ndarray:
    hospitals = exchange.bench
    gradient = PlainGradient(hospitals.task)
    return gradient(hospitals.records[victim], exchange.state.weights, 0)


def test_without_defences_the_reading_is_the_gradient() -> None:
    exchange = second_round(NONE)
    (read,) = readings(exchange, "south")
    assert read == pytest.approx(truth(exchange, "south"), abs=1e-12)


def test_noise_alone_leaves_the_clipped_gradient_and_noise() -> None:
    exchange = second_round(NOISE)
    (read,) = readings(exchange, "south")
    hospitals = exchange.bench
    release = hospitals.job.privacy.update
    declared = hospitals.job.site("south").train_size
    assert np.array_equal(read * release.scale * declared, exchange.own["south"])


@pytest.mark.parametrize("mode", ["distributed", "local"])
@pytest.mark.parametrize("defence", [ENCRYPTION, BOTH], ids=lambda one: one.label)
def test_all_others_together_get_the_last_bit_on_both_ways(defence: Defence, mode: str) -> None:
    """By subtraction from the sum, and by taking every mask off the victim's own ciphertext."""
    exchange = second_round(defence, mode=mode)
    names = exchange.bench.names
    for victim in names:
        others = [name for name in names if name != victim]
        assert np.array_equal(remainder(exchange, victim), exchange.own[victim])
        assert np.array_equal(unmasked(exchange, victim, others), exchange.own[victim])
    (read,) = readings(exchange, "west", [name for name in names if name != "west"])
    own = exchange.bench.total(exchange.own["west"], ("west",))
    ratio = read[own.sum != 0] / own.sum[own.sum != 0]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))


@ENCRYPTED
@pytest.mark.parametrize("colluders", [("north",), ("north", "east")])
def test_one_mask_that_stays_on_hides_every_word(
    defence: Defence, colluders: tuple[str, ...]
) -> None:
    exchange = second_round(defence, hidden=(64, 16))
    values = unmasked(exchange, "south", colluders)
    half = exchange.bench.packing.radix / 2
    # Uniform digits: mean 0 and deviation half/sqrt(3), where the true ones are tiny.
    assert np.std(values) == pytest.approx(half / np.sqrt(3), rel=0.05)
    assert abs(np.corrcoef(values, exchange.own["south"])[0, 1]) < 0.06


@ENCRYPTED
def test_a_ciphertext_tells_the_coordinator_nothing(defence: Defence) -> None:
    exchange = second_round(defence, hidden=(64, 16))
    for values in (
        ciphertext_as_plain(exchange, "south"),
        with_invented_key(exchange, "south"),
    ):
        assert abs(np.corrcoef(values, exchange.own["south"])[0, 1]) < 0.06
    assert len(readings(exchange, "south")) == 2


def test_the_coordinator_would_read_a_ciphertext_that_hides_nothing() -> None:
    """So that its failure above is the encryption's doing and not its own."""
    exchange = second_round(ENCRYPTION)
    hospitals = exchange.bench
    packing, shape = hospitals.packing, Shape.of(hospitals.packing, hospitals.framed)
    values = exchange.own["south"]
    bare = np.zeros(rounded(hospitals.framed), dtype=np.uint64)
    words = pack(values, packing)
    bare[: words.size] = [
        (int(word) * packing.modulus + packing.plain_modulus // 2) // packing.plain_modulus
        for word in words
    ]
    payload = exchange.sent["south"]
    split = len(payload) - shape.first_size
    sent = {**exchange.sent, "south": payload[:split] + pack_bits(bare, shape.bits)}
    read = ciphertext_as_plain(replace(exchange, sent=sent), "south")
    assert np.array_equal(read, values)


@pytest.mark.parametrize("defence", EVERY, ids=lambda one: one.label)
def test_a_sum_is_the_mean_of_all_or_nothing(defence: Defence) -> None:
    exchange = second_round(defence, hidden=(64, 16))
    hospitals = exchange.bench
    (with_hospital,) = sum_readings(exchange, ("north",))
    (alone,) = sum_readings(exchange)
    if not defence.encrypted:
        assert np.array_equal(alone, with_hospital)
    else:
        assert abs(np.corrcoef(alone, with_hospital)[0, 1]) < 0.06
    if defence.epsilon is None:
        mean_P = np.mean([truth(exchange, name) for name in hospitals.names], axis=0)
        assert with_hospital == pytest.approx(mean_P, abs=1e-4)
