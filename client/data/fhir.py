"""Records from a FHIR bulk export: one for each patient, from three flat resources.

Source: HL7, FHIR R4, Patient, Observation and Condition; FHIR Bulk Data Access IG 2.0 (NDJSON).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.data.config import Coded, FhirConfig
from client.data.source import BATCH_ROWS, rows_of
from learning.task import Table
from protocol.errors import InputError

Resource = Mapping[str, Any]
Cell = str | float | None

_SEX = {"female": "f", "male": "m", "other": "o"}


@dataclass(frozen=True)
class FhirSource:
    """A folder with the resources as NDJSON.

    What is held at a time is a line of the export and one row for each patient.

    Args:
        path: The folder.
        config: Which observations and conditions become columns, and on which day.
    """

    path: Path
    config: FhirConfig

    def columns(self) -> tuple[str, ...]:
        """The patient's columns and those of the configuration."""
        if not self._files("Patient"):
            raise InputError(
                f"{self.path}: no Patient.ndjson", expected="a folder with a FHIR bulk export"
            )
        return ("patient", "sex", "age", *self.config.observations, *self.config.conditions)

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns, patients in the order of the export; see `Source`."""
        self.columns()
        people = self._people()
        self._observe(people)
        self._diagnose(people)
        records = [[person.get(name) for name in columns] for person in people.values()]
        for start in range(0, len(records), rows):
            yield rows_of(columns, records[start : start + rows])

    def _people(self) -> dict[str, dict[str, Cell]]:
        """The row of each patient, by the export's own number."""
        absent: dict[str, Cell] = dict.fromkeys(self.config.conditions, "no")
        people: dict[str, dict[str, Cell]] = {}
        for place, resource in self._resources("Patient"):
            number = resource.get("id")
            if not isinstance(number, str) or number in people:
                raise InputError(f"{place}: Patient", expected="an id of its own")
            people[number] = {
                "patient": number,
                "sex": _SEX.get(str(resource.get("gender"))),
                "age": _years(_text(resource, "birthDate"), self.config.at),
                **absent,
            }
        return people

    def _observe(self, people: Mapping[str, dict[str, Cell]]) -> None:
        """Write the last value of each observation; of equally old ones the export's last."""
        wanted = {(one.system, one.code): name for name, one in self.config.observations.items()}
        latest: dict[tuple[str, str], str] = {}
        for _, resource in self._resources("Observation") if wanted else ():
            name = _first(wanted, resource.get("code"))
            number, when = _subject(resource), _text(resource, "effectiveDateTime")
            if name is None or number not in people or not when or when[:10] > self.config.at:
                continue
            value = _quantity(resource, self.config.observations[name])
            if value is not None and when >= latest.get((number, name), ""):
                latest[number, name] = when
                people[number][name] = value

    def _diagnose(self, people: Mapping[str, dict[str, Cell]]) -> None:
        """Set the flags of conditions that were recorded and not taken back."""
        wanted = {code: name for name, codes in self.config.conditions.items() for code in codes}
        for _, resource in self._resources("Condition") if wanted else ():
            when = _text(resource, "onsetDateTime") or _text(resource, "recordedDate") or ""
            number = _subject(resource)
            if number in people and when[:10] <= self.config.at and not _is_withdrawn(resource):
                for code in _codings(resource.get("code")):
                    if name := wanted.get(code[1]):
                        people[number][name] = "yes"

    def _files(self, resource: str) -> list[Path]:
        return sorted(
            {*self.path.glob(f"{resource}.ndjson"), *self.path.glob(f"{resource}.*.ndjson")}
        )

    def _resources(self, kind: str) -> Iterator[tuple[str, Resource]]:
        """Every resource of a kind, with the file and line that it stands on."""
        for path in self._files(kind):
            try:
                with path.open(encoding="utf-8") as file:
                    for number, line in enumerate(file, start=1):
                        if line.strip():
                            yield (place := f"{path}, line {number}"), _resource(place, line, kind)
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: cannot be read", found=type(error).__name__) from None


def _resource(place: str, line: str, kind: str) -> Resource:
    try:
        resource = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place}: not JSON", expected=f"one {kind} a line") from None
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        raise InputError(f"{place}: another resource", expected=kind)
    return resource


def _text(resource: Resource, key: str) -> str | None:
    value = resource.get(key)
    return value if isinstance(value, str) else None


def _subject(resource: Resource) -> str:
    """The patient's number in a reference such as Patient/17."""
    subject = resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    kind, _, number = str(reference).rpartition("Patient/")
    return number if not kind or kind.endswith("/") else ""


def _codings(concept: object) -> Iterator[tuple[str, str]]:
    """System and code of each coding of a CodeableConcept."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict):
            yield str(coding.get("system", "")), str(coding.get("code", ""))


def _first(wanted: Mapping[tuple[str, str], str], concept: object) -> str | None:
    return next((wanted[code] for code in _codings(concept) if code in wanted), None)


def _quantity(resource: Resource, wanted: Coded) -> float | None:
    """The value, if it is final and in the unit that the configuration names."""
    quantity = resource.get("valueQuantity")
    if not isinstance(quantity, dict) or resource.get("status") in {
        "entered-in-error",
        "cancelled",
    }:
        return None
    value = quantity.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if quantity.get("code", quantity.get("unit")) == wanted.unit else None


def _is_withdrawn(resource: Resource) -> bool:
    codes = {code for _, code in _codings(resource.get("verificationStatus"))}
    return bool(codes & {"entered-in-error", "refuted"})


def _years(born: str | None, at: str) -> float | None:
    """Completed years between two days; a birth date without month or day counts from its start.

    >>> _years("1980-11-22", "2026-11-21"), _years("1980", "2026-11-21"), _years(None, "2026-11-21")
    (45, 46, None)
    """
    if born is None or not born[:4].isdigit():
        return None
    return int(at[:4]) - int(born[:4]) - (born[4:] > at[4:])
