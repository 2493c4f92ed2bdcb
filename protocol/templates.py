"""Commented configurations to begin with: the examples under configs/, with one's own values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from protocol.errors import InputError

_PACKAGES = Path(__file__).parents[1]
# In a checkout, and in an installed wheel.
_HOMES = (_PACKAGES / "configs", _PACKAGES / "simulations" / "configs")
_NOTHING: Mapping[str, str | None] = {}


def template(name: str, values: Mapping[str, str | None] = _NOTHING) -> str:
    """An example's text, with some of its top-level keys set.

    Args:
        name: The example, such as "server/example.yaml".
        values: Key to value, as YAML spells it; None turns the key's line into a comment.

    Raises:
        InputError: There is no such example, or it has no such key.

    >>> text = template("server/example.yaml", {"address": "a.example.org:443", "webhook": None})
    >>> "address: a.example.org:443" in text, "# webhook: " in text
    (True, True)
    """
    path = next((home / name for home in _HOMES if (home / name).is_file()), None)
    if path is None:
        raise InputError(f"no example {name!r}", remedy="install fedward again: a file is missing")
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text = _set(text, key, value)
    return text


def _set(text: str, key: str, value: str | None) -> str:
    line = re.search(rf"^{re.escape(key)}: .*$", text, re.MULTILINE)
    if line is None:
        raise InputError(f"the example has no key {key!r}")
    written = f"# {line[0]}" if value is None else f"{key}: {value}"
    return f"{text[: line.start()]}{written}{text[line.end() :]}"
