"""Messages of gRPC, put together of parts."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from serving.payloads import Reply, Tensor, to_raw
from serving.refusal import Refusal
from serving.rpc_messages import from_reply, to_request


@pytest.mark.parametrize("called", ["", "7"])
def test_an_answer_of_parts_is_the_message_as_a_whole(called: str) -> None:
    for rows in (1, 3, 1):
        array = np.random.default_rng(rows).random((rows, 2))
        outputs = (
            Tensor("probabilities", "FP64", array),
            Tensor("label", "BYTES", np.array(["no"] * rows, dtype=object)),
        )
        parameters = {"model": "sepsis/2", "intended_use": "Research only"}
        reply = Reply(
            model="sepsis", version="2", id=called, outputs=outputs, parameters=parameters
        )
        whole = service_pb2.ModelInferResponse(
            model_name="sepsis",
            model_version="2",
            id=called,
            raw_output_contents=[to_raw(one) for one in outputs],
        )
        for one in outputs:
            whole.outputs.add(name=one.name, datatype=one.datatype, shape=one.array.shape)
        for name, value in parameters.items():
            whole.parameters[name].string_param = value
        assert service_pb2.ModelInferResponse.FromString(from_reply(reply)) == whole


def test_raw_contents_stand_beside_no_typed_ones() -> None:
    message = service_pb2.ModelInferRequest(model_name="age")
    one = message.inputs.add(name="age", datatype="FP64", shape=[1])
    message.raw_input_contents.append(np.array([61.0]).tobytes())
    assert to_request(message).inputs[0].array.tolist() == [61.0]
    one.contents.fp64_contents.append(50.0)
    with pytest.raises(Refusal, match="no typed contents beside raw ones"):
        to_request(message)
