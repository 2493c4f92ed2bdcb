"""Flower's own strategies, for research runs without encryption.

Robust aggregation (Krum, medians, trimmed means) reads every hospital's update, so it cannot run
under a sum that nobody can take apart. A clear simulation on public data can: `FlowerStrategy`
gives any aggregating class of `flwr.serverapp.strategy` plain vectors and takes one back.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.app.constants import DEFAULT_TTL
from flwr.app.exception import AppExitException
from flwr.serverapp import Grid, strategy

from protocol.errors import InputError
from strategies.base import CLEAR_PREFIX, FloatVector

_KEY = "weights"
_PLUMBING = ("fraction_", "min_", "train_metrics", "evaluate_metrics")


class FlowerStrategy:
    """One of Flower's strategies at a coordinator that sees every hospital's update.

    Args:
        name: `flwr:` and a class of `flwr.serverapp.strategy` that averages arrays.
        options: Arguments of that class, except those for sampling nodes and naming records.

    Raises:
        InputError: There is no such class, or it does not take these options.

    >>> median = FlowerStrategy("flwr:FedMedian")
    >>> sites = {name: (np.array([step]), 1.0) for name, step in zip("abc", (1.0, 2.0, 99.0))}
    >>> median.aggregate(1, sites, np.array([10.0])).tolist()
    [12.0]
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        offered = available()
        if name not in offered:
            raise InputError(
                f"no clear strategy named {name!r}", expected=f"one of {', '.join(offered)}"
            )
        cls = offered[name]
        chosen = dict(options or {})
        allowed = _options_of(cls)
        unknown = sorted(set(chosen) - set(allowed))
        if unknown:
            raise InputError(
                f"options of {name!r}",
                expected=", ".join(allowed) or "none",
                found=", ".join(unknown),
            )
        try:
            with _quiet():
                self._strategy = cls(**chosen, min_train_nodes=0, min_available_nodes=0)
        except (TypeError, ValueError) as error:
            raise InputError(f"options of {name!r}", found=str(error)) from error

    def aggregate(
        self,
        round_number: int,
        updates: Mapping[str, tuple[FloatVector, float]],
        weights: FloatVector,
        *,
        losses: Mapping[str, float] | None = None,
    ) -> FloatVector:
        """The next weights.

        Args:
            round_number: 1 in the first round.
            updates: By site, its update (new weights minus `weights`) and its weight.
            weights: The round's first weights, P values.
            losses: By site, its training loss, where the strategy asks for one (QFedAvg).

        Raises:
            InputError: The strategy cannot aggregate these updates; too few sites, for example.
        """
        replies = [
            self._reply(
                node, weights + updates[site][0], updates[site][1], (losses or {}).get(site)
            )
            for node, site in enumerate(sorted(updates), start=1)
        ]
        try:
            with _quiet():
                empty = ConfigRecord()
                self._strategy.configure_train(round_number, _record(weights), empty, _NOBODY)
                arrays, _ = self._strategy.aggregate_train(round_number, replies)
        except (AppExitException, ValueError) as error:
            raise InputError(f"{self.name!r} cannot aggregate", found=str(error)) from error
        if arrays is None:
            raise InputError(
                f"{self.name!r} cannot aggregate",
                expected="enough sites for its number of malicious ones",
                found=f"{len(updates)} sites",
            )
        return np.asarray(arrays[_KEY].numpy(), dtype=np.float64)

    def _reply(self, node: int, weights: FloatVector, weight: float, loss: float | None) -> Message:
        metrics = MetricRecord({self._strategy.weighted_by_key: weight})
        if loss is not None:
            metrics["train_loss"] = loss
        return _message(RecordDict({"arrays": _record(weights), "metrics": metrics}), node)


class _EmptyGrid:
    """A grid without nodes: a strategy notes the round's weights and writes no message."""

    def get_node_ids(self) -> tuple[int, ...]:
        """Nobody."""
        return ()


_NOBODY = cast("Grid", _EmptyGrid())


def available() -> dict[str, type[strategy.FedAvg]]:
    """Names and classes that average arrays; wrappers and tree ensembles do not.

    >>> "flwr:Krum" in available()
    True
    """
    classes = {name: getattr(strategy, name) for name in strategy.__all__}
    return {
        CLEAR_PREFIX + name: cls
        for name, cls in sorted(classes.items())
        if issubclass(cls, strategy.FedAvg) and not name.startswith("FedXgb")
    }


def _options_of(cls: type[strategy.FedAvg]) -> list[str]:
    names = list(inspect.signature(cls).parameters)
    return [name for name in names if not name.startswith(_PLUMBING) and not name.endswith("_key")]


@contextmanager
def _quiet() -> Iterator[None]:
    """Flower's remarks on sampling nodes would tell of an empty grid."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _record(weights: FloatVector) -> ArrayRecord:
    return ArrayRecord({_KEY: Array(weights)})


def _message(content: RecordDict, node: int) -> Message:
    """A reply as it would arrive; Flower builds one by itself only inside a run."""
    metadata = Metadata(
        run_id=0,
        message_id="",
        src_node_id=node,
        dst_node_id=0,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=DEFAULT_TTL,
        message_type=MessageType.TRAIN,
    )
    return cast("Message", cast("Any", Message)(content=content, metadata=metadata))
