"""Bodies of REST requests and answers: JSON, with tensors as lists or as raw bytes behind it.

Source: Open Inference Protocol v2, "HTTP/REST" and "Binary Tensor Data Extension".
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from serving.payloads import BYTES, Reply, Request, Tensor, from_raw, from_values, to_raw
from serving.refusal import Kind, Refusal, invalid

_AUTO = 47  # zlib's code for: gzip or zlib, whichever it is
_TINY = 512
_NEVER = re.compile(r"q=0(\.0*)?")


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """A body without its compression, never longer than allowed.

    Raises:
        Refusal: The encoding is unknown, the body damaged or too long.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding.lower() not in {"gzip", "deflate"}:
        raise invalid("content-encoding", expected="gzip, deflate or none")
    unpacker = zlib.decompressobj(_AUTO)
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise invalid("a body", expected=f"bytes packed with {encoding}") from None
    if len(plain) > most:
        raise Refusal(Kind.TOO_LARGE, "a body", expected=f"at most {most} bytes, unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise invalid("a body", expected=f"one whole stream of {encoding}")
    return plain


def pack(body: bytes, accepted: str) -> tuple[bytes, str]:
    """A body as small as the client takes it, and how it is packed."""
    if len(body) < _TINY or not _takes_gzip(accepted):
        return body, ""
    return gzip.compress(body, compresslevel=1), "gzip"


def _takes_gzip(accepted: str) -> bool:
    """Whether gzip is named, and not with the weight 0, which is a no.

    Source: RFC 9110, sections 8.4.1 and 12.5.3: names in any case, a weight behind them.
    """
    parted = (one.partition(";") for one in accepted.lower().split(","))
    weights = {name.strip(): weight.strip() for name, _, weight in parted}
    return "gzip" in weights and _NEVER.fullmatch(weights["gzip"]) is None


def read_request(
    version: str, body: bytes, header_length: str
) -> tuple[Request, Mapping[str, bool]]:
    """An inference request.

    Args:
        version: From the path, empty where there is none.
        body: JSON, and raw tensors behind it.
        header_length: Length of the JSON as the client states it, empty for all.

    Returns:
        The request, and by name of each output whether the client wants raw bytes; the key ""
        stands for outputs that it does not name.

    Raises:
        Refusal: The body is no such request.
    """
    head, tail = _parted(body, header_length)
    document = read_document(head)
    inputs, start = [], 0
    for entry in _list(document.get("inputs"), "inputs"):
        tensor, used = _tensor(_mapping(entry, "an input"), tail, start)
        inputs.append(tensor)
        start += used
    if start != len(tail):
        raise invalid("raw tensors", expected=f"{start} bytes", found=str(len(tail)))
    wanted = [
        _mapping(one, "an output") for one in _list(_given(document, "outputs", []), "outputs")
    ]
    names = [_text(one.get("name"), "an output's name") for one in wanted]
    every = _flag(document, "binary_data_output", otherwise=False)
    binary = {
        name: _flag(one, "binary_data", otherwise=every)
        for name, one in zip(names, wanted, strict=True)
    }
    binary[""] = every
    called = _whole(_text(_given(document, "id", ""), "id"), "id")
    request = Request(version=version, id=called, inputs=tuple(inputs), outputs=tuple(names))
    return request, binary


def read_document(body: bytes) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        Refusal: The body is none.
    """
    try:
        document = orjson.loads(body)
    except ValueError:
        # Python's own clients write NaN, and half a character, which are no JSON.
        document = _lenient(body)
    return _mapping(document, "the request")


def _lenient(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("a body", expected="JSON") from None


def to_json(document: object) -> bytes:
    """A document's bytes; what is no number is null.

    >>> to_json({"median": [float("nan"), 0.1]})
    b'{"median":[null,0.1]}'
    """
    return orjson.dumps(document)


def write_reply(reply: Reply, binary: Mapping[str, bool]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where raw tensors stand behind it."""
    outputs, raw = [], []
    for tensor in reply.outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
        }
        if binary.get(tensor.name, binary.get("", False)):
            raw.append(to_raw(tensor))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = tensor.array.reshape(-1).tolist()
        outputs.append(entry)
    document = {
        "model_name": reply.model,
        "model_version": reply.version,
        "parameters": dict(reply.parameters),
        "outputs": outputs,
    }
    if reply.id:
        document["id"] = reply.id
    head = to_json(document)
    return b"".join([head, *raw]), len(head) if raw else None


def _parted(body: bytes, header_length: str) -> tuple[bytes, bytes]:
    if not header_length:
        return body, b""
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 12
    if not digits or int(header_length) > len(body):
        raise invalid("Inference-Header-Content-Length", expected="a length within the body")
    return body[: int(header_length)], body[int(header_length) :]


def _tensor(entry: Mapping[str, Any], tail: bytes, start: int) -> tuple[Tensor, int]:
    """A tensor, and how many raw bytes it took of those from a place on."""
    name = _text(entry.get("name"), "an input's name")[:256]
    datatype = _text(entry.get("datatype"), f"input {name!r}: datatype")
    shape = _list(entry.get("shape"), f"input {name!r}: shape")
    size = _mapping(_given(entry, "parameters", {}), "parameters").get("binary_data_size")
    if size is None:
        values = _list(entry.get("data"), f"input {name!r}: data")
        if datatype == BYTES and not all(isinstance(one, str | list | None) for one in values):
            raise invalid(f"input {name!r}: data", expected="text")
        return from_values(name, datatype, shape, values), 0
    if type(size) is not int or not 0 <= size <= len(tail) - start or entry.get("data") is not None:
        raise invalid(f"input {name!r}: binary_data_size", expected="a size within the body")
    return from_raw(name, datatype, shape, tail[start : start + size]), size


def _given(entry: Mapping[str, Any], name: str, otherwise: object) -> object:
    """A field that may be left out; some clients write null where they have none."""
    value = entry.get(name)
    return otherwise if value is None else value


def _flag(entry: Mapping[str, Any], name: str, *, otherwise: bool) -> bool:
    value = _given(_mapping(_given(entry, "parameters", {}), "parameters"), name, otherwise)
    if not isinstance(value, bool):
        raise invalid(f"parameter {name}", expected="true or false")
    return value


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid(what, expected="a JSON object")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(what, expected="a JSON list")
    return value


def _whole(text: str, what: str) -> str:
    """A text that an answer can repeat: half a character fits into no JSON."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(what, expected="whole characters") from None
    return text


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise invalid(what, expected="text")
    return value
