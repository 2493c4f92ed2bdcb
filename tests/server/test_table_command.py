"""A statistics job that has ended: its table at the coordinator, and jobs that are scaled by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

import fedward
from learning.pooled_statistics import Statistics
from learning.schema import Schema
from learning.tables import table_one
from protocol.config import parse
from protocol.errors import FedwardError, InputError
from server.archive import Archive
from server.config import Folder
from server.job_folder import JobFolder
from server.jobs import Origin, resolve
from server.launch import Event, Outcome
from server.released import noise_of, released, statistics_of
from server.requests import JobRequest, ScalingRequest, read_request
from server.scaling import scaled
from server.table_picture import draw
from tests.server.premises import CONFIGS, HOSPITALS, found

PATIENTS = 4000


@pytest.fixture(scope="module")
def request_() -> JobRequest:
    return read_request(CONFIGS / "jobs" / "statistics.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return found(tmp_path_factory.mktemp("coordinator"))


def origin(folder: Folder) -> Origin:
    key = folder.load_key()
    roster = folder.load_roster(key.fingerprint).digest
    return Origin(coordinator=key.fingerprint, roster=roster, now=datetime.now(UTC))


def sums_of(task: Statistics) -> bytes:
    """What hospitals with `PATIENTS` invented patients would hand over."""
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {
        "age": np.clip(rng.normal(54, 10, PATIENTS), 20, 90),
        "tumour_size": np.clip(rng.normal(29, 14, PATIENTS), 0, 120),
        "nodes": np.full(PATIENTS, 2.0),
        "grade": rng.choice(["I", "II", "III"], PATIENTS).tolist(),
        "hormones": [None] * 3 + (rng.random(PATIENTS - 3) < 0.4).astype(int).tolist(),
        "postmenopausal": ["yes"] * PATIENTS,
        "relapsed": rng.choice(["no", "yes"], PATIENTS).tolist(),
        "days": np.minimum(rng.exponential(1500, PATIENTS), 2700).tolist(),
    }
    records, _ = task.records(table)
    counts = task.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
    return counts.astype("<f8").tobytes()


def launch(folder: Folder, request: JobRequest) -> JobFolder:
    job, key = resolve(request, origin(folder)), folder.load_key()
    return Archive(folder.jobs).create(job, key.sign("job", job.to_bytes()))


def end(kept: JobFolder, *, status: str = "completed", model: bytes | None) -> None:
    kept.append(Event(kind="round", round=1, sites=HOSPITALS))
    kept.save_outcome(
        Outcome(
            status=status,
            reason="",
            refusals={},
            events=kept.events(),
            metrics={},
            weights_tag="",
            model=model,
        )
    )


@pytest.fixture(scope="module")
def finished(folder: Folder, request_: JobRequest) -> JobFolder:
    kept = launch(folder, request_)
    end(kept, model=sums_of(statistics_of(kept.job)))
    return kept


def ask(folder: Folder, *words: str) -> Result:
    words = ("server", "table", *words, "--server", str(folder.file))
    return CliRunner().invoke(fedward.app, list(words), env={"COLUMNS": "80"})


def test_the_table_is_shown_with_what_the_noise_may_have_done(
    folder: Folder, finished: JobFolder
) -> None:
    done = ask(folder, "breast-table")
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    noise = noise_of(finished.job, 3)
    first = next(line for line in lines if line.startswith("all"))
    assert first.split() == ["all", "4000", f"{1.96 * noise:.0f}"]
    age = next(line.split() for line in lines if line.startswith("age"))
    assert age[:4] == ["age", "mean,", "years", "53.85"]
    assert 0 < float(age[4]) < 1
    assert any("fewer than 10" in line and "missing" in line for line in lines)
    assert any("50% are below, mm" in line for line in lines)
    assert "Survival (Kaplan-Meier)" in done.stdout
    assert next(line for line in lines if line.strip().startswith("365")).count("±") == 3


def test_as_json_it_comes_with_what_it_cost(folder: Folder, finished: JobFolder) -> None:
    document = json.loads(ask(folder, "breast-table", "--json").stdout)
    assert (document["job"], document["digest"]) == ("breast-table", finished.digest)
    assert (document["mode"], document["epsilon"], document["delta"]) == ("distributed", 1.0, 1e-5)
    assert document["epsilon_worst"] == finished.job.privacy.epsilon_worst
    assert document["patients"]["value"] == PATIENTS
    assert [column["name"] for column in document["columns"]][-1] == "postmenopausal"
    assert [curve["group"] for curve in document["curves"]] == ["all", "no", "yes"]
    assert document["noise"] == noise_of(finished.job, 3)


def test_a_picture_is_drawn(folder: Folder, finished: JobFolder, tmp_path: Path) -> None:
    path = tmp_path / "table.png"
    words = ("--picture", str(path), "--against", "breast-table")
    done = ask(folder, finished.path.name, *words)
    assert done.exit_code == 0, done.exception
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_table_without_any_bins_has_a_picture_that_says_so() -> None:
    schema = {
        "columns": [{"name": "age", "kind": "number", "low": 0, "high": 120}],
        "label": {"name": "beds", "low": 0, "high": 40},
    }
    task = Statistics.from_options({"bins": 0}, parse(Schema, schema, "schema"))
    found = table_one(task, task.initial(0), 1.0)
    for against in (None, ("it", found)):
        figure = draw(found, "beds", against=against)
        assert figure.axes == []
        assert "counted in no bins" in figure.get_suptitle()


def test_a_picture_has_no_bar_of_too_few_and_says_so() -> None:
    schema = {
        "columns": [{"name": "age", "kind": "number", "low": 0, "high": 120}],
        "label": {"name": "ill", "classes": ["no", "yes"]},
    }
    task = Statistics.from_options({"bins": 4}, parse(Schema, schema, "schema"))
    ages, ills = [10.0] * 9 + [50.0] * 31, ["yes"] * 9 + ["no"] * 31
    records, _ = task.records({"age": ages, "ill": ills})
    counts_P = task.evaluation.counts(records.x_NF, records.y_N, records.patient_N)
    figure = draw(table_one(task, counts_P, 0.0), "few")
    bars = [[bar.get_height() for bar in axes.containers[0]] for axes in figure.axes]
    assert bars == [[0, 31, 0, 0], [31, 0]]
    assert "bars: released counts from 10 on" in figure.get_suptitle()


def test_what_is_hidden_is_said_and_curves_end_each_where_they_must(
    folder: Folder, request_: JobRequest
) -> None:
    task = replace(request_.task, options={**request_.task.options, "fewer_than": 500})
    kept = launch(folder, replace(request_, name="few", task=task))
    end(kept, model=sums_of(statistics_of(kept.job)))
    lines = ask(folder, "few").stdout.splitlines()
    assert sum("fewer than 500" in line for line in lines) > 5
    # Fewer take hormones, so that curve ends first and leaves its column empty.
    counts = [line.count("±") for line in lines if line.strip()[:4] in {"365 ", "1825", "2190"}]
    assert counts[0] == 3
    assert min(counts) < 3
    most = replace(request_.task, options={**request_.task.options, "fewer_than": 4200})
    kept = launch(folder, replace(request_, name="fewer", task=most))
    end(kept, model=sums_of(statistics_of(kept.job)))
    hidden = ask(folder, "fewer").stdout
    assert "with a value" in hidden
    assert "mean, years" not in hidden


def test_fewer_hospitals_in_the_sum_leave_more_noise(finished: JobFolder) -> None:
    four = replace(finished.job, sites=(*finished.job.sites, finished.job.sites[0]))
    assert noise_of(four, 3) > noise_of(four, 4)


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        (None, "completed", "stayed in the hospitals; expected publication.model: true"),
        (b"", "failed", "has no table; expected one that was completed; found failed"),
    ],
)
def test_without_a_released_table_there_is_none(
    folder: Folder, request_: JobRequest, model: bytes | None, status: str, message: str
) -> None:
    kept = launch(folder, replace(request_, name=f"other-{status}"))
    with pytest.raises(InputError, match="under way"):
        released(kept)
    end(kept, status=status, model=model)
    with pytest.raises(InputError, match=message):
        released(kept)


class TestScaling:
    def job(self, **changes: Any) -> JobRequest:
        """A diagnosis of relapse from the same columns."""
        base = read_request(CONFIGS / "jobs" / "statistics.yaml")
        schema = {**base.schema, "targets": []}
        return replace(
            base,
            name="relapse",
            task=replace(base.task, name="diagnosis", options={}),
            schema={**schema, **changes},
            scaling=ScalingRequest(statistics="breast-table"),
        )

    def test_means_and_deviations_become_part_of_the_jobs_text(
        self, folder: Folder, finished: JobFolder
    ) -> None:
        request = scaled(self.job(), Archive(folder.jobs))
        assert request.scaling is None
        job = resolve(request, origin(folder))
        schema = parse(Schema, job.schema, "schema")
        numbers = released(finished).numbers
        age = schema.columns[0]
        assert age.name == "age"
        assert numbers["age"].mean is not None
        assert numbers["age"].sd is not None
        assert (age.middle, age.width) == (numbers["age"].mean.value, numbers["age"].sd.value)
        assert schema.scaled_by == finished.digest
        # Patients who are all alike leave nothing beside the noise: the guess stays.
        assert schema.columns[2].width == 36 / 4
        # Epsilon is the new job's own: what was released before costs nothing again.
        unscaled = resolve(replace(self.job(), scaling=None), origin(folder))
        assert job.privacy == unscaled.privacy

    def test_a_job_without_scaling_is_left_alone(
        self, folder: Folder, request_: JobRequest
    ) -> None:
        assert scaled(request_, Archive(folder.jobs)) is request_

    @pytest.mark.usefixtures("finished")
    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda age: {**age, "name": "weight"}, "scaling of 'weight'; .* found none"),
            (lambda age: {**age, "unit": "months"}, "in months, from 20 to 90; found years"),
            (lambda age: {**age, "high": 120}, "from 20 to 120; found years, from 20 to 90"),
        ],
    )
    def test_a_number_that_was_counted_otherwise_is_refused(
        self,
        folder: Folder,
        edit: Callable[[dict[str, Any]], dict[str, Any]],
        message: str,
    ) -> None:
        columns = list(self.job().schema["columns"])
        request = self.job(columns=[edit(columns[0]), *columns[1:]])
        with pytest.raises(InputError, match=message):
            scaled(request, Archive(folder.jobs))

    def test_a_number_of_which_too_few_were_counted_keeps_its_own_scale(
        self, folder: Folder, request_: JobRequest
    ) -> None:
        options = {**request_.task.options, "fewer_than": 2 * PATIENTS}
        task = replace(request_.task, options=options)
        kept = launch(folder, replace(request_, name="nobody-shown", task=task))
        end(kept, model=sums_of(statistics_of(kept.job)))
        asked = replace(self.job(), scaling=ScalingRequest(statistics="nobody-shown"))
        request = scaled(asked, Archive(folder.jobs))
        assert request.schema["columns"] == list(asked.schema["columns"])

    def test_a_table_without_noise_scales_no_private_job(
        self, folder: Folder, request_: JobRequest
    ) -> None:
        exact = replace(request_.privacy, mode="none", epsilon=None)
        kept = launch(folder, replace(request_, name="exact", privacy=exact))
        end(kept, model=sums_of(statistics_of(kept.job)))
        asked = replace(self.job(), scaling=ScalingRequest(statistics="exact"))
        with pytest.raises(InputError, match=r"'exact' bears no noise; expected a table of mode"):
            scaled(asked, Archive(folder.jobs))
        clear = scaled(replace(asked, privacy=exact), Archive(folder.jobs))
        assert clear.schema["scaled_by"] == kept.digest

    def test_another_kind_of_job_is_no_source(self, folder: Folder) -> None:
        launch(folder, replace(self.job(), name="model", scaling=None))
        asked = replace(self.job(), scaling=ScalingRequest(statistics="model"))
        with pytest.raises(InputError, match="expected task 'statistics'; found task 'diagnosis'"):
            scaled(asked, Archive(folder.jobs))

    def test_it_is_looked_up_where_jobs_are_kept_and_planned_anywhere(
        self, folder: Folder, finished: JobFolder, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="scaling by a statistics job"):
            resolve(self.job(), origin(folder))
        path = tmp_path / "job.yaml"
        text = (CONFIGS / "jobs" / "statistics.yaml").read_text(encoding="utf-8")
        document = {**yaml.safe_load(text), "name": "relapse", "task": {"name": "diagnosis"}}
        document |= {
            "scaling": {"statistics": finished.digest[:12]},
            "task": {"name": "diagnosis", "options": {}},
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        plan = CliRunner().invoke(fedward.app, ["server", "plan", str(path), "--json"])
        assert plan.exit_code == 0, plan.exception
        words = ["run", str(path), "--dry-run", "--json", "--server", str(folder.file)]
        done = CliRunner().invoke(fedward.app, words)
        assert done.exit_code == 0, done.exception
        assert json.loads(done.stdout)["parameters"] == json.loads(plan.stdout)["parameters"]

    def test_a_source_is_named_by_its_digest(self, folder: Folder) -> None:
        with pytest.raises(FedwardError, match="scaled_by; expected the 64 hexadecimal digits"):
            resolve(replace(self.job(scaled_by="x"), scaling=None), origin(folder))


class TestAgainst:
    """A table beside an earlier one."""

    def asked(self, folder: Folder, request: JobRequest, name: str, older: float) -> JobFolder:
        """Rows that hospitals were asked, of patients who are older by some years."""
        schema = {**request.schema, "label": {"name": "taken_as_given", "classes": ["no", "yes"]}}
        schema["columns"] = [*request.schema["columns"][:1], *request.schema["columns"][3:5]]
        task = replace(request.task, options={"bins": 12})
        kept = launch(folder, replace(request, name=name, task=task, schema=schema))
        task_ = statistics_of(kept.job)
        rng = np.random.default_rng(1)
        table: dict[str, Any] = {
            "age": np.clip(rng.normal(54 + older, 10, 3000), 20, 90),
            "grade": rng.choice(["I", "II", "III"], 3000).tolist(),
            "hormones": (rng.random(3000) < 0.4).astype(int).tolist(),
            "taken_as_given": ["yes"] * 3000,
            "days": [0] * 3000,
        }
        records, _ = task_.records(table)
        counts = task_.evaluation.counts(records.x_NF, np.asarray(records.y_N), records.patient_N)
        noised = counts + noise_of(kept.job, 3) * rng.normal(size=len(counts))
        end(kept, model=noised.astype("<f8").tobytes())
        return kept

    @pytest.mark.usefixtures("finished")
    def test_columns_that_differ_are_told_from_those_that_do_not(
        self, folder: Folder, request_: JobRequest
    ) -> None:
        kept = self.asked(folder, request_, "asked-older", 8.0)
        words = [kept.digest[:10], "--against", "breast-table"]
        done = ask(folder, *words)
        assert done.exit_code == 0, done.exception
        lines = done.stdout.splitlines()
        assert all(len(line.rstrip()) <= 80 for line in lines)
        told = {line.split()[0]: line for line in lines if line.strip()}
        assert told["age"].rstrip().endswith("sure")
        assert told["grade"].rstrip().endswith("not beyond chance")
        assert "taken_as_given" not in done.stdout
        document = json.loads(ask(folder, *words, "--json").stdout)
        assert document["against"]["job"] == "breast-table"
        age = document["stability"]["age"]
        assert 0.3 < age["low"] < age["index"] < age["high"] < 1.2
        assert age["sure"]
        assert not document["stability"]["hormones"]["sure"]

    def test_the_references_bins_are_drawn_over_the_bars(
        self, folder: Folder, request_: JobRequest, finished: JobFolder
    ) -> None:
        found, other = released(self.asked(folder, request_, "drawn", 8.0)), released(finished)
        plain, marked = (
            sum(len(axes.collections) for axes in draw(found, "drawn", against=one).axes)
            for one in (None, ("breast-table", other))
        )
        assert marked == plain + 3, "age, grade and hormones, not what the reference lacks"

    @pytest.mark.usefixtures("finished")
    def test_tables_that_were_counted_otherwise_are_not_compared(
        self, folder: Folder, request_: JobRequest
    ) -> None:
        task = replace(request_.task, options={**request_.task.options, "bins": 4})
        kept = launch(folder, replace(request_, name="coarse", task=task))
        end(kept, model=sums_of(statistics_of(kept.job)))
        done = ask(folder, "coarse", "--against", "breast-table")
        assert isinstance(done.exception, InputError)
        assert "from 20 to 90 in 12 bins; found" in str(done.exception)

    @pytest.mark.usefixtures("finished")
    def test_of_too_few_patients_nothing_is_told(
        self, folder: Folder, request_: JobRequest
    ) -> None:
        kept = launch(folder, replace(request_, name="nobody"))
        task = statistics_of(kept.job)
        end(kept, model=task.initial(0).astype("<f8").tobytes())
        done = ask(folder, "nobody", "--against", "breast-table")
        assert done.exit_code == 0, done.exception
        assert done.stdout.count("too few to tell") == 7
        document = json.loads(ask(folder, "nobody", "--against", "breast-table", "--json").stdout)
        assert set(document["stability"].values()) == {None}
