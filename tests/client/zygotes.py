"""Zygotes for tests, run as a script: `python zygotes.py MODE CONFIG DESCRIPTOR`.

With mode `told`, each child does what the file MODE beside the configuration says.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

import torch

from client.hospital import Hospital
from client.zygote import serve
from protocol.errors import InputError

SPIN_S = 75


def _draw(path: Path) -> Hospital:
    """Compute, and leave what was drawn beside the configuration."""
    seeded = torch.rand(4).tolist()
    weights = torch.nn.Linear(64, 64)
    weights(torch.ones(256, 64)).sum().backward()
    drawn = {"torch": seeded, "system": os.urandom(8).hex(), "threads": torch.get_num_threads()}
    (path.parent / f"drawn-{os.getpid()}.json").write_text(json.dumps(drawn))
    return Hospital.open(path)


def _spin(path: Path) -> Hospital:
    """Compute in C without ever letting another thread of this process run."""
    ctypes.PyDLL(None).sleep(SPIN_S)
    return Hospital.open(path)


def _hang(path: Path) -> Hospital:
    ctypes.PyDLL(None).sleep(600)
    return Hospital.open(path)


def _grow(path: Path) -> Hospital:
    """Take more memory than a job may."""
    try:
        torch.zeros(3_000_000_000 // 4)
    except RuntimeError:
        raise InputError("no more memory") from None
    return Hospital.open(path)


def _crash(path: Path) -> Hospital:
    raise ValueError(str(path))


MODES = {"draw": _draw, "spin": _spin, "hang": _hang, "grow": _grow, "crash": _crash}


def _told(path: Path) -> Hospital:
    return MODES[(path.parent / "MODE").read_text()](path)


if __name__ == "__main__":
    serve(open_hospital={**MODES, "told": _told}[sys.argv[1]], arguments=sys.argv[2:])
