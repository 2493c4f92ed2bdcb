"""Hospitals' files, and what data-check says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.data_check import data_check
from protocol.errors import InputError
from tests.client.checked import Files, Report, Ward


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def report(files: Files, capsys: pytest.CaptureFixture[str]) -> Report:
    """The JSON document and the complaint, empty where there is none."""

    def run(*, dataset: str | None = None) -> tuple[dict[str, Any], str]:
        complaint = ""
        try:
            data_check(files.hospital, files.job, dataset=dataset, as_json=True)
        except InputError as error:
            complaint = str(error)
        return json.loads(capsys.readouterr().out), complaint

    return run


@pytest.fixture
def ward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ward:
    return Ward(tmp_path, capsys)
