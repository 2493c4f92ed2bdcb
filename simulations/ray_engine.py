"""Flower's own simulation engine, on Ray; only imported where it is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import ServerApp

from protocol.errors import InputError

_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    "OMP_NUM_THREADS": "1",
}
_BACKEND: BackendConfig = {
    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    "init_args": {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"},
}


def run_ray(server: ServerApp, client: ClientApp, hospitals: int) -> None:
    """Run both apps on Ray to the ServerApp's end.

    Ray opens ports on every interface, whatever it is told; on a shared machine run it in a
    network namespace of its own.

    Raises:
        InputError: Ray is not installed.
    """
    try:
        import ray  # noqa: F401, PLC0415 - an extra
        from flwr.simulation import run_simulation  # noqa: PLC0415 - imports Ray
    except ImportError as error:
        raise InputError(
            "engine 'ray' needs Ray",
            remedy="pip install 'fedward[simulation]', or use engine 'inline'",
        ) from error
    with _environment(), _quiet():
        run_simulation(
            server_app=server,
            client_app=client,
            num_supernodes=hospitals,
            backend_name="ray",
            backend_config=_BACKEND,
        )


@contextmanager
def _environment() -> Iterator[None]:
    """Variables that Flower, Ray and its workers read, for as long as they run."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Flower's log below errors."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
