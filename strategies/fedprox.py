"""FedProx: local training is pulled towards the round's first weights; averaging as in FedAvg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from protocol.errors import InputError
from protocol.jobs import Training
from strategies.base import NoOptions, parse_options
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """The server's half of FedProx; the term mu/2 ||w - anchor||^2 is in the local training.

    Source: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith 2020, Algorithm 2.
    """

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:  # noqa: ARG003
        """No options: mu is the job's `training.proximal`, which the local training reads.

        Raises:
            InputError: There are options, or `training.proximal` is not positive.
        """
        parse_options(NoOptions, options, "fedprox")
        if not training.proximal > 0.0:
            raise InputError(
                "training.proximal with strategy 'fedprox'",
                expected="a positive number",
                found=str(training.proximal),
                remedy="name the strategy 'fedavg' to train without a proximal term",
            )
        return cls()
