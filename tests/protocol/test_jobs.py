"""The job document: one digest per job, and nothing that is read loosely."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import jobs
from protocol.canonical import from_canonical, to_canonical
from protocol.errors import InputError
from protocol.jobs import Job

UPDATE = jobs.Release(
    length=31,
    clip=1.0,
    scale=256.0,
    sensitivity=258.5,
    beta=1e-9,
    noise_multiplier=9.3,
    sampling_rate=1.0,
    bound=800.0,
    steps=10,
    spare=2,
    repeats=1,
)
PACKING = jobs.Packing(
    degree=4096,
    modulus=2**55 - 311,
    plain_modulus=1_032_193,
    radix=1009,
    digits_per_word=2,
    max_sites=5,
)
JOB = Job(
    version=jobs.VERSION,
    name="diagnosis",
    nonce="0" * 32,
    created="2026-11-21T12:00:00Z",
    expires="2026-11-22T12:00:00Z",
    coordinator="1" * 64,
    roster="2" * 64,
    dataset="breast",
    sites=(
        jobs.Site(name="north", train_size=100, test_size=20),
        jobs.Site(name="south", train_size=200, test_size=0),
    ),
    min_sites=2,
    task=jobs.Named(name="diagnosis", options={"model": "logistic", "hidden": [64, 32]}),
    schema={"columns": [{"name": "age", "low": 0.0, "high": 120.0}]},
    strategy=jobs.Named(name="fedsgd", options={}),
    training=jobs.Training(
        rounds=10, spare_attempts=2, local_steps=1, learning_rate=0.1, l2=0.0, proximal=0.0, seed=7
    ),
    privacy=jobs.Privacy(
        mode="distributed",
        unit="patient",
        epsilon=3.0,
        epsilon_worst=5.5,
        epsilon_evaluation=0.0,
        epsilon_evaluation_worst=0.0,
        delta=1e-5,
        colluding_sites=1,
        update=UPDATE,
        evaluation=None,
    ),
    encryption=jobs.Encryption(
        scheme="bfv",
        masks=True,
        digit_bits=12,
        digit_bound=0.5,
        update=PACKING,
        evaluation=None,
        library="4.3.0",
    ),
    evaluation=jobs.Evaluation(every=0),
    publication=jobs.Publication(metrics=True, model=False),
    layout="3" * 64,
    initial_weights="4" * 64,
    timeout_s=60,
    intended_use="Research only.",
)


def paths(document: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of a document but those of options and schema, which their readers own."""
    if not isinstance(document, Mapping) or prefix[-1:] in {("options",), ("schema",)}:
        return []
    found = [(*prefix, key) for key in document]
    return found + [deeper for path in found for deeper in paths(document[path[-1]], path)]


DOCUMENT = from_canonical(JOB.to_bytes())
PATHS = paths(DOCUMENT)


def change(path: tuple[str, ...], edit: Any) -> bytes:
    """The job's bytes after `edit(mapping, key)` at one path."""
    document = from_canonical(JOB.to_bytes())
    mapping = document
    for key in path[:-1]:
        mapping = mapping[key]
    edit(mapping, path[-1])
    return to_canonical(document)


def test_a_job_survives_the_wire_with_every_bit() -> None:
    assert Job.from_bytes(JOB.to_bytes()) == JOB
    assert Job.from_bytes(JOB.to_bytes()).to_bytes() == JOB.to_bytes()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_travel_exactly(number: float) -> None:
    job = replace(JOB, training=replace(JOB.training, learning_rate=number))
    assert Job.from_bytes(job.to_bytes()).training.learning_rate.hex() == number.hex()


def test_floats_are_hexadecimal_and_integers_plain() -> None:
    document = json.loads(JOB.to_bytes())
    assert document["privacy"]["delta"] == "f:" + (1e-5).hex()
    assert document["encryption"]["update"]["modulus"] == 2**55 - 311


def test_the_digest_is_the_sha256_of_what_is_sent() -> None:
    assert JOB.digest == hashlib.sha256(JOB.to_bytes()).hexdigest()
    assert replace(JOB, nonce="5" * 32).digest != JOB.digest


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_missing_key_is_named(path: tuple[str, ...]) -> None:
    place = ".".join(("job", *path[:-1]))
    with pytest.raises(InputError, match=rf"^{place}: missing '{path[-1]}'$"):
        Job.from_bytes(change(path, lambda mapping, key: mapping.pop(key)))


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_wrong_type_is_named(path: tuple[str, ...]) -> None:
    place = ".".join(("job", *path))
    with pytest.raises(InputError, match=rf"^{place}: (wrong type|no such choice)"):
        Job.from_bytes(change(path, lambda mapping, key: mapping.update({key: b"x"})))


def test_unknown_keys_are_refused_wherever_they_stand() -> None:
    """No field of a job can ask for entropy or code that this version does not know."""
    for path in {path[:-1] for path in PATHS}:
        place = ".".join(("job", *path, "noise_seed"))
        with pytest.raises(InputError, match=rf"^{place}: unknown key"):
            Job.from_bytes(change((*path, "noise_seed"), lambda m, key: m.update({key: 1})))


def test_bytes_that_are_no_job_are_refused() -> None:
    for data in (b"", b"[]", b"1", JOB.to_bytes() + b" "):
        with pytest.raises(InputError):
            Job.from_bytes(data)


@pytest.mark.parametrize(("train", "test"), [(0, 1), (-1, 1), (1, -1)])
def test_declared_sizes_are_positive(train: int, test: int) -> None:
    with pytest.raises(InputError, match="declared sizes; expected train_size >= 1"):
        jobs.Site(name="north", train_size=train, test_size=test)
    assert jobs.Site(name="north", train_size=1, test_size=0).train_size == 1


@pytest.mark.parametrize(
    ("scheme", "masks", "masked"),
    [("bfv", True, True), ("bfv", False, False), ("none", True, False), ("none", False, False)],
)
def test_a_job_is_masked_where_it_is_encrypted_with_masks(
    scheme: Any, masks: bool, masked: bool
) -> None:
    job = replace(JOB, encryption=replace(JOB.encryption, scheme=scheme, masks=masks))
    assert job.masked is masked


def test_a_site_is_found_by_its_name() -> None:
    assert JOB.site("south") is JOB.sites[1]
    with pytest.raises(InputError, match="hospital 'west' is not among the job's sites"):
        JOB.site("west")


@pytest.mark.parametrize(
    "name", ["", "../../models", "a/b", ".hidden", "Sepsis", "a\n", "a\x1b[2J", "a" * 65]
)
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name of a job"):
        replace(JOB, name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "breast\x1b[8m"},
        {"intended_use": "for tests\r\napproved"},
        {"task": jobs.Named(name="diagnosis\x1b[2J", options={})},
        {"strategy": jobs.Named(name="fedsgd\u202e", options={})},
    ],
    ids=["dataset", "intended use", "task", "strategy"],
)
def test_what_administrators_are_shown_moves_no_cursor(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="printable"):
        replace(JOB, **change)
