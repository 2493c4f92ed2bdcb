"""Tests of the signatures that stand beside a finished model: who holds the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

import fedward
from client.confirmed import CONFIRMATIONS, confirmed_by
from learning.artefact import WEIGHTS
from protocol.errors import InputError, IntegrityError
from protocol.messages import Packet, Stepped
from protocol.signing import SigningKey
from protocol.trust import Trust
from server.requests import EncryptionRequest
from tests.server.test_course import BAD, Bench, again

Change = Callable[[bytes], bytes]


def finished(bench: Bench, change: Change | None = None) -> dict[str, Path]:
    """Folders of the models after a job, in which one hospital may sign something else."""

    def corrupt(packet: Packet, key: SigningKey) -> Packet:
        word = packet.blobs.get("confirmation")
        if packet.kind != Stepped.KIND or word is None or change is None:
            return packet
        return again(packet, key, confirmation=change(word))

    assert bench.run(corrupt).status == "completed"
    home = bench.consortium.folder
    folders = {name: home / name / "models" / bench.job.name / "1" for name in bench.others("")}
    return {name: folder for name, folder in folders.items() if folder.exists()}


def signers(bench: Bench, names: set[str]) -> dict[str, str]:
    return {name: bench.key(name).fingerprint for name in names}


def test_every_hospital_keeps_everybodys_word_and_can_show_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    folders = finished(bench)
    everybody = signers(bench, bench.others(""))
    assert len(folders) == len(everybody) == 4
    assert all(confirmed_by(folder) == everybody for folder in folders.values())

    def run(*words: str) -> str:
        config = str(tmp_path / BAD / "hospital.yaml")
        arguments = ["client", "models", words[0], config, *words[1:]]
        typer.main.get_command(fedward.app)(args=arguments, standalone_mode=False)
        return capsys.readouterr().out

    assert f"confirmed by {', '.join(sorted(everybody))}" in run("verify")
    shown = "".join(run("show", f"{bench.job.name}/1").split())
    assert "holdthesame(4of4)" in shown
    assert all(fingerprint in shown for fingerprint in everybody.values())


def test_a_name_under_another_key_is_not_taken_for_the_hospital(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the store can invent a cohort, and sign for everybody in it."""
    bench = Bench(tmp_path)
    finished(bench)
    path, cards = tmp_path / BAD / "trust.json", bench.others("")
    other = sorted(cards - {BAD})[0]
    trust = Trust.load(path)
    replace(trust, confirmed={**trust.confirmed, other: "0" * 64}).save(path)

    def told(verb: str) -> str:
        words = ["client", "models", verb, str(tmp_path / BAD / "hospital.yaml"), bench.job.name]
        typer.main.get_command(fedward.app)(args=words, standalone_mode=False)
        return " ".join(capsys.readouterr().out.split())

    rest = ", ".join(sorted(cards - {other}))
    assert f"confirmed by {rest}, by keys not confirmed here as {other}" in told("verify")
    assert told("show").count(", not confirmed here") == 1
    # Nor does a release that cannot read the weights call a whole model damaged.
    monkeypatch.setattr("learning.artefact.VERSION", 999)
    assert f"verified {bench.job.name}/1, by whom confirmed only the release" in told("verify")


def test_a_word_that_does_not_hold_is_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    folders = finished(bench, lambda word: word[::-1])
    assert all(confirmed_by(one) == signers(bench, bench.others()) for one in folders.values())


def test_a_word_of_another_length_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    folders = finished(bench, lambda word: word * 1000)
    assert all(
        confirmed_by(folders[name]) == signers(bench, bench.others()) for name in bench.others()
    )


def test_without_encryption_there_is_no_key_to_sign_with(tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode="none", encryption=EncryptionRequest(scheme="none", masks=False))
    folders = finished(bench)
    assert len(folders) == 4
    assert all(confirmed_by(folder) is None for folder in folders.values())


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another attempt": lambda plain: plain.update(attempt=plain["attempt"] + 1),
    "no attempt": lambda plain: plain.pop("attempt"),
    "no digits": lambda plain: plain.update(key="zz"),
    "another key": lambda plain: plain.update(key="00" * 32),
    "another name": lambda plain: plain["signatures"].update(stranger=plain["signatures"].pop(BAD)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = finished(Bench(tmp_path_factory.mktemp("c")))[BAD]
    return folder, (folder / CONFIRMATIONS).read_bytes()


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_refused(name: str, made: tuple[Path, bytes]) -> None:
    folder, good = made
    plain = json.loads(good)
    CHANGES[name](plain)
    (folder / CONFIRMATIONS).write_text(json.dumps(plain))
    with pytest.raises(IntegrityError):
        confirmed_by(folder)
    (folder / CONFIRMATIONS).write_text("no JSON")
    with pytest.raises(IntegrityError, match="was changed"):
        confirmed_by(folder)


def test_a_store_that_takes_no_file_is_no_reason_to_keep_a_job_open(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    models = tmp_path / BAD / "models"

    def corrupt(packet: Packet, _: SigningKey) -> Packet:
        if "confirmation" in packet.blobs:
            (models / bench.job.name / "1" / WEIGHTS).parent.rename(tmp_path / "away")
        return packet

    assert bench.run(corrupt).status == "completed"
    assert "confirmations" in (tmp_path / BAD / "journal.jsonl").read_text()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / CONFIRMATIONS).write_text("{}")
    with pytest.raises(InputError):
        confirmed_by(tmp_path)
