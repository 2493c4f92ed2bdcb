"""A zip for whoever helps a hospital: what they need, and nothing that must not leave.

It is put together from a list of what goes in, never from a folder with exceptions: versions, the
status, the verdicts of `fedward client check`, the configuration with every value that could be
private replaced, and the node's logs.
"""

from __future__ import annotations

import json
import platform
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from client.check_command import examine
from client.hospital import HospitalConfig
from protocol.config import read
from protocol.errors import InputError

PACKAGES = ("fedward", "flwr", "torch", "opacus", "tenseal", "cryptography", "numpy", "scipy")
_SHOWN = (bool, int, float, type(None))
# Words of a fixed list, and names that every member of the consortium sees in jobs anyway.
_TEXTS = frozenset({"name", "approval", "tasks", "strategies", "modes", "kind"})
_HIDDEN = "(not shown)"
_STEP_S = 5.0


def write_bundle(target: Path, config: Path, status: Mapping[str, Any]) -> None:
    """Write the zip.

    Guarantee: of the hospital it holds its name, its node's status and logs, and settings that are
    numbers or words of a fixed list; no key, record, ledger row or password. Of the checks it holds
    names and verdicts: what they found may name files, hosts and columns.

    Args:
        target: A new file.
        config: The hospital's configuration.
        status: As `client.status_command.collect` found it.

    Raises:
        InputError: The file exists already or cannot be written.
    """
    hospital = read(HospitalConfig, config)
    logs = config.parent / hospital.node.state / "logs"
    shown = {key: value for key, value in status.items() if key != "budget"}
    try:
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, document in (
                ("versions.json", _versions()),
                ("status.json", shown),
                ("checks.json", _checks(config)),
                ("config.json", redact(hospital)),
            ):
                archive.writestr(name, json.dumps(document, indent=2, sort_keys=True))
            for path in sorted(logs.glob("node.jsonl*")):
                archive.write(path, f"logs/{path.name}")
    except FileExistsError:
        raise InputError(f"{target}: exists already", remedy="name a new file") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written", found=error.strerror) from None
    target.chmod(0o600)


def redact(value: object, name: str = "") -> Any:
    """A configuration with numbers and known words; any other text is replaced."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: redact(getattr(value, item.name), item.name) for item in fields(value)}
    if isinstance(value, Mapping):
        # Names of data sets, populations and columns are the hospital's own.
        return [redact(item, name) for item in value.values()]
    if isinstance(value, list | tuple):
        return [redact(item, name) for item in value]
    if isinstance(value, _SHOWN) or (isinstance(value, str) and name in _TEXTS):
        return value
    return _HIDDEN


def _checks(config: Path) -> list[dict[str, str]]:
    findings = examine(config, None, offline=False, timeout_s=_STEP_S)
    return [{"check": found.check, "verdict": found.verdict} for found in findings]


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
