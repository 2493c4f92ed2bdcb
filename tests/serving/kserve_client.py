"""Asks a server with KServe's own clients; run by an interpreter that has kserve and not fedward.

Usage: kserve_client.py ROWS.npz REST GRPC ANSWERS.npz
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np

TYPES = {"f": "FP64", "b": "BOOL", "U": "BYTES"}


def request(rows: Any, *, binary: bool) -> Any:
    """A request of KServe's."""
    from kserve import InferInput, InferRequest

    inputs = []
    for name in rows.files:
        array = rows[name]
        kind = TYPES[array.dtype.kind]
        inputs.append(InferInput(name, list(array.shape), kind))
        array = array.astype(object) if kind == "BYTES" else array
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return InferRequest("sepsis", inputs)


async def ask(rows: Any, rest: str, rpc: str) -> dict[str, Any]:
    """The probabilities by each way of asking."""
    from kserve import InferenceGRPCClient, InferenceRESTClient
    from kserve.inference_client import RESTConfig

    found = {}
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    for way, binary in (("json", False), ("binary", True)):
        asked = request(rows, binary=binary)
        found[way] = await client.infer(f"http://{rest}", asked, model_name="sepsis")
    assert await client.is_server_ready(f"http://{rest}")
    await client.close()
    async with InferenceGRPCClient(rpc) as stub:
        assert await stub.is_model_ready("sepsis")
        found["grpc"] = await stub.infer(request(rows, binary=True))
    return {
        way: answer.get_output_by_name("probabilities").as_numpy() for way, answer in found.items()
    }


if __name__ == "__main__":
    np.savez(sys.argv[4], **asyncio.run(ask(np.load(sys.argv[1]), *sys.argv[2:4])))
