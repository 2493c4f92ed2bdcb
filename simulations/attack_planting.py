"""What a node answers to a coordinator that wants it to train from weights of its own.

Two ways lead to a node's weights: the job, which names a digest of the first ones, and the sums,
which make the later ones. Both are tried here with the code that a node runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from client.admission import Admitted, Situation, admit
from client.policy import Policy, Population
from learning.schema import Schema
from privacy.he.accumulator import Shape
from privacy.he.bits import pack_bits, rounded, unpack_bits
from privacy.he.codec import pack
from protocol.config import parse
from protocol.errors import IntegrityError, RefusalError
from protocol.jobs import Job
from protocol.tensors import weights_digest
from simulations.attack_bench import Bench, Exchange
from strategies.base import FloatVector

_ANY_EPSILON = 1000.0


def refusals(bench: Bench, planted_P: FloatVector) -> Mapping[str, str]:
    """Try both ways.

    Args:
        bench: An encrypted consortium.
        planted_P: The weights to plant.

    Returns:
        The node's reason by way; an empty text where it did not refuse.
    """
    return {
        "weights named in the job": refusal_of_job(bench, planted_P),
        "weights added to a sum": refusal_of_sum(bench, planted_P),
    }


def refusal_of_job(bench: Bench, planted_P: FloatVector) -> str:
    """A job has no field for weights, only for their digest, and a node compares it with its own.

    Raises:
        RefusalError: The node refuses the job for another reason, with the honest digest too.
    """
    _admitted(bench, bench.job)
    try:
        _admitted(bench, replace(bench.job, initial_weights=weights_digest(planted_P)))
    except RefusalError as error:
        return str(error)
    return ""


def refusal_of_sum(bench: Bench, planted_P: FloatVector) -> str:
    """Adding words to a ciphertext needs no key, but the words' tags would have to follow."""
    exchange = bench.exchange(bench.start())
    try:
        changed(exchange, planted_P).after()
    except IntegrityError as error:
        return str(error)
    return ""


def changed(exchange: Exchange, planted_P: FloatVector) -> Exchange:
    """The round with a sum to which the coordinator added what would move weights to its own."""
    bench, packing = exchange.bench, exchange.bench.packing
    words = pack(shift(exchange, planted_P), packing)
    shape = Shape.of(packing, bench.framed)
    data, split = exchange.returned, shape.first_size
    residues = unpack_bits(data[:split], rounded(bench.framed), shape.bits)
    # A ciphertext of zero with the words in it: q / t times each, as encryption scales them.
    scaled = [(int(word) * packing.modulus) // packing.plain_modulus for word in words]
    residues[: words.size] += np.array(scaled, dtype=np.uint64)
    residues %= np.uint64(packing.modulus)
    return replace(exchange, returned=pack_bits(residues, shape.bits) + data[split:])


def shift(exchange: Exchange, planted_P: FloatVector) -> npt.NDArray[np.int64]:
    """Integers that a sum must gain for the next weights to be the planted ones.

    Half of what a digit holds at most: more would spill into its neighbour.
    """
    bench, state = exchange.bench, exchange.state
    one_P = np.ones(bench.length, dtype=np.int64)
    moved_P, still_P = (
        bench.strategy.step(state, bench.total(values_P, bench.names)).weights
        for values_P in (one_P, 0 * one_P)
    )
    reach = (bench.packing.radix - 1) // 4
    steps_P = (planted_P - still_P) / (moved_P - still_P)
    return np.rint(np.clip(steps_P, -reach, reach)).astype(np.int64)


def _admitted(bench: Bench, job: Job) -> Admitted:
    """What a node decides whose policy allows everything but other weights."""
    situation = Situation(
        name=bench.names[0],
        roster=job.roster,
        policy=Policy(
            modes=("distributed", "local", "none"),
            epsilon_per_job=_ANY_EPSILON,
            epsilon_worst_per_job=_ANY_EPSILON,
            delta=job.privacy.delta,
            min_colluding_sites=0,
        ),
        population=Population(public=True),
        columns=parse(Schema, job.schema, "job.schema").column_names,
        now=datetime.now(UTC),
    )
    return admit(job, situation)
