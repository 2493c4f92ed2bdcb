"""Queries over an OMOP common data model: one record for each visit, documented in docs/data.md.

Source: OHDSI, OMOP Common Data Model v5.4, tables person, visit_occurrence, measurement,
condition_occurrence and concept_ancestor.
"""

from __future__ import annotations

from client.data.config import OmopConfig
from protocol.errors import InputError

FEMALE, MALE = 8532, 8507

VISIT = """
SELECT v.visit_occurrence_id AS visit, v.person_id AS patient,
       CAST(v.visit_start_date AS text) AS admitted,
       EXTRACT(YEAR FROM v.visit_start_date)::integer - p.year_of_birth AS age,
       CASE p.gender_concept_id WHEN {female} THEN 'f' WHEN {male} THEN 'm' END AS sex{columns}
FROM {cdm}.visit_occurrence v JOIN {cdm}.person p ON p.person_id = v.person_id
WHERE v.visit_concept_id = ANY(:visits)
ORDER BY v.visit_occurrence_id
"""

# The first value in the named unit from the visit's beginning to the window's end.
MEASUREMENT = """
(SELECT CAST(m.value_as_number AS double precision) FROM {cdm}.measurement m
 WHERE m.person_id = v.person_id AND m.measurement_concept_id = :{name}_concept
   AND m.unit_concept_id = :{name}_unit AND m.value_as_number IS NOT NULL
   AND m.measurement_datetime >= v.visit_start_datetime
   AND m.measurement_datetime < v.visit_start_datetime + CAST(:window AS interval)
 ORDER BY m.measurement_datetime, m.measurement_id LIMIT 1) AS "{name}"
"""

# Whether one of the concepts, or what the vocabulary puts under them, begins during the visit.
CONDITION = """
CASE WHEN EXISTS (
 SELECT 1 FROM {cdm}.condition_occurrence c
 JOIN {cdm}.concept_ancestor a ON a.descendant_concept_id = c.condition_concept_id
 WHERE c.person_id = v.person_id AND a.ancestor_concept_id = ANY(:{name}_concepts)
   AND c.condition_start_date BETWEEN v.visit_start_date AND v.visit_end_date
) THEN 'yes' ELSE 'no' END AS "{name}"
"""


def visits(config: OmopConfig) -> tuple[str, dict[str, object]]:
    """The query of a configuration, and the values of its parameters.

    Names of columns were checked when the configuration was read; concepts are bound.

    Raises:
        InputError: The database is not PostgreSQL.
    """
    if not config.database.url.startswith("postgresql"):
        raise InputError("OMOP is read from PostgreSQL", remedy="use kind sql for other databases")
    cdm = f'"{config.cdm_schema}"'
    columns = [MEASUREMENT.format(cdm=cdm, name=name) for name in config.measurements]
    columns += [CONDITION.format(cdm=cdm, name=name) for name in config.conditions]
    query = VISIT.format(
        cdm=cdm, female=FEMALE, male=MALE, columns="".join(f", {column}" for column in columns)
    )
    return query, _parameters(config)


def _parameters(config: OmopConfig) -> dict[str, object]:
    parameters: dict[str, object] = {"visits": list(config.visits)}
    if config.measurements:
        parameters["window"] = f"{config.window_hours} hours"
    for name, measured in config.measurements.items():
        parameters |= {f"{name}_concept": measured.concept, f"{name}_unit": measured.unit}
    for name, concepts in config.conditions.items():
        parameters[f"{name}_concepts"] = list(concepts)
    return parameters
