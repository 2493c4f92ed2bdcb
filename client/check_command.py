"""`fedward client check`: whether a node would work here, and what to do where it would not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.checks import (
    Finding,
    check_columns,
    check_disk,
    check_keys,
    check_ledger,
    check_memory,
    check_trust,
    failed,
)
from client.connection_check import check_connection
from client.data.opening import open_source
from client.hospital import HospitalConfig
from client.init_command import CONFIG
from learning.schema import Schema
from privacy.he.parameters import SEAL_LIBRARY
from protocol.config import load_yaml, parse, read
from protocol.errors import FedwardError
from protocol.roster import Roster

_MIB = 2**20
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_PACKAGES = ("fedward", "flwr", "torch")
_FILE_WIDTH = 120


def check(
    config: Annotated[Path, typer.Argument(help="The hospital's configuration.")] = Path(CONFIG),
    *,
    job: Annotated[
        Path | None, typer.Option(help="Hold the data against this job's, or schema's, columns.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave out what needs the network.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds for each step of the connection.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try everything that a node needs: keys, trust, network, clock, data, budget, machine.

    Each line says what was found and, where something is wrong, what to do. Nothing is changed, no
    record is read, and nothing but an empty request leaves the hospital. Leaves with code 1 where
    the node would not work.
    """
    findings = list(examine(config, job, offline=offline, timeout_s=timeout_s))
    if as_json:
        typer.echo(json.dumps({"ok": _works(findings), "checks": [asdict(f) for f in findings]}))
    else:
        _print(findings)
    if not _works(findings):
        raise typer.Exit(1)


def examine(path: Path, job: Path | None, *, offline: bool, timeout_s: float) -> Iterator[Finding]:
    """All findings about one hospital, in the order in which a person would look."""
    try:
        config = read(HospitalConfig, path)
        wanted = None if job is None else _columns(job)
    except FedwardError as error:
        yield failed("configuration", error)
        return
    yield Finding(check="configuration", verdict="ok", found=f"of {config.name}")
    base = path.parent
    keys, identity = check_keys(base / config.keys)
    yield keys
    roster = None
    for found in check_trust(base / config.roster, base / config.trust, identity):
        if isinstance(found, Roster):
            roster = found
        else:
            yield found
    if roster is not None and not offline:
        yield from check_connection(
            roster,
            proxy=config.node.proxy,
            environment=os.environ,
            clock=lambda: datetime.now(UTC),
            timeout_s=timeout_s,
        )
    yield from _data(config, base, wanted)
    yield from check_ledger(base / config.ledger, config.populations, identity)
    yield check_disk(shutil.disk_usage(base).free, config.node.disk_mb * _MIB)
    yield check_memory(_available(Path("/proc/meminfo")), config.node.memory_mb * _MIB)
    yield _versions()


def _columns(path: Path) -> tuple[str, ...]:
    """The columns that a job's file, or a schema's, reads."""
    document = load_yaml(path)
    schema = document.get("schema", document)
    return tuple(parse(Schema, schema, "schema").column_names)


def _data(config: HospitalConfig, base: Path, wanted: tuple[str, ...] | None) -> Iterator[Finding]:
    for name, dataset in config.datasets.items():
        try:
            offered = tuple(open_source(dataset.source, base).columns())
        except FedwardError as error:
            yield failed(f"data {name}", error, f"correct datasets.{name}, or take it out")
        else:
            yield check_columns(name, offered, wanted)


def _available(path: Path) -> int | None:
    """Bytes of memory that a new process can have, by Linux' own estimate."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _versions() -> Finding:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    found = ", ".join([f"Python {platform.python_version()}", *versions, SEAL_LIBRARY])
    return Finding(check="versions", verdict="ok", found=found)


def _works(findings: Sequence[Finding]) -> bool:
    return all(finding.verdict != "fail" for finding in findings)


def _print(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH, highlight=False)
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("", no_wrap=True)
    grid.add_column("check", no_wrap=True)
    grid.add_column("found", overflow="fold")
    for finding in findings:
        # As texts, so that a data set called "[red]" is shown and not obeyed.
        told = finding.found + (f"\n-> {finding.remedy}" if finding.remedy else "")
        verdict = Text(finding.verdict, _STYLES[finding.verdict])
        grid.add_row(verdict, Text(finding.check), Text(told))
    console.print(grid)
    good = _works(findings)
    said = "A node works here." if good else "A node would not work here yet."
    console.print(Text(said, "bold green" if good else "bold red"))
