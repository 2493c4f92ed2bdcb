from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(name: str) -> dict[str, Any]:
    """The content of a vector file, every hexadecimal text still as text."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return content
