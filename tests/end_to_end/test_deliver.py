"""A fourth hospital, which did not train, gets the model of three through the coordinator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http as triton
import yaml

from learning.artefact import load
from protocol.journal import verify_journal
from protocol.signing import SigningKey
from tests.end_to_end.federation import (
    COMMAND_S,
    HOSPITALS,
    START_S,
    Federation,
    Process,
    federation,
    program,
    until,
)
from tests.end_to_end.test_serving import JOB, asked, configured, records
from tests.serving.ward import serving

WEST = "west"
DELIVERY_S = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three hospitals that have trained a model, and a fourth whose node runs beside theirs."""
    made = Federation(tmp_path_factory.mktemp("four"), policy={"hand_on_to": [WEST]})
    with federation(made):
        job = made.job(JOB, training={"rounds": 2}, evaluation={"enabled": False})
        assert made.complete(job)["status"] == "completed"
        join(made)
        yield made


def join(place: Federation) -> None:
    """What people do when a hospital comes later: card, roster, confirmations, node."""
    home = place.folder / WEST
    card = place.say("client", "init", home, "--name", WEST)
    document = yaml.safe_load(place.config(WEST).read_text(encoding="utf-8"))
    document |= {"datasets": {}, "populations": {}}
    document["node"]["threads"] = 1
    place.config(WEST).write_text(yaml.safe_dump(document), encoding="utf-8")
    roster = place.say("server", "enrol", card["card"], "--yes", card["fingerprint"])
    for name in (*HOSPITALS, WEST):
        where = ("--config", place.config(name), "--yes", roster["digest"])
        place.say("client", "trust", place.server / "roster.json", *where)
    words = (program(), "client", "up", str(place.config(WEST)))
    place.nodes[WEST] = Process(words, place.folder / "west.output", place.environment)
    place.nodes[WEST].start()
    until(
        lambda: list(place.status()["hospitals"].values()) == [True] * 4,
        START_S,
        "four nodes are connected",
    )


def deliver(place: Federation) -> tuple[int, dict[str, Any]]:
    """`fedward server deliver` to its end: exit code, and what it says."""
    done = subprocess.run(
        [program(), "server", "deliver", JOB, "--to", WEST, "--json"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DELIVERY_S,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def decide(place: Federation, **changes: object) -> None:
    """Change the fourth hospital's policy; its next delivery goes by it."""
    document = yaml.safe_load(place.config(WEST).read_text(encoding="utf-8"))
    document["policy"] |= changes
    place.config(WEST).write_text(yaml.safe_dump(document), encoding="utf-8")


def test_refused_by_default_then_delivered_promoted_and_served(four: Federation) -> None:
    code, told = deliver(four)
    assert (code, told["status"], told["refusals"]) == (1, "failed", {WEST: "policy"})
    store = four.folder / WEST / "models" / JOB
    assert not store.exists()

    decide(four, accept_models=True)
    code, told = deliver(four)
    assert (code, told["status"], told["received"]) == (0, "completed", [WEST]), told

    four.run("client", "models", "verify", four.config(WEST))
    card = json.loads(four.run("client", "models", "show", four.config(WEST), JOB, "--json"))
    assert card["handed_on_by"] == list(HOSPITALS)
    (row,) = json.loads(four.run("client", "models", "list", four.config(WEST), "--json"))
    assert (row["in_use"], row["state"]) == (False, "verified")
    for name in (*HOSPITALS, WEST):
        key = SigningKey.load(four.folder / name / "keys" / "signing.key")
        assert verify_journal(four.folder / name / "journal.jsonl", key.public) > 0
    # Asked again, nothing changes.
    assert deliver(four)[0] == 0
    assert [path.name for path in store.iterdir() if path.is_dir()] == ["1"]
    ended = json.loads(four.run("server", "history", "--json"))
    deliveries = [one["status"] for one in ended if one.get("kind") == "delivery"]
    assert deliveries == ["failed", "completed", "completed"]
    known = json.loads(four.run("client", "jobs", "list", four.config(WEST), "--json"))
    assert {one["summary"]["task"] for one in known} == {"delivery"}

    with serving(configured(four, WEST)) as server:
        answer = asked(triton, server.rest)
    model = load(four.folder / HOSPITALS[0] / "models" / JOB / "1")
    wanted = model.predict(model.task.features(records())[0])
    assert (answer.as_numpy("probabilities") == wanted).all()


def test_both_hospitals_predict_the_same_file(four: Federation, tmp_path: Path) -> None:
    decide(four, accept_models=True)
    assert deliver(four)[0] == 0
    for name in (HOSPITALS[0], WEST):
        four.run(
            *("predict", four.folder / name / "models" / JOB / "1"),
            four.folder / HOSPITALS[0] / "tumours.csv",
            *(tmp_path / f"{name}.csv", "--ignore", "diagnosis"),
            seconds=COMMAND_S,
        )

    found = {name: (tmp_path / f"{name}.csv").read_bytes() for name in (HOSPITALS[0], WEST)}
    assert found[HOSPITALS[0]] == found[WEST]
    assert len(found[WEST].splitlines()) > 100
