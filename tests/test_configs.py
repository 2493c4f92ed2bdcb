"""Every file under configs/ is what its commands read, and its examples fit the programs."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from client.admission import Situation, admit
from client.data.config import Database, SourceConfig
from client.hospital import DatasetConfig, HospitalConfig
from client.policy import Policy, Population
from learning.schema import Schema
from protocol.config import load_yaml, parse, read
from protocol.errors import InputError
from protocol.jobs import Job
from server.config import ServerConfig
from server.jobs import Origin, resolve
from server.requests import read_request
from serving.config import ServingConfig
from simulations.audit_config import read_audit
from simulations.config import FEDERATED, read_simulation
from simulations.consortium import hospital_names

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
# Docker reads the one of containers; tests/test_deploy.py looks into it.
FILES = sorted(
    path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.y*ml") if path.name != "compose.yaml"
)
JOBS = [path for path in FILES if path.match("jobs/*")]
HOSPITALS = [path for path in FILES if path.match("hospital/*")]
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
ORIGIN = Origin(coordinator="0" * 64, roster="1" * 64, now=NOW)


def read_hospital(path: Path) -> HospitalConfig:
    return read(HospitalConfig, path)


def read_server(path: Path) -> ServerConfig:
    return read(ServerConfig, path)


def read_serving(path: Path) -> ServingConfig:
    return read(ServingConfig, path)


# The first pattern that fits a file says who reads it.
READERS: dict[str, str | Callable[[Path], object]] = {
    "hospital/*.yaml": read_hospital,
    "server/*.yaml": read_server,
    "jobs/*.yaml": read_request,
    "serving/*.yaml": read_serving,
    "three-hospitals/*/hospital.yaml": read_hospital,
    "three-hospitals/job.yaml": read_request,
    "simulations/attack*.yaml": "simulations.attack_config:read_attacks",
    "simulations/audit*.yaml": read_audit,
    "simulations/*.yaml": read_simulation,
}


def reader(path: Path) -> Callable[[Path], Any]:
    """What reads a file, by its place under configs/."""
    found = next((READERS[pattern] for pattern in READERS if path.match(pattern)), None)
    assert found is not None, f"{path}: nobody reads it"
    return pkgutil.resolve_name(found) if isinstance(found, str) else found


COMPARISONS = [path for path in FILES if reader(path) is read_simulation]


def of(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[path.as_posix() for path in paths])


def test_there_is_an_example_of_each_kind() -> None:
    assert JOBS
    assert HOSPITALS
    assert COMPARISONS


@of(FILES)
def test_every_file_is_what_its_reader_expects(path: Path) -> None:
    assert is_dataclass(reader(path)(CONFIGS / path))


@of(FILES)
def test_a_misspelt_key_is_an_error_that_names_it(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text((CONFIGS / path).read_text(encoding="utf-8") + "\nepsilom: 1\n")
    with pytest.raises(InputError, match="epsilom"):
        reader(path)(copy)


def resolved(path: Path) -> Job:
    return resolve(read_request(CONFIGS / path), ORIGIN)


@of(JOBS)
def test_a_job_resolves_to_numbers_that_every_hospital_admits(path: Path) -> None:
    job = resolved(path)
    policy = replace(
        Policy(),
        tasks=(job.task.name,),
        publish_metrics=job.publication.metrics,
        publish_model=job.publication.model,
    )
    columns = parse(Schema, job.schema, "schema").column_names
    for site in job.sites:
        situation = Situation(
            name=site.name,
            roster=job.roster,
            policy=policy,
            population=Population(),
            columns=columns,
            now=NOW,
        )
        assert admit(job, situation).job is job


@of(COMPARISONS)
def test_every_arm_of_a_comparison_is_a_job(path: Path) -> None:
    simulation = read_simulation(CONFIGS / path)
    sizes = dict.fromkeys(hospital_names(simulation.config.hospitals), (90, 20))
    for arm in simulation.config.arms:
        if arm.arm in FEDERATED:
            job = resolve(simulation.job_request(arm, sizes), ORIGIN)
            assert job.privacy.epsilon == (arm.epsilon or 0)


def defaults(cls: Any) -> dict[str, object]:
    """Every key of a configuration and its default; `MISSING` where a person must say it."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(cls)
    }


class TestTheHospitalsExample:
    DOCUMENT = load_yaml(CONFIGS / "hospital" / "example.yaml")
    HOSPITAL = read_hospital(CONFIGS / "hospital" / "example.yaml")
    FREE = ("patient", "train_size", "test_size", "columns", "units")
    """Keys that are shown with a value, since their default is to be left out."""

    def compare(self, cls: Any, written: object, read_as: object) -> None:
        """All keys of a dataclass are written, with their defaults where they have one."""
        assert isinstance(written, dict)
        assert set(written) == set(defaults(cls))
        for name, default in defaults(cls).items():
            if default is not MISSING and name not in self.FREE:
                assert getattr(read_as, name) == default, name

    def test_has_every_key_of_a_hospital(self) -> None:
        self.compare(HospitalConfig, self.DOCUMENT, self.HOSPITAL)

    def test_has_every_rule_of_a_policy(self) -> None:
        self.compare(Policy, self.DOCUMENT["policy"], self.HOSPITAL.policy)

    def test_has_every_key_of_a_data_set_and_its_source(self) -> None:
        written, dataset = self.DOCUMENT["datasets"]["sepsis"], self.HOSPITAL.datasets["sepsis"]
        self.compare(DatasetConfig, written, dataset)
        self.compare(type(dataset.source), written["source"], dataset.source)

    def test_has_every_key_of_a_population_and_its_budget(self) -> None:
        written = self.DOCUMENT["populations"]["intensive_care"]
        population = self.HOSPITAL.populations["intensive_care"]
        self.compare(Population, written, population)
        self.compare(type(population.budget), written["budget"], population.budget)

    def test_what_is_left_out_is_what_the_comments_say(self) -> None:
        assert self.HOSPITAL.populations["oncology"] == Population()
        short = self.HOSPITAL.datasets["breast_cancer"]
        assert all(getattr(short, name) is None for name in self.FREE[:3])
        assert short.source.columns == {}

    def test_speaks_of_a_job_that_there_is(self) -> None:
        assert {read_request(CONFIGS / path).dataset for path in JOBS} & set(self.HOSPITAL.datasets)


class TestTheExamplesOfSources:
    PATH = CONFIGS / "hospital" / "sources.yaml"
    DOCUMENT = load_yaml(PATH)["datasets"]
    HOSPITAL = read_hospital(PATH)
    OPTIONAL = (
        "patient", "index", "password_file", "parameters", "measurements", "observations",
        "conditions", "tags",
    )  # fmt: skip
    """Keys that are shown with a value, since their default is to be left out."""

    def test_there_is_one_of_each_kind(self) -> None:
        kinds = [type(dataset.source) for dataset in self.HOSPITAL.datasets.values()]
        assert sorted(map(str, kinds)) == sorted(map(str, get_args(SourceConfig)))

    @pytest.mark.parametrize("name", DOCUMENT)
    def test_has_every_key_with_its_default(self, name: str) -> None:
        source, written = self.HOSPITAL.datasets[name].source, self.DOCUMENT[name]["source"]
        assert set(written) == set(defaults(type(source)))
        for key, default in defaults(type(source)).items():
            if default is not MISSING and key not in self.OPTIONAL:
                assert getattr(source, key) == default, key

    def test_has_every_key_of_a_database(self) -> None:
        assert set(self.DOCUMENT["query"]["source"]["database"]) == set(defaults(Database))
