"""One job over a virtual consortium: in this process, or on Flower's Ray engine.

Both run the ServerApp and the ClientApp that run over the network. On Ray a virtual hospital moves
between processes, so its session travels in Flower's `Context.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flwr.app import ConfigRecord, Context
from flwr.clientapp import ClientApp

from client.app import make_app as make_client_app
from client.hospital import Hospital
from client.member import Member
from client.session import MemorySessions, PackedSessions, Sessions
from privacy.he.sum import SumProcess
from protocol.errors import FedwardError
from protocol.jobs import Job
from server.app import make_app as make_server_app
from server.launch import Event, Launch, Outcome, Patience
from simulations.config import Engine
from simulations.consortium import Consortium, open_hospital
from simulations.inline import InlineGrid, run_inline

STATE = "fedward"
RAY_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a virtual hospital is opened from, in whatever process it runs."""

    folder: Path
    names: tuple[str, ...]
    noise_seed: int | None
    split_seed: int

    @classmethod
    def to(cls, consortium: Consortium) -> Way:
        """The way to a consortium's hospitals."""
        return cls(
            folder=consortium.folder,
            names=consortium.names,
            noise_seed=consortium.noise_seed,
            split_seed=consortium.split_seed,
        )

    def name(self, context: Context) -> str:
        """The hospital that Flower's context belongs to."""
        return self.names[int(context.node_config["partition-id"])]

    def open(self, name: str) -> Hospital:
        """Open a hospital."""
        return open_hospital(
            self.folder, name, noise_seed=self.noise_seed, split_seed=self.split_seed
        )


def run_job(
    consortium: Consortium,
    job: Job,
    *,
    engine: Engine = "inline",
    watch: Callable[[Event], None] = lambda _: None,
    child: SumProcess | None = None,
) -> Outcome:
    """Run a resolved job to its end.

    Args:
        consortium: The virtual hospitals and their coordinator.
        job: A job that names its roster.
        engine: `inline` or `ray`.
        watch: Called with every event.
        child: A keyless adding process to use again; one is started where it is needed.

    Raises:
        FedwardError: The engine ended without an outcome.
    """
    launch = sign(consortium, job, watch=watch)
    if child is None and job.encryption.scheme == "bfv":
        with SumProcess() as own:
            return _run(launch, consortium, engine, own)
    return _run(launch, consortium, engine, child)


def sign(
    consortium: Consortium, job: Job, *, watch: Callable[[Event], None] = lambda _: None
) -> Launch:
    """The job as the consortium's coordinator launches it."""
    return Launch(
        job=job,
        signature=consortium.coordinator.sign("job", job.to_bytes()),
        key=consortium.coordinator,
        roster=consortium.roster,
        heads={},
        watch=watch,
        # All hospitals are in this process: who is not there now is not there later.
        patience=Patience(rejoin_s=0.0),
    )


def _run(
    launch: Launch, consortium: Consortium, engine: Engine, child: SumProcess | None
) -> Outcome:
    outcomes: list[Outcome] = []
    poll_s = 0.0 if engine == "inline" else RAY_POLL_S
    server = make_server_app(launch, poll_s=poll_s, child=child, report=outcomes.append)
    way = Way.to(consortium)
    if engine == "inline":
        with inline_app(way) as app:
            run_inline(server, InlineGrid(app, len(way.names), keep=False))
    else:
        from simulations.ray_engine import run_ray  # noqa: PLC0415 - Ray is an extra and slow

        run_ray(server, make_client_app(partial(_member, way)), len(way.names))
    if not outcomes:
        raise FedwardError("the simulation ended without an outcome")
    return outcomes[0]


@contextmanager
def inline_app(way: Way) -> Iterator[ClientApp]:
    """A ClientApp whose hospitals stay open, with their sessions, between two messages."""
    members: dict[str, Member] = {}
    hospitals: list[Hospital] = []

    @contextmanager
    def member(context: Context) -> Iterator[Member]:
        name = way.name(context)
        if name not in members:
            hospital = way.open(name)
            hospitals.append(hospital)
            members[name] = Member(hospital, MemorySessions())
        yield members[name]

    try:
        yield make_client_app(member)
    finally:
        for hospital in hospitals:
            hospital.close()


@contextmanager
def _member(way: Way, context: Context) -> Iterator[Member]:
    """A hospital opened for one message, in a worker process of Ray."""
    import torch  # noqa: PLC0415 - in the worker only

    torch.set_num_threads(1)
    with way.open(way.name(context)) as hospital:
        yield Member(hospital, sessions_of(context))


def sessions_of(context: Context) -> Sessions:
    """Sessions in a context's state, which Flower's engine keeps in the driver's memory."""
    if STATE not in context.state.config_records:
        context.state.config_records[STATE] = ConfigRecord()
    return PackedSessions(_Packed(context.state.config_records[STATE]))


class _Packed(MutableMapping[str, bytes]):
    """A Flower record as a mapping of bytes."""

    def __init__(self, record: ConfigRecord) -> None:
        self._record = record

    def __getitem__(self, key: str) -> bytes:
        value = self._record[key]
        if not isinstance(value, bytes):
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: bytes) -> None:
        self._record[key] = value

    def __delitem__(self, key: str) -> None:
        del self._record[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._record)

    def __len__(self) -> int:
        return len(self._record)
