"""The server's process: both protocols in one event loop, over one data plane."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import uvicorn
from grpc_health.v1 import health_pb2_grpc

from learning.artefact import Model
from protocol.errors import InputError
from protocol.keyfile import load_secret
from serving.answering import Witness
from serving.config import ServingConfig, Tls, is_loopback, split_address
from serving.dataplane import DataPlane
from serving.limits import Turnstile
from serving.loading import Catalogue
from serving.metrics import Metrics
from serving.monitor import Monitor
from serving.reference import find_reference
from serving.rest import make_app
from serving.rpc import Health, handler_of
from serving.rpc_server import rpc_server
from serving.spool import Spools
from serving.tokens import Gate

log = logging.getLogger("fedward.serving")

# How often to look after alerts, and save what a killed server must not lose.
_LOOK_S = 10.0
# HTTP connections at least, and gRPC calls for each request that may be under way: refusals and
# health are to be answered, too.
_CONNECTIONS, _CALLS = 1024, 4


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Addresses that the server took; None where it does not speak the protocol."""

    rest: str | None
    grpc: str | None


class _Uvicorn(uvicorn.Server):
    """Uvicorn without signal handlers: the process has two servers and one way to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_plane(config: ServingConfig, base: Path) -> DataPlane:
    """Load the models and join what answers.

    Raises:
        FedwardError: A model that is to be served cannot be.
    """
    limits = config.limits
    turnstile = Turnstile(limits.concurrent, limits.per_second, time.monotonic)
    store, named = base / config.store, {one.name: one.reference for one in config.models}
    monitor = Monitor(
        base / config.monitoring.folder,
        config.monitoring,
        lambda model: find_reference(store, config.signers, model, named[model.card.name]),
    )
    metrics = Metrics(monitor, lambda: catalogue.waiting, lambda: turnstile.under_way)
    spools = Spools(base, config.models, lambda: datetime.now(UTC))

    def witnessed(model: Model) -> Witness:
        seen = monitor.watch(model).drift.observe
        return Witness(seen=seen, told=metrics.batch(model.card.name), kept=spools.of(model))

    catalogue = Catalogue(store, config.signers, config.models, limits.rows, witnessed)
    catalogue.load()
    tokens = None if config.tokens is None else base / config.tokens
    return DataPlane(
        catalogue=catalogue,
        gate=Gate(tokens, lambda: datetime.now(UTC)),
        turnstile=turnstile,
        most_rows=limits.rows,
        deadline_s=limits.deadline_s,
        monitor=monitor,
        metrics=metrics,
        spools=spools,
    )


async def serve(config: ServingConfig, base: Path, told: Callable[[Listening], None]) -> None:
    """Answer until SIGTERM or SIGINT; requests under way are answered before this returns.

    Args:
        config: The configuration.
        base: Folder that its relative paths start from.
        told: Called once both servers answer.

    Raises:
        FedwardError: A model, a key or an address cannot be used.
    """
    plane = make_plane(config, base)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with contextlib.AsyncExitStack() as stack:
        # Done last: what is answered while the servers end is kept and watched, too.
        stack.callback(plane.spools.close)
        stack.callback(plane.monitor.look)
        rest = await _start_rest(config, base, plane, stack)
        rpc = await _start_rpc(config, base, plane, stack)
        watching = asyncio.create_task(_watch(plane, config.refresh_s))
        told(Listening(rest=rest, grpc=rpc))
        await ending.wait()
        plane.draining = True
        watching.cancel()
        log.info("ending: %d requests under way", plane.turnstile.under_way)


async def _watch(plane: DataPlane, every_s: float) -> None:
    """Look for what was promoted, and after what is watched, again and again."""
    looked = time.monotonic()
    while True:
        await asyncio.sleep(every_s)
        due = time.monotonic() - looked >= _LOOK_S
        looked = time.monotonic() if due else looked
        try:
            await _look(plane, due=due)
        except Exception as error:  # noqa: BLE001 - the next version must be noticed nevertheless
            log.error("%s while looking after models, a defect", type(error).__name__)  # noqa: TRY400


async def _look(plane: DataPlane, *, due: bool) -> None:
    """Exchange what was promoted, and where it is due look after the rest; nobody waits for it."""
    for label in await asyncio.to_thread(plane.catalogue.refresh):
        log.info("in use now: %s", label)
    if due:
        plane.monitor.keep_only(plane.catalogue.labels)
        plane.monitor.look()
        await asyncio.to_thread(plane.spools.write)


async def _start_rest(
    config: ServingConfig, base: Path, plane: DataPlane, stack: contextlib.AsyncExitStack
) -> str | None:
    if config.rest is None:
        return None
    listener = _bound(config.rest)
    settings = uvicorn.Config(
        make_app(
            plane,
            config.limits.request_bytes,
            # Where there are tokens the page needs one, too: a proxy may stand before loopback.
            local=config.tokens is None and is_loopback(split_address(config.rest)[0]),
        ),
        log_config=None,
        access_log=False,
        server_header=False,
        # Whose address counts is who connected, not who a header says.
        proxy_headers=False,
        # Whoever is not admitted holds a little memory, too.
        limit_concurrency=max(_CONNECTIONS, _CALLS * config.limits.concurrent),
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=max(1, round(config.limits.drain_s)),
    )
    if config.tls is not None:
        settings.load()
        settings.ssl = _context(config.tls, base)
    server = _Uvicorn(settings)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    stack.push_async_callback(_end_rest, server, task)
    while not (server.started or task.done()):
        await asyncio.sleep(0.005)
    return _shown(config.rest, listener.getsockname()[1])


async def _end_rest(server: _Uvicorn, task: asyncio.Task[None]) -> None:
    server.should_exit = True
    await task


async def _start_rpc(
    config: ServingConfig, base: Path, plane: DataPlane, stack: contextlib.AsyncExitStack
) -> str | None:
    if config.grpc is None:
        return None
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.limits.request_bytes),
        ("grpc.max_send_message_length", -1),
    ]
    # A message is taken before its call is admitted: beyond these, none is.
    calls = _CALLS * config.limits.concurrent
    server = rpc_server(options, calls)
    server.add_generic_rpc_handlers((handler_of(plane),))
    health_pb2_grpc.add_HealthServicer_to_server(Health(plane), server)
    try:
        if config.tls is None:
            port = server.add_insecure_port(config.grpc)
        else:
            port = server.add_secure_port(config.grpc, _credentials(config.tls, base))
    except RuntimeError:
        raise InputError(
            f"address {config.grpc} cannot be bound", remedy="choose another"
        ) from None
    await server.start()
    stack.push_async_callback(server.stop, config.limits.drain_s)
    return _shown(config.grpc, port)


def _bound(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        raise InputError(
            f"address {address} cannot be bound", found=error.strerror, remedy="choose another"
        ) from None
    # Connections inherit it; without it an answer in two parts waits 40 ms for the client's word.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _shown(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _context(tls: Tls, base: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer; clients' certificates are required where an authority is named."""
    load_secret(base / tls.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(base / tls.certificate, base / tls.key)
        if tls.clients is not None:
            context.load_verify_locations(base / tls.clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise InputError("tls: certificate or key cannot be used", found=error.strerror) from None
    return context


def _credentials(tls: Tls, base: Path) -> grpc.ServerCredentials:
    try:
        chain = (base / tls.certificate).read_bytes()
        clients = None if tls.clients is None else (base / tls.clients).read_bytes()
    except OSError as error:
        raise InputError("tls: a certificate cannot be read", found=error.strerror) from None
    pair = (load_secret(base / tls.key), chain)
    return grpc.ssl_server_credentials([pair], clients, clients is not None)
