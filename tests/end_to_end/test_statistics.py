"""Three nodes count their patients together, and then train on features scaled by that table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from learning.artefact import load
from tests.end_to_end.federation import CONFIGS, DATASET, HOSPITALS, Federation, federation, shares

TABLE, MODEL = "tumour-table", "tumour-risk"
NUMBERS = 4
# At most what is spent here: a table of 400 patients that is clear enough to scale by.
POLICY = {
    "tasks": ["diagnosis", "statistics"],
    "publish_model": True,
    "epsilon_per_job": 50.0,
    "epsilon_worst_per_job": 1000.0,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three hospitals that let themselves be counted."""
    with federation(Federation(tmp_path_factory.mktemp("statistics"), policy=POLICY)) as made:
        yield made


def jobs(place: Federation) -> tuple[Path, Path]:
    """The statistics job and the one that is scaled by it, over the same columns."""
    text = (CONFIGS / "jobs" / f"{DATASET}.yaml").read_text("utf-8")
    # Without guesses of its own, so that every scale comes from the table.
    columns = [
        {key: value for key, value in column.items() if key not in ("centre", "spread")}
        for column in yaml.safe_load(text)["schema"]["columns"][:NUMBERS]
    ]
    table = place.job(
        TABLE,
        schema={"columns": columns},
        task={"name": "statistics", "options": {"bins": 8}},
        privacy={"epsilon": 40.0},
        training={"rounds": 1, "spare_attempts": 1},
        evaluation={"enabled": False},
        publication={"metrics": False, "model": True},
    )
    model = place.job(
        MODEL,
        schema={"columns": columns},
        training={"rounds": 2},
        evaluation={"enabled": False},
        scaling={"statistics": TABLE},
    )
    return table, model


def test_a_table_and_then_a_model_that_is_scaled_by_it(counting: Federation) -> None:
    place = counting
    table, model = jobs(place)
    assert place.complete(table)["status"] == "completed"
    # The coordinator reads the noised table, near to what all hospitals' records say.
    told = place.say("server", "table", TABLE, "--server", place.server / "server.yaml")
    assert told["epsilon"] == 40.0
    numbers = {column["name"]: column for column in told["columns"]}
    assert len(numbers) == NUMBERS
    for name, number in numbers.items():
        # Training patients only, so a quarter of these is missing from the table.
        true_N = np.concatenate([np.array(one[name], dtype=float) for one in shares().values()])
        assert abs(number["mean"]["value"] - true_N.mean()) < 0.5 * true_N.std()
        assert abs(number["sd"]["value"] / true_N.std() - 1) < 0.5
    assert place.complete(model)["status"] == "completed"
    digest = place.kept(TABLE).digest
    assert len(set(place.models(MODEL).values())) == 1
    for name in HOSPITALS:
        schema = load(place.folder / name / "models" / MODEL / "1").card.schema
        assert schema["scaled_by"] == digest
        for column in schema["columns"]:
            number = numbers[column["name"]]
            assert column["centre"] == number["mean"]["value"]
            assert column["spread"] == number["sd"]["value"]
    # Every ledger has charged both, one release for the table and one for each round.
    for report in place.ledgers().values():
        assert report["verified"]
        assert sorted(one["released"] for one in report["jobs"] if one["released"]) == [1, 2]
