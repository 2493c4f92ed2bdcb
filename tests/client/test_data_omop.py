"""The documented queries, over a small OMOP database in a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.data.config import Database, Measured, OmopConfig
from client.data.opening import open_source
from client.data.source import read
from protocol.errors import InputError
from tests.postgres import Postgres

LACTATE, MMOL_L, MG_DL = 3047181, 8753, 8840
SEPSIS, UROSEPSIS, FRACTURE = 132797, 133594, 75053

TABLES = """
CREATE TABLE person (person_id integer, gender_concept_id integer, year_of_birth integer);
CREATE TABLE visit_occurrence (
  visit_occurrence_id integer, person_id integer, visit_concept_id integer,
  visit_start_date date, visit_start_datetime timestamp, visit_end_date date);
CREATE TABLE measurement (
  measurement_id integer, person_id integer, measurement_concept_id integer,
  measurement_datetime timestamp, value_as_number numeric, unit_concept_id integer);
CREATE TABLE condition_occurrence (
  person_id integer, condition_concept_id integer, condition_start_date date);
CREATE TABLE concept_ancestor (ancestor_concept_id integer, descendant_concept_id integer);
"""
ROWS = f"""
INSERT INTO person VALUES (1, 8532, 1960), (2, 8507, 1950), (3, 0, 2000);
INSERT INTO visit_occurrence VALUES
  (12, 1, 9201, '2025-03-01', '2025-03-01 08:00', '2025-03-05'),
  (11, 2, 9201, '2025-02-01', '2025-02-01 20:00', '2025-02-02'),
  (13, 1, 9202, '2025-04-01', '2025-04-01 08:00', '2025-04-01'),
  (14, 3, 9201, '2025-05-01', '2025-05-01 00:00', '2025-05-09');
INSERT INTO measurement VALUES
  (1, 1, {LACTATE}, '2025-03-01 10:00', 4.5, {MMOL_L}),
  (2, 1, {LACTATE}, '2025-03-01 09:00', 2.5, {MMOL_L}),
  (3, 1, {LACTATE}, '2025-03-01 08:30', 40, {MG_DL}),
  (4, 1, {LACTATE}, '2025-02-28 23:00', 9, {MMOL_L}),
  (5, 2, {LACTATE}, '2025-02-02 20:00', 7, {MMOL_L}),
  (6, 3, {LACTATE}, '2025-05-01 00:00', NULL, {MMOL_L});
INSERT INTO condition_occurrence VALUES
  (1, {UROSEPSIS}, '2025-03-02'), (2, {SEPSIS}, '2025-02-10'), (3, {FRACTURE}, '2025-05-02');
INSERT INTO concept_ancestor VALUES
  ({SEPSIS}, {SEPSIS}), ({SEPSIS}, {UROSEPSIS}), ({FRACTURE}, {FRACTURE});
"""  # noqa: S608


@pytest.fixture
def cdm(postgres: Postgres) -> Postgres:
    postgres.execute("DROP SCHEMA IF EXISTS cdm CASCADE", "CREATE SCHEMA cdm")
    for script in (TABLES, ROWS):
        postgres.execute(
            *(f"SET search_path = cdm; {part}" for part in script.split(";") if part.strip())
        )
    return postgres


def config(url: str, **changes: Any) -> OmopConfig:
    written: dict[str, Any] = {
        "visits": (9201,),
        "measurements": {"lactate": Measured(concept=LACTATE, unit=MMOL_L)},
        "conditions": {"sepsis": (SEPSIS,)},
    }
    return OmopConfig(kind="omop", database=Database(url=url), **(written | changes))


def test_one_record_for_each_visit_in_the_order_of_their_numbers(cdm: Postgres) -> None:
    source = open_source(config(cdm.url()), Path())
    names = ("visit", "patient", "admitted", "age", "sex", "lactate", "sepsis")
    assert source.columns() == names
    assert read(source, names) == {
        "visit": [11, 12, 14],
        "patient": [2, 1, 3],
        "admitted": ["2025-02-01", "2025-03-01", "2025-05-01"],
        "age": [75, 65, 25],
        "sex": ["m", "f", None],
        # The first in the right unit within a day of the beginning; a descendant during the visit.
        "lactate": [None, 2.5, None],
        "sepsis": ["no", "yes", "no"],
    }


def test_the_window_is_the_configurations(cdm: Postgres) -> None:
    source = open_source(config(cdm.url(), window_hours=24.5, columns={"bga": "lactate"}), Path())
    assert read(source, ["bga"]) == {"bga": [7.0, 2.5, None]}


def test_neither_measurements_nor_conditions_are_needed(cdm: Postgres) -> None:
    bare = config(cdm.url(), measurements={}, conditions={}, visits=(9202,))
    assert read(open_source(bare, Path()), ["visit", "age"]) == {"visit": [13], "age": [65]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cdm_schema": 'cdm"; DROP'}, "letters, digits and _"),
        ({"conditions": {"a b": (1,)}}, "letters, digits and _"),
        ({"conditions": {"lactate": (1,)}}, "a measurement and a condition"),
    ],
)
def test_names_that_could_be_sql_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        config("postgresql://db/omop", **changes)


def test_other_databases_are_refused() -> None:
    with pytest.raises(InputError, match="OMOP is read from PostgreSQL"):
        open_source(config("sqlite:///omop"), Path())
