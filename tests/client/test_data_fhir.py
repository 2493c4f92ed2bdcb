from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.data.config import Coded, FhirConfig
from client.data.fhir import FhirSource
from client.data.source import read
from protocol.errors import InputError

SECRET = "Zaphod-4711"  # noqa: S105 - nobody's
LOINC = "http://loinc.org"


def patient(number: str = "1", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": number, **more}


def glucose(value: Any = 90.0, when: str = "2025-01-01", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "subject": {"reference": "Patient/1"},
        "code": {"coding": [{"system": LOINC, "code": "2339-0"}]},
        "effectiveDateTime": when,
        "valueQuantity": {"value": value, "code": "mg/dL"},
        **more,
    }


def diabetes(code: str = "E11", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "subject": {"reference": "https://server/fhir/Patient/1"},
        "code": {"coding": [{"code": "x"}, {"code": code}]},
        "onsetDateTime": "2024-05-05T10:00:00Z",
        **more,
    }


def source(folder: Path, *resources: dict[str, Any], text: str = "") -> FhirSource:
    for kind in ("Patient", "Observation", "Condition"):
        lines = [json.dumps(one) for one in resources if one["resourceType"] == kind]
        (folder / f"{kind}.ndjson").write_text("\n".join(lines) + "\n" + text)
    config = FhirConfig(
        kind="fhir",
        path=folder,
        at="2025-06-01",
        observations={"glucose": Coded(code="2339-0", unit="mg/dL")},
        conditions={"diabetes": ("E11", "44054006")},
    )
    return FhirSource(folder, config)


def row(folder: Path, *resources: dict[str, Any]) -> dict[str, Any]:
    found = source(folder, *resources)
    return {name: cells[0] for name, cells in read(found, found.columns()).items()}


def test_one_record_for_each_patient(tmp_path: Path) -> None:
    person = patient(gender="female", birthDate="1980-06-02")
    assert row(tmp_path, person, glucose(), diabetes()) == {
        "patient": "1",
        "sex": "f",
        "age": 44,
        "glucose": 90.0,
        "diabetes": "yes",
    }


def test_what_a_patient_lacks_is_missing_and_a_condition_that_nobody_wrote_is_none(
    tmp_path: Path,
) -> None:
    found = row(tmp_path, patient(gender="unknown", birthDate="?"))
    assert list(found.values()) == ["1", None, None, None, "no"]


@pytest.mark.parametrize(
    ("observations", "value"),
    [
        ([glucose(1.0, "2025-01-01"), glucose(2.0, "2025-02-01")], 2.0),
        ([glucose(2.0, "2025-02-01"), glucose(1.0, "2025-01-01")], 2.0),
        ([glucose(1.0), glucose(9.0, "2025-06-02")], 1.0),
        ([glucose(1.0), glucose(5.0, "2025-02-01", status="entered-in-error")], 1.0),
        ([glucose(5.0, valueQuantity={"value": 5.0, "code": "mmol/L"})], None),
        ([glucose(5.0, valueQuantity={"value": 5.0, "unit": "mg/dL"})], 5.0),
        ([glucose(SECRET)], None),
        ([glucose(True)], None),
        ([glucose(5.0, code={"coding": [{"system": "x", "code": "2339-0"}]})], None),
        ([glucose(5.0, subject={"reference": "Patient/2"})], None),
        ([glucose(5.0, subject={"reference": "Group/Patient/"})], None),
        ([glucose(5.0, effectiveDateTime=None)], None),
        ([glucose(5.0, code=SECRET, subject=SECRET)], None),
    ],
)
def test_the_last_value_in_the_named_unit_counts(
    tmp_path: Path, observations: list[dict[str, Any]], value: float | None
) -> None:
    assert row(tmp_path, patient(), *observations)["glucose"] == value


@pytest.mark.parametrize(
    ("condition", "flag"),
    [
        (diabetes("44054006"), "yes"),
        (diabetes("E10"), "no"),
        (diabetes(onsetDateTime="2025-06-02"), "no"),
        (diabetes(onsetDateTime=None, recordedDate="2025-06-02"), "no"),
        (diabetes(onsetDateTime=None), "yes"),
        (diabetes(verificationStatus={"coding": [{"code": "refuted"}]}), "no"),
        (diabetes(subject={"reference": "Patient/9"}), "no"),
    ],
)
def test_conditions_that_were_known_by_the_day(
    tmp_path: Path, condition: dict[str, Any], flag: str
) -> None:
    assert row(tmp_path, patient(), condition)["diabetes"] == flag


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'{{"resourceType": "Patient", "id": "{SECRET}"', "line 2: not JSON"),
        (f'"{SECRET}"', "line 2: another resource; expected Patient"),
        (f'{{"resourceType": "{SECRET}"}}', "line 2: another resource"),
        ('{"resourceType": "Patient", "id": "1"}', "line 2: Patient; expected an id of its own"),
        ('{"resourceType": "Patient"}', "line 2: Patient; expected an id of its own"),
    ],
)
def test_a_damaged_export_is_told_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    damaged = source(tmp_path, patient(), text=text)
    with pytest.raises(InputError, match=rf"Patient\.ndjson, {told}") as caught:
        read(damaged, ["patient"])
    assert SECRET not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    damaged = source(tmp_path, patient())
    (tmp_path / "Patient.ndjson").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read(damaged, ["patient"])


def test_the_day_is_a_day() -> None:
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        FhirConfig(kind="fhir", path=Path(), at="June")
