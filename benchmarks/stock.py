"""Apps for Flower's own SuperNode: the hospital that our nodes open, and plain arrays that move.

Bundles name this module and carry no code; its folder is on the path of Flower's processes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

if TYPE_CHECKING:
    from client.member import Member

HOSPITAL = "BENCHMARK_HOSPITAL"
"""Environment variable: the hospital's configuration file."""
TIMES = "BENCHMARK_TIMES"
"""Environment variable: a file that gets a JSON line for each message."""

PYPROJECT = """\
[project]
name = "{name}"
version = "1.0.0"
description = "A measurement with installed code."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "{server}"
clientapp = "{client}"

[tool.flwr.app.config]
{config}
"""


def bundle_text(name: str, server: str, client: str, config: dict[str, str | int]) -> str:
    """The pyproject.toml of a bundle without code."""
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items())
    return PYPROJECT.format(name=name, server=server, client=client, config=lines)


# -- a hospital at Flower's own node --------------------------------------------------------------

hospital_app = ClientApp()


@hospital_app.train()
def answer(message: Message, context: Context) -> Message:
    """Open the hospital, answer, close it: nothing outlasts the message but Context.state."""
    called = time.time()
    from client.app import make_app  # noqa: PLC0415 - the time of imports is measured

    reply = make_app(_member)(message, context)
    with Path(os.environ[TIMES]).open("a", encoding="utf-8") as file:
        line = {"called": called, "began": _began(), "answered": time.time()}
        file.write(json.dumps(line) + "\n")
    return reply


@contextmanager
def _member(context: Context) -> Iterator[Member]:
    from client.hospital import Hospital  # noqa: PLC0415
    from client.member import Member  # noqa: PLC0415
    from simulations.engine import sessions_of  # noqa: PLC0415

    with Hospital.open(Path(os.environ[HOSPITAL])) as hospital:
        yield Member(hospital, sessions_of(context))


def _began() -> float:
    """When this process was started, Unix time in seconds."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


# -- plain arrays ---------------------------------------------------------------------------------

plain_server, plain_client = ServerApp(), ClientApp()


@plain_server.main()
def move(grid: Grid, context: Context) -> None:
    """Send every node an array and take one from each, as Flower's strategies do."""
    config = {name: str(value) for name, value in context.run_config.items()}
    while len(nodes := list(grid.get_node_ids())) < int(config["nodes"]):
        time.sleep(0.2)
    for _ in range(int(config["rounds"])):
        begin = time.monotonic()
        record = ArrayRecord({"array": _array(int(config["down"]))})
        messages = [
            Message(
                RecordDict({"arrays": record, "ask": ConfigRecord({"up": int(config["up"])})}),
                dst_node_id=node,
                message_type=MessageType.TRAIN,
            )
            for node in nodes
        ]
        replies = list(grid.send_and_receive(messages))
        sizes = [len(reply.content.array_records["arrays"]["array"].data) for reply in replies]
        line = {"seconds": time.monotonic() - begin, "bytes_up": sum(sizes)}
        with Path(config["times"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@plain_client.train()
def give(message: Message, context: Context) -> Message:
    """Answer with an array of the size asked for."""
    del context
    up = int(str(message.content.config_records["ask"]["up"]))
    return Message(RecordDict({"arrays": ArrayRecord({"array": _array(up)})}), reply_to=message)


def _array(size: int) -> Array:
    """An array that no compression and no address by content makes smaller."""
    data = np.random.Generator(np.random.SFC64()).bytes(size)
    return Array(dtype="uint8", shape=(size,), stype="bytes", data=data)
