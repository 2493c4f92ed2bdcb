"""The phases of a simulated round: which functions each is made of, and a clock inside them."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from privacy.he.sum import SumProcess

Seconds = npt.NDArray[np.float64]
GRADIENTS = "per-record gradients"
REST = "the rest of the coordinator"
PHASES: dict[str, tuple[str, ...]] = {
    "read records": ("client.hospital:Hospital.split",),
    "build model": (
        "learning.diagnosis:Diagnosis.model",
        "privacy.engine:Engine.__init__",
        "privacy.engine:Engine.load",
    ),
    GRADIENTS: ("privacy.engine:Engine.clipped_sum",),
    "noise and rounding": ("privacy.grid:release",),
    "pack": ("privacy.he.codec:pack",),
    "frame": ("privacy.he.words:frame",),
    "mask": ("privacy.masks:mask",),
    "load keys": ("privacy.cohort_keys:secret_of",),
    "encrypt": ("privacy.he.secret:SecretKey.encrypt",),
    "sign, verify, digest": (
        "protocol.messages:pack",
        "protocol.messages:open_header",
        "protocol.messages:read_body",
    ),
    "move": (
        "server.exchange:Exchange._push",
        "server.exchange:_packet",
        "simulations.inline:InlineGrid._answer",
    ),
    "add": (
        "privacy.he.sum:SumProcess.sum",
        "privacy.he.sum:RemoteSum.add",
        "privacy.he.sum:RemoteSum.residues",
    ),
    "decrypt": ("privacy.he.secret:SecretKey.decrypt",),
    "check": ("privacy.he.words:check",),
    "unpack": ("privacy.he.codec:unpack",),
    "step": ("client.training:total_of", "strategies.fedsgd:FedSgd.step"),
    "tag weights": ("privacy.envelope:weights_tag",),
    "evaluate": ("client.training:evaluation_counts", "client.training:pooled_metrics"),
    "ledger and journal": (
        "privacy.ledger:Ledger.reserve",
        "privacy.ledger:Ledger.record_release",
        "privacy.ledger:Ledger.settle",
        "protocol.journal:Journal.append",
    ),
    "cohort and bundles": (
        "protocol.cohort:Cohort.from_bytes",
        "protocol.cohort:Cohort.to_bytes",
        "protocol.cohort:Cohort.verify",
        "privacy.envelope:make_bundles",
        "privacy.envelope:open_bundle",
    ),
    "admit and guard": ("client.admission:admit", "client.training:check_guards"),
    "the rest of hospitals": ("client.member:Member.answer",),
    "store model": ("client.finish:store_model",),
}


class Phases:
    """Exclusive seconds of each phase since the last `take`, by the wall and of processors.

    Args:
        child: The adding process, whose processor time counts too.
    """

    def __init__(self, child: SumProcess) -> None:
        self._child = os.open(f"/proc/{child.pid}/schedstat", os.O_RDONLY)
        self._begun = np.zeros(2)
        self._stack = [REST]
        self._spent: dict[str, Seconds] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Time the phases' functions while inside."""
        with ExitStack() as stack:
            for phase, places in PHASES.items():
                for owner, name, plain in (p for place in places for p in patches(place)):
                    setattr(owner, name, self._clocked(plain, phase))
                    stack.callback(setattr, owner, name, plain)
            stack.callback(os.close, self._child)
            self.take()
            yield

    def take(self) -> dict[str, Seconds]:
        """Seconds of each phase, wall and processor, of which the next call counts anew."""
        self._switch()
        spent, self._spent = self._spent, {}
        return {name: spent.get(name, np.zeros(2)) for name in (*PHASES, REST)}

    def _switch(self) -> None:
        now = np.array([time.perf_counter(), time.process_time() + self._child_s()])
        self._spent[self._stack[-1]] = self._spent.get(self._stack[-1], 0) + now - self._begun
        self._begun = now

    def _child_s(self) -> float:
        """Processor seconds of the child so far."""
        return int(os.pread(self._child, 64, 0).split()[0]) / 1e9

    def _clocked(self, plain: object, phase: str) -> object:
        if isinstance(plain, classmethod):
            return classmethod(self._timed(plain.__func__, phase))
        return self._timed(cast("Callable[..., Any]", plain), phase)

    def _timed(self, work: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._stack.append(phase)
            try:
                return work(*args, **kwargs)
            finally:
                self._switch()
                self._stack.pop()

        return timed


def patches(place: str) -> list[tuple[object, str, object]]:
    """Where a function or method is known under which name: all modules that imported it."""
    module_name, _, path = place.partition(":")
    *classes, name = path.split(".")
    module = import_module(module_name)
    if classes:
        named = getattr(module, classes[0])
        owner = next(kind for kind in named.__mro__ if name in vars(kind))
        return [(owner, name, vars(owner)[name])]
    plain = getattr(module, name)
    return [
        (user, alias, plain)
        for user in list(sys.modules.values())
        for alias, value in list(getattr(user, "__dict__", {}).items())
        if value is plain
    ]
