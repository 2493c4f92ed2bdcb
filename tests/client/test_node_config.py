"""The section `node`: defaults that work, and mistakes that are named."""

from __future__ import annotations

import os
from typing import Any

import pytest

from client.node_config import NodeConfig
from protocol.config import parse
from protocol.errors import InputError


def test_the_section_may_be_empty() -> None:
    config = parse(NodeConfig, {}, "node")

    assert config.approval == "auto"
    assert config.limits.threads == os.cpu_count()
    assert config.limits.memory_mb == config.memory_mb


@pytest.mark.parametrize(
    "section",
    [
        {"approval": "maybe"},
        {"threads": -1},
        {"memory_mb": 10},
        {"disk_mb": 0},
        {"idle_s": 0},
        {"stop_s": -1},
        {"runtime_port": 70_000},
        {"log_files": 0},
        {"proxy": "proxy.example"},
        {"proxy": "http://proxy.example"},
        {"proxy": "http://proxy.example:x"},
    ],
)
def test_a_wrong_value_is_named(section: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"node.*{next(iter(section))}"):
        parse(NodeConfig, section, "node")


def test_a_proxys_password_is_not_repeated() -> None:
    with pytest.raises(InputError) as mistake:
        NodeConfig(proxy="https://me:secret@proxy.example:1")

    assert "secret" not in str(mistake.value)
    assert NodeConfig(proxy="http://me:secret@proxy.example:3128").proxy is not None
