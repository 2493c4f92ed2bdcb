from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client.data.source import DroppedError
from client.data.tabular import CsvSource
from client.hospital import Hospital, HospitalConfig, Split
from learning.schema import Schema
from learning.task import Task, load_task
from privacy.noise import SeededEntropy, SystemEntropy
from protocol.config import parse, read
from protocol.errors import FedwardError, InputError, IntegrityError
from protocol.jobs import Named
from simulations.arrays import Cells
from simulations.consortium import CONFIG
from tests.consortium import DATASET, make_consortium, make_job, make_request, records, schema

KEY = hashlib.sha256(b"a key for simulations").digest()
NAMED = Named(name="diagnosis", options={})
MINIMAL: dict[str, Any] = {
    "name": "north",
    "datasets": {"icu": {"source": {"kind": "csv", "path": "icu.csv"}, "population": "all"}},
    "populations": {"all": {}},
}


class Place:
    """One hospital's folder; its records and configuration are the test's to change."""

    def __init__(self, folder: Path) -> None:
        make_consortium(folder)
        self.folder = folder / "north"
        self.path = self.folder / CONFIG
        self.rows(records(200, np.random.default_rng(7), patients=True))

    def rows(self, columns: Cells) -> None:
        with (self.folder / "data.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    def table(self) -> dict[str, list[str]]:
        with (self.folder / "data.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [row[name] for row in rows] for name in rows[0]}

    def configure(self, change: Callable[[dict[str, Any]], object]) -> None:
        config = yaml.safe_load(self.path.read_text())
        change(config)
        self.path.write_text(json.dumps(config))

    def not_public(self) -> None:
        self.configure(lambda config: config["populations"][DATASET].update(public=False))

    def open(self, **options: Any) -> Hospital:
        return Hospital.open(self.path, **options)

    def held_out(self, *, patients: bool = True, **options: Any) -> dict[str, bool]:
        """From each patient or record to whether it is held out, as a job sees it."""
        with self.open(**options) as hospital:
            split = hospital.split(DATASET, task_of(patients=patients), cache="")
        table = self.table()
        cells = zip(*table.values(), strict=True)
        who = table["patient"] if patients else [",".join(row) for row in cells]
        held = {tuple(row): True for row in split.test.x_NF.tolist()}
        task = task_of(patients=patients)
        x_NF, _ = task.features(table)
        assert len(split.train) + len(split.test) == len(x_NF)
        return {one: tuple(row) in held for one, row in zip(who, x_NF.tolist(), strict=True)}


def task_of(*, patients: bool = False, without: str = "") -> Task:
    document = schema(patients=patients)
    document["columns"] = [one for one in document["columns"] if one["name"] != without]
    return load_task(NAMED, document)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "all")


class TestConfiguration:
    def test_three_sections_are_enough(self) -> None:
        config = parse(HospitalConfig, MINIMAL, "")
        assert config.datasets["icu"].test_fraction == 0.2
        assert config.ledger == Path("ledger.sqlite")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"populations": {}},
                "expected one of populations; found all",
            ),
            ({"populations": {"b": {}, "a": {}}}, "expected one of a, b; found all"),
            ({"datasets": {"icu": {"population": "all"}}}, "datasets.icu: missing 'source'"),
            ({"policy": {"min_cohort": 2}}, "policy: min_cohort; expected >= 3"),
            ({"ledgr": "x"}, "ledgr: unknown key.*did you mean 'ledger'"),
            ({"name": 7}, "name: wrong type; expected text; found an integer"),
        ],
    )
    def test_mistakes_are_named(self, change: Mapping[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            parse(HospitalConfig, {**MINIMAL, **change}, "")

    @pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5])
    def test_the_held_out_share_is_a_share(self, fraction: float) -> None:
        dataset = {**MINIMAL["datasets"]["icu"], "test_fraction": fraction}
        with pytest.raises(InputError, match=r"datasets\.icu: test_fraction; expected 0 <= x < 1"):
            parse(HospitalConfig, {**MINIMAL, "datasets": {"icu": dataset}}, "")

    def test_mistakes_in_the_file_have_their_line(self, tmp_path: Path) -> None:
        path = tmp_path / CONFIG
        path.write_text("name: north\ndatasets: {}\npopulations:\n  all:\n    pblic: true\n")
        with pytest.raises(InputError, match=r"hospital\.yaml:5: populations\.all\.pblic"):
            Hospital.open(path)


class TestOpening:
    def test_paths_start_at_the_configurations_folder(self, place: Place) -> None:
        with place.open() as hospital:
            assert hospital.name == "north"
            assert hospital.models == place.folder / "models"
            assert hospital.key.fingerprint == hospital.roster.card("north").fingerprint
            assert hospital.columns(DATASET) == ("age", "pulse", "lactate", "sepsis", "patient")
        assert (place.folder / "ledger.sqlite").exists()
        assert (place.folder / "journal.jsonl").exists()

    @pytest.mark.parametrize(
        ("file", "content", "error"),
        [
            ("keys/signing.key", None, InputError),
            ("trust.json", None, InputError),
            ("roster.json", None, InputError),
            ("roster.json", b"{}", IntegrityError),
            ("ledger.sqlite", b"no database" * 100, FedwardError),
            ("journal.jsonl", b"no journal\n", IntegrityError),
        ],
    )
    def test_what_is_missing_or_damaged_is_named_and_nothing_stays_open(
        self, place: Place, file: str, content: bytes | None, error: type[FedwardError]
    ) -> None:
        path = place.folder / file
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(error, match=Path(file).name) as caught:
            place.open()
        assert caught.traceback  # which keeps the hospital that was not opened
        descriptors = Path("/proc/self/fd").iterdir()
        assert not [one for one in descriptors if place.folder in one.resolve().parents]

    def test_another_roster_than_the_pinned_one(self, place: Place, tmp_path: Path) -> None:
        make_consortium(tmp_path / "others")
        foreign = tmp_path / "others" / "north" / "roster.json"
        (place.folder / "roster.json").write_bytes(foreign.read_bytes())
        with pytest.raises(IntegrityError, match="roster"):
            place.open()

    def test_closing_gives_the_files_free(self, place: Place) -> None:
        for _ in range(2):
            hospital = place.open()
            hospital.journal.append("test", {})
            hospital.close()

    def test_the_clock_has_a_zone(self, place: Place) -> None:
        with place.open() as hospital:
            assert hospital.clock().tzinfo == UTC
        noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
        config = read(HospitalConfig, place.path)
        with Hospital(config, place.folder, clock=lambda: noon) as hospital:
            assert hospital.clock() == noon


class TestDeclarations:
    def test_of_a_data_set_that_is_not_here(self, place: Place) -> None:
        with place.open() as hospital:
            assert hospital.population("other") is None
            assert hospital.columns("other") == ()

    def test_caps_are_the_populations(self, place: Place) -> None:
        budget = {"epsilon": 2.0, "epsilon_worst": 7.0, "delta": 1e-6}
        place.configure(lambda config: config["populations"][DATASET].update(budget=budget))
        with place.open() as hospital:
            assert vars(hospital.caps(make_job())) == budget
            free = hospital.caps(make_job(request=make_request(mode="none")))
            assert (free.epsilon, free.epsilon_worst, free.delta) == (math.inf, math.inf, 1e-6)


class TestEntropy:
    def test_is_the_operating_systems_unless_asked_otherwise(self, place: Place) -> None:
        place.not_public()
        with place.open() as hospital:
            entropy = hospital.entropy(DATASET, "job", "1", "update")
            assert isinstance(entropy, SystemEntropy)
            assert not entropy.seeded

    def test_seeded_noise_needs_public_data(self, place: Place) -> None:
        place.not_public()
        with place.open(seed=1) as hospital:
            with pytest.raises(InputError, match=r"protects nobody.*'public: true'"):
                hospital.entropy(DATASET, "job")
            with pytest.raises(InputError, match="seeded noise protects nobody"):
                hospital.entropy("other", "job")

    def test_seeded_noise_differs_by_hospital_attempt_and_purpose(self, tmp_path: Path) -> None:
        consortium = make_consortium(tmp_path / "all", noise_seed=1)
        drawn: dict[tuple[str, ...], bytes] = {}
        for name in consortium.names:
            with consortium.open(name) as hospital:
                for context in (("job", "1", "update"), ("job", "2", "update"), ("job", "1", "e")):
                    entropy = hospital.entropy(DATASET, *context)
                    assert isinstance(entropy, SeededEntropy)
                    drawn[name, *context] = entropy.words(4).tobytes()
                    again = hospital.entropy(DATASET, *context).words(4).tobytes()
                    assert again == drawn[name, *context]
        assert len(set(drawn.values())) == len(drawn) == 9


class TestSplit:
    def test_everybody_is_on_one_side(self, place: Place) -> None:
        with place.open() as hospital:
            split = hospital.split(DATASET, task_of(patients=True), cache="")
        assert split.train_report.rows + split.test_report.rows == 200
        assert split.train.num_patients + split.test.num_patients == 100
        assert 5 <= split.test.num_patients <= 40

    def test_a_patients_records_stay_together(self, place: Place) -> None:
        table = place.table()
        held = place.held_out()
        with place.open() as hospital:
            split = hospital.split(DATASET, task_of(patients=True), cache="")
        patients = {patient for patient, side in held.items() if side}
        assert sum(patient in patients for patient in table["patient"]) == len(split.test)

    @pytest.mark.parametrize("patients", [True, False])
    def test_never_moves_when_others_come_go_or_change_places(
        self, place: Place, *, patients: bool
    ) -> None:
        before = place.held_out(patients=patients)
        table = place.table()
        more = records(50, np.random.default_rng(8), patients=True)
        names = [f"Q{row}" for row in range(50)]
        joined = {
            name: [*(names if name == "patient" else more[name]), *table[name][::-1][10:]]
            for name in table
        }
        place.rows(joined)
        after = place.held_out(patients=patients)
        same = set(before) & set(after)
        assert len(same) >= 90
        assert {one: before[one] for one in same} == {one: after[one] for one in same}

    def test_never_moves_when_a_job_reads_other_columns(self, place: Place) -> None:
        with place.open() as hospital:
            sides = [
                hospital.split(DATASET, task, cache=cache)
                for cache, task in (("a", task_of()), ("b", task_of(without="pulse")))
            ]
        ages = [set(split.test.x_NF[:, 0]) for split in sides]
        assert ages[0] == ages[1] != set()

    def test_never_moves_when_a_job_names_no_patient_but_the_hospital_does(
        self, place: Place
    ) -> None:
        """Or a patient could be trained on in one job and held out in another."""
        place.configure(lambda config: config["datasets"][DATASET].update(patient="patient"))
        with place.open() as hospital:
            by_patient = hospital.split(DATASET, task_of(patients=True), cache="a")
            by_record = hospital.split(DATASET, task_of(), cache="b")
        assert by_record.test.x_NF.tolist() == by_patient.test.x_NF.tolist()
        assert by_record.test.num_patients == 2 * by_patient.test.num_patients

    def test_never_moves_when_the_node_restarts_or_its_folder_moves(
        self, place: Place, tmp_path: Path
    ) -> None:
        before = place.held_out()
        assert place.held_out() == before
        place.folder = place.folder.rename(tmp_path / "moved")
        place.path = place.folder / CONFIG
        assert place.held_out() == before

    def test_is_the_same_in_every_data_set_of_a_population(self, place: Place) -> None:
        def add(config: dict[str, Any]) -> None:
            source = {"kind": "csv", "path": "data.csv"}
            config["datasets"]["second"] = {"source": source, "population": DATASET}
            config["datasets"]["foreign"] = {"source": source, "population": "others"}
            config["populations"]["others"] = {}

        place.configure(add)
        with place.open() as hospital:
            task = task_of(patients=True)
            tests = {
                name: hospital.split(name, task, cache=name).test.x_NF.tolist()
                for name in (DATASET, "second", "foreign")
            }
        assert tests[DATASET] == tests["second"]
        assert tests[DATASET] != tests["foreign"]

    def test_depends_on_the_hospitals_own_secret(self, tmp_path: Path) -> None:
        first, second = Place(tmp_path / "first"), Place(tmp_path / "second")
        assert first.table() == second.table()
        assert first.held_out() != second.held_out()

    def test_a_larger_share_keeps_who_was_held_out(self, place: Place) -> None:
        def share(fraction: float) -> set[str]:
            change = {"test_fraction": fraction}
            place.configure(lambda config: config["datasets"][DATASET].update(change))
            return {one for one, side in place.held_out().items() if side}

        none, some, most = share(0.0), share(0.3), share(0.9)
        assert none < some < most

    def test_a_known_key_needs_public_data(self, place: Place) -> None:
        assert place.held_out(split_key=KEY) == place.held_out(split_key=KEY)
        place.not_public()
        with (
            place.open(split_key=KEY) as hospital,
            pytest.raises(InputError, match="a split key that others know bares who is held out"),
        ):
            hospital.split(DATASET, task_of(), cache="")

    def test_what_preprocessing_met_is_told_by_side(self, place: Place) -> None:
        table = place.table()
        table["pulse"] = ["" for _ in table["pulse"]]
        place.rows(table)
        with place.open() as hospital:
            split = hospital.split(DATASET, task_of(), cache="")
        for report, part in ((split.train_report, split.train), (split.test_report, split.test)):
            (finding,) = report.findings
            assert (finding.column, finding.problem, finding.count) == (
                "pulse",
                "missing",
                len(part),
            )

    def test_a_source_without_records_has_two_empty_sides(self, place: Place) -> None:
        place.rows({name: [] for name in place.table()})
        with place.open() as hospital:
            split = hospital.split(DATASET, task_of(), cache="")
        assert (len(split.train), len(split.test)) == (0, 0)

    def test_a_source_that_went_away_is_asked_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        columns, lost = CsvSource.columns, iter([True, False])

        def dropping(source: CsvSource) -> tuple[str, ...]:
            if next(lost, False):
                raise DroppedError("no connection, or one that was lost")
            return columns(source)

        monkeypatch.setattr("client.data.source.PAUSE_S", 0.0)
        monkeypatch.setattr(CsvSource, "columns", dropping)
        with place.open() as hospital:
            assert len(hospital.split(DATASET, task_of(), cache="").train) > 0
        assert next(lost, None) is None


class TestCache:
    def test_one_job_reads_the_records_once(self, place: Place) -> None:
        with place.open() as hospital:
            first = hospital.split(DATASET, task_of(), cache="job")
            (place.folder / "data.csv").unlink()
            assert hospital.split(DATASET, task_of(), cache="job") is first

    def test_another_job_and_another_data_set_read_their_own(self, place: Place) -> None:
        place.configure(lambda config: _second(config, place.folder))
        with place.open() as hospital:
            first = hospital.split(DATASET, task_of(), cache="job")
            assert hospital.split(DATASET, task_of(), cache="other") is not first
            assert _size(hospital.split("second", task_of(), cache="other")) == 3

    def test_a_forgotten_split_is_read_again_and_is_the_same(self, place: Place) -> None:
        with place.open() as hospital:
            first = hospital.split(DATASET, task_of(), cache="job")
            hospital.forget()
            again = hospital.split(DATASET, task_of(), cache="job")
            assert again is not first
            assert again.test.x_NF.tolist() == first.test.x_NF.tolist()
            hospital.forget()
            (place.folder / "data.csv").unlink()
            with pytest.raises(InputError, match=r"data\.csv: cannot be read"):
                hospital.split(DATASET, task_of(), cache="job")


def _second(config: dict[str, Any], folder: Path) -> None:
    (folder / "second.csv").write_text("age,pulse,lactate,sepsis\n" + "1,60,1,no\n" * 3)
    source = {"kind": "csv", "path": "second.csv"}
    config["datasets"]["second"] = {"source": source, "population": DATASET}


def _size(split: Split) -> int:
    return len(split.train) + len(split.test)


def test_the_records_reach_the_task_as_the_schema_says(place: Place) -> None:
    """Every feature by hand: value minus middle of the bounds over a quarter of their width."""
    task = task_of()
    columns: Sequence[Any] = parse(Schema, schema(), "").columns
    with place.open() as hospital:
        split = hospital.split(DATASET, task, cache="")
    table = place.table()
    expected = {
        tuple(
            (float(table[one.name][row]) - (one.low + one.high) / 2) / ((one.high - one.low) / 4)
            for one in columns
        )
        for row in range(200)
    }
    assert {
        tuple(row) for row in (*split.train.x_NF.tolist(), *split.test.x_NF.tolist())
    } == expected
