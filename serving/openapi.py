"""What the REST server understands, as an OpenAPI document: for makers of clients, and tests."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import Any

from serving.payloads import BYTES, DTYPES

_DATATYPES = [*DTYPES, BYTES]
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_READY = {"name": _TEXT, "ready": _FLAG}
_PROBLEMS = (400, 401, 403, 404, 405, 413, 429, 503, 504)


def document() -> Mapping[str, Any]:
    """The document; models are named in paths, so it is the same whatever is served."""
    paths: dict[str, Any] = {
        "/v2": _get("Server", {"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
        "/v2/health/live": _get("Whether the process answers", {"live": _FLAG}),
        "/v2/health/ready": _get("Whether every model can be asked", {"ready": _FLAG}),
    }
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        names = [name for name in ("model", "version") if f"{{{name}}}" in path]
        here = {
            path: _get("A model's tensors", _MODEL),
            f"{path}/ready": _get("Whether a model can be asked", _READY),
            f"{path}/infer": _post("Predictions", _REQUEST, _REPLY),
            f"{path}/feedback": _post("What came true", _FEEDBACK, _TAKEN),
        }
        for item in here.values():
            item["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
            ]
        paths |= here
    return {
        "openapi": "3.1.0",
        "info": {"title": "fedward: Open Inference Protocol v2", "version": installed("fedward")},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
        "paths": paths,
    }


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": [*required]}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _get(summary: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": _responses(answer)}}


def _post(summary: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": request}}}
    return {
        "post": {"summary": summary, "requestBody": body, "responses": _responses(answer)},
    }


def _responses(answer: Mapping[str, Any]) -> dict[str, Any]:
    problem = _object({"error": _TEXT}, "error")
    either = {"anyOf": [problem, _object(answer, *answer)]}
    found = {str(status): _json("Why there is no answer", either) for status in _PROBLEMS}
    return {"200": _json("The answer", _object(answer, *answer)), **found}


def _json(told: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": schema}}}


_SHAPE = _list({"type": "integer", "minimum": 0})
_DESCRIBED = _object(
    {"name": _TEXT, "datatype": _TEXT, "shape": _list({"type": "integer"})},
    "name",
    "datatype",
    "shape",
)
_INPUT = _object(
    {
        "name": _TEXT,
        "datatype": {"type": "string", "enum": _DATATYPES},
        "shape": _SHAPE,
        "data": {"type": "array"},
        "parameters": _object({"binary_data_size": {"type": "integer", "minimum": 0}}),
    },
    "name",
    "datatype",
    "shape",
)
_OUTPUT = _object(
    {
        "name": _TEXT,
        "datatype": {"type": "string", "enum": _DATATYPES},
        "shape": _SHAPE,
        "data": {"type": "array"},
    },
    "name",
    "datatype",
    "shape",
)
_WANTED = _object({"name": _TEXT, "parameters": _object({"binary_data": _FLAG})}, "name")
_REQUEST = _object(
    {
        "id": _TEXT,
        "inputs": _list(_INPUT),
        "outputs": _list(_WANTED),
        "parameters": _object({"binary_data_output": _FLAG}),
    },
    "inputs",
)
# What is there in every answer; a request's id comes back with it.
_REPLY = {
    "model_name": _TEXT,
    "model_version": _TEXT,
    "parameters": {"type": "object", "additionalProperties": _TEXT},
    "outputs": _list(_OUTPUT),
}
_TAKEN = {"model_name": _TEXT, "labels": {"type": "integer"}}
_MODEL = {
    "name": _TEXT,
    "versions": _list(_TEXT),
    "platform": _TEXT,
    "inputs": _list(_DESCRIBED),
    "outputs": _list(_DESCRIBED),
    "properties": {"type": "object", "additionalProperties": _TEXT},
}
_ROWS = _list(_list({"type": "number"}))
# Which of them a model takes follows from its task; see docs/serving.md.
_FEEDBACK = _object(
    {
        **dict.fromkeys(("probabilities", "survival", "outcomes", "quantiles"), _ROWS),
        "labels": {"type": "array", "minItems": 1},
        "times": _list({"type": "number", "minimum": 0}),
        "arms": _list(_TEXT),
        "groups": {"type": "object", "additionalProperties": _list(_TEXT)},
    },
    "labels",
)
