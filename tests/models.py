"""Finished models that nobody trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from learning.card import Digests, Guarantee, ModelCard
from learning.task import FloatVector, load_task
from protocol.jobs import Named
from protocol.tensors import weights_digest


def invented_weights(task: Named, schema: Mapping[str, Any], seed: int = 0) -> FloatVector:
    """Weights of a model, as likely as any."""
    size = load_task(task, schema).layout().size
    return np.random.default_rng(seed).normal(size=size)


def card_of(
    task: Named, schema: Mapping[str, Any], weights_P: FloatVector, **changes: Any
) -> ModelCard:
    """The card of a finished model, the first of `sepsis`, that a clear job made."""
    card = ModelCard(
        name="sepsis",
        version=1,
        created="2026-11-20T10:00:00Z",
        intended_use="Research only",
        task=task,
        schema=schema,
        strategy=Named(name="fedsgd", options={}),
        rounds=20,
        cohort_size=5,
        privacy=Guarantee(mode="none", unit="record", delta=1e-5),
        metrics={},
        digests=Digests(
            job="a" * 64,
            roster="b" * 64,
            layout=load_task(task, schema).layout().digest,
            weights=weights_digest(weights_P),
        ),
    )
    return replace(card, **changes)
