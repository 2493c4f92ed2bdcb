"""A released table as what inputs are compared with: found, verified, held against the model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from learning.artefact import Model, load, save, verify
from learning.pooled_statistics import Statistics
from learning.schema import Schema
from learning.task import Table, load_task
from protocol.config import parse
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named
from protocol.signing import SigningKey
from protocol.tensors import weights_digest
from serving.config import Monitoring, ServedModel
from serving.drift import Drift
from serving.flags import flags_of
from serving.monitor import Monitor
from serving.reference import find_reference, reference_of
from serving.server import Listening
from tests.serving.test_inside import served
from tests.serving.ward import KEY, SCHEMA, add, configure, put

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 120},
    {"name": "ward", "kind": "category", "categories": ["a", "b", "3"]},
    {"name": "smoker", "kind": "flag", "may_be_missing": True},
]
TABLE: dict[str, Any] = {**SCHEMA, "columns": COLUMNS}
JOB = "5" * 64
NOISE, PATIENTS = 21.0, 5000
SIGNERS = [KEY.fingerprint]
SETTINGS = Monitoring(reference_rows=200, window_rows=1000)


def patients(n: int, seed: int, *, older: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "age": np.clip(rng.normal(60 + older, 12, n), 0, 120).round(),
        "ward": rng.choice(["a", "b", "3"], n, p=[0.6, 0.3, 0.1]).tolist(),
        "smoker": rng.choice(["yes", "no", ""], n).tolist(),
    }


def table(
    store: Path, schema: dict[str, Any] = TABLE, *, name: str = "table", seed: int = 0,
    version: int = 1, job: str = JOB, bins: int = 12, noise: float | None = NOISE,
    key: SigningKey = KEY,
) -> Path:  # fmt: skip
    """Store a released table of invented patients."""
    options = Named(name="statistics", options={"bins": bins})
    task = load_task(options, schema)
    assert isinstance(task, Statistics)
    rng = np.random.default_rng([seed, 1])
    found = {**patients(PATIENTS, seed), "ill": rng.choice(["no", "yes"], PATIENTS).tolist()}
    records, _ = task.records(found)
    counts = task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    sums = counts + (noise or 0.0) * rng.normal(size=len(counts))
    like = verify(add(store, f"like-{name}", schema, version, options))
    digests = replace(like.digests, job=job, weights=weights_digest(sums))
    card = replace(like, name=name, noise=noise, digests=digests)
    shutil.rmtree(store / like.name)
    return save(store, card, sums, key)


def model(store: Path, schema: dict[str, Any] = TABLE, version: int = 1) -> Model:
    return load(add(store, "sepsis", schema, version))


def observe(drift: Drift, rows: Table) -> None:
    schema = drift.bins.schema
    x_NF, _ = load_task(Named(name="diagnosis", options={}), TABLE).features(rows)
    drift.observe(x_NF, flags_of(schema, rows))


def test_inputs_are_counted_in_the_tables_own_bins(tmp_path: Path) -> None:
    """Whole years lie on the edges of bins of ten; not one may fall on the other side."""
    scaled = {**TABLE, "columns": [{**COLUMNS[0], "centre": 61.37, "spread": 11.7}, *COLUMNS[1:]]}
    found = load(table(tmp_path, noise=0.0))
    watched = Monitor(
        tmp_path / "kept", SETTINGS, lambda one: reference_of(found, one.task.schema)
    ).watch(model(tmp_path, scaled))
    rows = patients(PATIENTS, 0)
    drift = watched.drift
    x_NF, _ = watched.model.task.features(rows)
    count_L = drift.bins.count(x_NF, flags_of(drift.bins.schema, rows))
    assert drift.reference is not None
    for name, expected in drift.reference.columns.items():
        assert count_L[drift.bins.place(name)].tolist() == expected.histogram.count_B.tolist()


def test_patients_like_those_of_the_training_raise_no_alert_and_others_do(tmp_path: Path) -> None:
    found, asked = load(table(tmp_path)), model(tmp_path)
    alerts: list[str] = []
    for seed in range(20):
        watched = Monitor(
            tmp_path / f"kept {seed}", SETTINGS, lambda one: reference_of(found, one.task.schema)
        ).watch(asked)
        observe(watched.drift, patients(300 if seed % 2 else 60, seed + 100))
        alerts += watched.look()
        assert set(watched.drift.columns()) == {"age", "ward", "smoker"}
    assert alerts == []
    observe(watched.drift, patients(600, 900, older=10.0))
    assert watched.look() == {"drift of age"}


def test_a_tables_label_is_no_reference_of_an_input(tmp_path: Path) -> None:
    """The table says nothing of patients who lack it, and the served model is asked about them."""
    labels: dict[str, Any] = {
        "ill": {"name": "ill", "classes": ["no", "yes"]},
        "age": {"name": "age", "low": 0, "high": 120},
    }
    for label, rest in (("ill", COLUMNS[:1]), ("age", COLUMNS[2:])):
        found = load(table(tmp_path, {"columns": rest, "label": labels[label]}, name=label))
        ill = {"name": "ill", "kind": "flag"}
        asked = {"columns": [*COLUMNS, ill], "label": {"name": "died", "classes": ["no", "yes"]}}
        reference = reference_of(found, parse(Schema, asked, "schema"))
        assert [*reference.columns] == [rest[0]["name"]]


def test_levels_in_another_order_are_the_same_levels(tmp_path: Path) -> None:
    ward = {**COLUMNS[1], "categories": ["3", "b", "a"]}
    found = load(table(tmp_path, {**TABLE, "columns": [COLUMNS[0], ward, COLUMNS[2]]}, noise=0.0))
    reference = reference_of(found, parse(Schema, TABLE, "schema"))
    shares = reference.columns["ward"].histogram.count_B / PATIENTS
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1, 0.0], atol=0.03)


def test_what_the_table_lacks_is_compared_with_the_first_rows(tmp_path: Path) -> None:
    found = load(table(tmp_path, bins=0))
    monitor = Monitor(tmp_path / "kept", SETTINGS, lambda one: reference_of(found, one.task.schema))
    watched = monitor.watch(model(tmp_path))
    observe(watched.drift, patients(500, 1))
    columns = watched.drift.columns()
    assert {name: one.table for name, one in columns.items()} == {
        "age": False, "ward": True, "smoker": True,
    }  # fmt: skip
    assert [columns[name].found.total for name in ("age", "ward")] == [300, 500]
    assert columns["age"].expected.total == 200
    assert watched.reference_of("age") == "first 200 rows"
    assert watched.reference_of("ward") == "table/1"
    # The state belongs to this table, and to no other.
    monitor.look()
    assert Monitor(tmp_path / "kept", SETTINGS).watch(watched.model).drift.rows == 0
    again = Monitor(tmp_path / "kept", SETTINGS, lambda one: reference_of(found, one.task.schema))
    assert again.watch(watched.model).drift.state() == watched.drift.state()


def test_noise_that_hides_a_column_leaves_it_to_the_first_rows(tmp_path: Path) -> None:
    found = load(table(tmp_path, noise=4000.0))
    with pytest.raises(InputError, match="table/1 says nothing of the model's inputs"):
        reference_of(found, parse(Schema, TABLE, "schema"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model, a table that fits it, and some that do not."""
    store = tmp_path_factory.mktemp("shop")
    model(store)
    table(store)
    table(store, name="silent", noise=None)
    table(store, name="theirs", key=SigningKey.from_seed(bytes(32)))
    return store


class TestFinding:
    def test_the_table_that_scaled_the_model_is_found_by_its_job(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        scaled = model(tmp_path, {**TABLE, "scaled_by": JOB})
        assert find_reference(tmp_path, SIGNERS, scaled, None) is None
        table(tmp_path, name="other", job="6" * 64)
        table(tmp_path)
        found = find_reference(tmp_path, SIGNERS, scaled, None)
        assert found is not None
        assert found.label == "table/1"
        assert find_reference(tmp_path, SIGNERS, model(tmp_path, TABLE, 2), None) is None
        # One that others signed is not taken, and stops nobody.
        assert find_reference(tmp_path, ["0" * 64], scaled, None) is None
        assert "compared with its first rows" in caplog.text

    def test_a_table_is_named_by_its_last_version_or_by_one(self, tmp_path: Path) -> None:
        asked = model(tmp_path)
        for version in (1, 2):
            table(tmp_path, version=version)
        for named, label in (("table", "table/2"), ("table/1", "table/1")):
            found = find_reference(tmp_path, SIGNERS, asked, named)
            assert found is not None
            assert found.label == label

    @pytest.mark.parametrize(
        ("named", "error", "told"),
        [
            ("none", InputError, "reference none; expected a table in the store"),
            ("table/7", InputError, "table/7 is not in the store"),
            ("sepsis", InputError, "the table of a statistics job that .*; found task 'diagnosis'"),
            ("silent", InputError, "that states its noise"),
            ("theirs", IntegrityError, "theirs/1"),
        ],
    )
    def test_one_that_is_named_and_cannot_be_used_is_an_error(
        self, shop: Path, named: str, error: type[Exception], told: str
    ) -> None:
        with pytest.raises(error, match=told):
            find_reference(shop, SIGNERS, load(shop / "sepsis" / "1"), named)

    @pytest.mark.parametrize(
        ("place", "change", "told"),
        [
            (0, {"unit": "months"}, "table/1: .*'age'; expected .* months .*; found .* years"),
            (0, {"high": 100}, "expected a number in years from 0 to 100"),
            (1, {"categories": ["a", "b"]}, "'ward'; expected one of a, b; found one of 3, a, b"),
            (2, {"kind": "category", "categories": ["x", "y"]}, "expected one of x, y; found"),
            (2, {"kind": "text", "length": 4}, "'smoker'.* found kind 'text'"),
        ],
    )
    def test_a_table_of_other_columns_is_refused_by_name(
        self, shop: Path, place: int, change: dict[str, Any], told: str
    ) -> None:
        columns = [dict(one) for one in COLUMNS]
        columns[place] |= change
        found = load(shop / "table" / "1")
        with pytest.raises(InputError, match=told):
            reference_of(found, parse(Schema, {**TABLE, "columns": columns}, "schema"))

    def test_a_misspelt_reference_is_refused(self) -> None:
        with pytest.raises(InputError, match="reference of model 'sepsis'; expected NAME or"):
            ServedModel(name="sepsis", reference="../table")


def test_a_server_says_what_it_compares_with(tmp_path: Path) -> None:
    store = tmp_path / "models"
    table(store)
    model(store)
    put(store, "sepsis", 1)
    config = configure(tmp_path, models=[{"name": "sepsis", "reference": "table"}])
    rows = patients(200, 5)
    inputs = [
        {"name": name, "datatype": kind, "shape": [200], "data": list(rows[name])}
        for name, kind in (("age", "FP64"), ("ward", "BYTES"), ("smoker", "BYTES"))
    ]

    async def ask(listening: Listening) -> None:
        base = f"http://{listening.rest}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            answer = await client.post("/v2/models/sepsis/infer", json={"inputs": inputs})
            assert answer.status_code == 200
            lines = (await client.get("/metrics")).text
            page = (await client.get("/")).text
        assert 'fedward_drift_reference{model="sepsis/1",reference="table/1"} 3.0' in lines
        assert 'fedward_drift_psi{column="age",model="sepsis/1"} ' in lines
        assert 'fedward_drift_psi_bound{bound="high",column="age",model="sepsis/1"} ' in lines
        assert 'alert="' not in lines
        assert "Compared with the released table table/1 of all hospitals." in page
        assert 'aria-label="Distribution of age"' in page

    served(config, ask)
