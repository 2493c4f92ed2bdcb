"""What an attacker reads of a round: exactly what the parties on its side hold, and no more.

A coordinator holds what hospitals sent. Hospitals on its side add the epoch's keys, their own
integers, their own mask keys, and every decrypted sum. Where that opens nothing, the attacker takes
what it has for what it wants: ciphertext for plaintext, masked words for words. It gets numbers of
the right shape, and goes on with the same attack as if they were readable.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from privacy.cohort_keys import make, secret_of
from privacy.he.accumulator import Shape
from privacy.he.bits import Words, rounded, unpack_bits
from privacy.he.codec import unpack
from privacy.he.parameters import num_words
from privacy.he.sum import CiphertextSum
from privacy.masks import pairwise_keys, uniform_words
from simulations.attack_bench import Bench, Exchange
from strategies.base import FloatVector, Total

IntVector = npt.NDArray[np.int64]


def readings(exchange: Exchange, victim: str, colluders: Collection[str] = ()) -> list[FloatVector]:
    """One hospital's mean gradient as the coordinator and some hospitals read it.

    Args:
        exchange: The round.
        victim: Whose update is wanted.
        colluders: Hospitals that pool what they hold with the coordinator.

    Returns:
        P numbers each; several where the attacker has several ways to read what it has.
    """
    bench = exchange.bench
    if not bench.defence.encrypted:
        return [gradient(bench, bench.total_in_clear(exchange.sent[victim], (victim,)))]
    if not colluders:
        values = [ciphertext_as_plain(exchange, victim), with_invented_key(exchange, victim)]
    elif set(colluders) == set(bench.names) - {victim}:
        values = [remainder(exchange, victim)]
    else:
        values = [unmasked(exchange, victim, colluders)]
    return [gradient(bench, bench.total(one, (victim,))) for one in values]


def sum_readings(exchange: Exchange, colluders: Collection[str] = ()) -> list[FloatVector]:
    """The mean gradient over all hospitals as the coordinator and some hospitals read it."""
    bench = exchange.bench
    if not bench.defence.encrypted:
        return [gradient(bench, bench.total_in_clear(exchange.returned, bench.names))]
    values = exchange.reveal() if colluders else returned_as_plain(exchange)
    return [gradient(bench, bench.total(values, bench.names))]


def gradient(bench: Bench, total: Total) -> FloatVector:
    """The mean gradient that a contribution stands for: an update is a step along it."""
    mean_P = total.sum / total.weight
    if bench.strategy.contribution == "update":
        training = bench.job.training
        mean_P = -mean_P / (training.learning_rate * training.local_steps)
    return mean_P


def remainder(exchange: Exchange, victim: str) -> IntVector:
    """All other hospitals subtract their own integers from the decrypted sum.

    The masks have cancelled in the sum, so what is left is the victim's contribution, to the last
    bit. Only the victim's own noise protects it.
    """
    others = [values for name, values in exchange.own.items() if name != victim]
    left: IntVector = exchange.reveal() - np.sum(others, axis=0)
    return left


def unmasked(exchange: Exchange, victim: str, colluders: Collection[str]) -> IntVector:
    """Hospitals decrypt the victim's own ciphertext and take off the masks that they share with it.

    The masks that the victim shares with the others stay on.
    """
    bench = exchange.bench
    alone = CiphertextSum(bench.packing, bench.framed)
    alone.add(exchange.sent[victim])
    key = secret_of(bench.keys.epoch, "update", bench.packing)
    words = key.decrypt(alone.residues(), bench.framed)
    for colluder in colluders:
        words = _without_mask(exchange, words, victim, colluder)
    return _values(bench, words)


def ciphertext_as_plain(exchange: Exchange, victim: str) -> IntVector:
    """The coordinator scales a ciphertext's residues as if they hid nothing."""
    bench = exchange.bench
    shape = Shape.of(bench.packing, bench.framed)
    packed = exchange.sent[victim][-shape.first_size :]
    return _values(bench, _scaled(bench, packed))


def returned_as_plain(exchange: Exchange) -> IntVector:
    """The same with the residues of the sum, which the coordinator returns."""
    bench = exchange.bench
    shape = Shape.of(bench.packing, bench.framed)
    return _values(bench, _scaled(bench, exchange.returned[: shape.first_size]))


def with_invented_key(exchange: Exchange, victim: str) -> IntVector:
    """The coordinator decrypts a ciphertext under a key of its own making."""
    bench = exchange.bench
    alone = CiphertextSum(bench.packing, bench.framed)
    alone.add(exchange.sent[victim])
    key = secret_of(make(bench.job.encryption), "update", bench.packing)
    return _values(bench, key.decrypt(alone.residues(), bench.framed))


def _scaled(bench: Bench, packed: bytes) -> Words:
    """Words that residues would hide if the key were zero: residue times t over q, rounded."""
    packing = bench.packing
    bits = packing.modulus.bit_length()
    residues = unpack_bits(packed, rounded(bench.framed), bits)[: bench.framed]
    scaled = np.rint(residues * (packing.plain_modulus / packing.modulus))
    words: Words = scaled.astype(np.uint64) % np.uint64(packing.plain_modulus)
    return words


def _without_mask(exchange: Exchange, words: Words, victim: str, colluder: str) -> Words:
    bench, channel = exchange.bench, exchange.channel(colluder)
    modulus = np.uint64(bench.packing.plain_modulus)
    shared = pairwise_keys(
        me=colluder,
        cohort=channel.cohort,
        ephemeral=channel.ephemeral,
        attempt=channel.attempt,
        purpose=channel.purpose,
        data_key=channel.keys.data,
        weights_tag=channel.weights_tag,
    )[victim]
    mask = uniform_words(shared, words.size, int(modulus))
    fingerprint = {name: channel.cohort.member(name).fingerprint for name in (victim, colluder)}
    added = fingerprint[victim] < fingerprint[colluder]
    return (words + (modulus - mask if added else mask)) % modulus


def _values(bench: Bench, words: Words) -> IntVector:
    count = num_words(bench.length, bench.packing)
    return unpack(words[:count], bench.length, bench.packing)
