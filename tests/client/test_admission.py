from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from client.admission import Admitted, Situation, admit, consider
from client.hours import Hours, Window
from client.policy import Approval, Budget, Policy, Population
from learning.diagnosis import Diagnosis
from privacy.plan import PrivacyRequest, check_plan
from protocol.errors import Code, RefusalError
from protocol.jobs import Job, Named, Publication
from server.requests import EncryptionRequest, JobRequest, TrainingRequest
from strategies.fedsgd import FedSgd
from tests.consortium import DATASET, EPOCH, make_job, make_request, schema

COLUMNS = ("age", "pulse", "lactate", "sepsis", "patient", "ward")
POPULATION = Population()
PUBLIC = Population(public=True, budget=Budget())
NOW = EPOCH + timedelta(hours=1)


LOCAL = PrivacyRequest(mode="local", epsilon=3.0)


def one_shot_request() -> JobRequest:
    return make_request(strategy=Named(name="one_shot", options={}), training=TrainingRequest())


REQUESTS: dict[str, Callable[[], JobRequest]] = {
    "distributed": make_request,
    "patients": lambda: make_request(patients=True),
    "local": lambda: make_request(mode="local", training=TrainingRequest(rounds=2, local_steps=5)),
    "unmasked": lambda: make_request(mode="local", encryption=EncryptionRequest(masks=False)),
    "none": lambda: make_request(mode="none"),
    "clear": lambda: make_request(mode="none", clear=True),
    "flower": lambda: make_request(
        mode="none", clear=True, strategy=Named(name="flwr:FedMedian", options={})
    ),
    "one shot": one_shot_request,
    "one shot at each": lambda: replace(one_shot_request(), privacy=LOCAL),
    "table": lambda: make_request(
        task=Named(name="statistics", options={}), training=TrainingRequest()
    ),
    "published": lambda: make_request(publication=Publication(metrics=True, model=True)),
    "sampled": lambda: make_request(privacy=PrivacyRequest(epsilon=3.0, sampling_rate=0.5)),
}


@cache
def job_of(kind: str) -> Job:
    return make_job(request=REQUESTS[kind]())


def changed(value: Any, path: str, new: Any) -> Any:
    """A nested frozen dataclass with one field replaced."""
    name, _, rest = path.partition(".")
    return replace(value, **{name: changed(getattr(value, name), rest, new) if rest else new})


USUAL: dict[str, Any] = {
    "name": "north",
    "roster": "d" * 64,
    "policy": Policy(),
    "population": POPULATION,
    "columns": COLUMNS,
    "now": NOW,
}


def decide(job: Job, **changes: Any) -> Admitted:
    return admit(job, Situation(**{**USUAL, **changes}))


def reasons(job: Job, **changes: Any) -> list[tuple[Code, str]]:
    """What `consider` finds; its first reason is what `admit` raises."""
    usual: dict[str, Any] = {**USUAL, **changes}
    answer = consider(job, Situation(**usual))
    found = [(reason.code, str(reason)) for reason in answer.reasons]
    if found:
        assert found[0] == (refused(job, **changes).code, str(refused(job, **changes)))
    else:
        assert answer.admitted == decide(job, **changes)
    return found


def refused(job: Job, **changes: Any) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        decide(job, **changes)
    return caught.value


class TestAccepted:
    def test_with_what_it_names(self) -> None:
        job = job_of("distributed")
        admitted = decide(job)
        assert admitted.job is job
        assert isinstance(admitted.task, Diagnosis)
        assert isinstance(admitted.strategy, FedSgd)

    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("patients", {}),
            ("local", {}),
            ("unmasked", {}),
            ("one shot", {}),
            ("one shot at each", {}),
            ("table", {"policy": Policy(tasks=("statistics",))}),
            ("sampled", {}),
            ("none", {"policy": Policy(modes=("none",))}),
            ("clear", {"policy": Policy(modes=("none",), clear_runs=True), "population": PUBLIC}),
            ("flower", {"policy": Policy(modes=("none",), clear_runs=True), "population": PUBLIC}),
            ("published", {"policy": Policy(publish_metrics=True, publish_model=True)}),
        ],
    )
    def test_every_kind_that_the_policy_allows(self, kind: str, changes: dict[str, Any]) -> None:
        assert decide(job_of(kind), **changes).job is job_of(kind)

    def test_until_its_last_second(self) -> None:
        job = job_of("distributed")
        end = datetime.fromisoformat(job.expires)
        assert decide(job, now=end - timedelta(seconds=1)).job is job
        assert refused(job, now=end).code == Code.EXPIRED

    def test_whatever_the_time_zone(self) -> None:
        job = changed(job_of("distributed"), "expires", "2026-11-20T10:30:00+01:00")
        assert decide(job, now=datetime(2026, 11, 20, 9, 29, tzinfo=UTC)).job is job
        assert refused(job, now=datetime(2026, 11, 20, 9, 30, tzinfo=UTC)).code == Code.EXPIRED


class TestOrigin:
    @pytest.mark.parametrize(
        ("path", "value", "code", "message"),
        [
            ("version", 2, Code.VERSION, "job version; expected 1; found 2"),
            ("roster", "e" * 64, Code.ROSTER, "another roster.*pin the newer one"),
            ("expires", "2026-11-20T08:59:59+00:00", Code.EXPIRED, "the job has expired"),
            ("expires", "2026-11-20T20:00:00", Code.EXPIRED, "RFC 3339 time with a zone"),
            ("expires", "never", Code.EXPIRED, "RFC 3339 time with a zone"),
        ],
    )
    def test_refused(self, path: str, value: object, code: Code, message: str) -> None:
        with pytest.raises(RefusalError, match=message) as caught:
            decide(changed(job_of("distributed"), path, value))
        assert caught.value.code == code

    def test_another_coordinators_job(self) -> None:
        job = job_of("distributed")
        assert decide(job, coordinator=job.coordinator)
        error = refused(job, coordinator="f" * 64)
        assert (error.code, error.expected) == (Code.SIGNATURE, "f" * 64)

    def test_a_hospital_that_the_coordinator_invented(self) -> None:
        """It may be on the roster; what counts is that it was confirmed here."""
        job = job_of("distributed")
        assert decide(job, members={"north", "south", "east", "west"})
        error = refused(job, members={"north", "south"})
        assert error.code == Code.ROSTER
        assert error.problem.endswith("not confirmed here: east")
        assert "fedward client trust" in str(error)

    def test_a_hospital_that_is_not_asked(self) -> None:
        error = refused(job_of("distributed"), name="west")
        assert (error.code, str(error)) == (Code.ROSTER, "the job does not ask west to take part")

    def test_a_data_set_that_is_not_here(self) -> None:
        error = refused(job_of("distributed"), population=None)
        assert error.code == Code.SCHEMA
        assert f"no data set named '{DATASET}'" in str(error)


class TestPolicy:
    @pytest.mark.parametrize(
        ("kind", "policy", "message"),
        [
            ("distributed", {"tasks": ("survival",)}, "task 'diagnosis' is not allowed"),
            ("distributed", {"strategies": ("fedavg",)}, "strategy 'fedsgd' is not allowed"),
            ("distributed", {"modes": ("local",)}, "mode 'distributed' is not allowed"),
            ("local", {"modes": ("distributed",)}, "mode 'local' is not allowed"),
            ("none", {}, "mode 'none' is not allowed"),
            ("clear", {"modes": ("none",)}, "unencrypted runs need a policy"),
            ("distributed", {"min_cohort": 4}, "min_sites 3 is too small"),
            ("distributed", {"min_colluding_sites": 2}, "colluding_sites 1 is too small"),
            ("distributed", {"epsilon_per_job": 2.9}, "epsilon 3 passes the cap per job 2.9"),
            (
                "distributed",
                {"epsilon_worst_per_job": 3.0},
                r"worst-case .* cap per job 3",
            ),
            ("local", {"epsilon_per_job": 2.9}, "epsilon 3 passes the cap per job 2.9"),
            ("distributed", {"delta": 1e-6}, "delta 1e-05 is too large"),
            ("distributed", {"max_rounds": 1}, "2 rounds are too many"),
            ("published", {"publish_model": True}, "pooled metrics stay here"),
            ("published", {"publish_metrics": True}, "the model stays here"),
            ("distributed", {"max_parameters": 3}, "model size; expected <= 3 parameters; found 4"),
        ],
    )
    def test_refused(self, kind: str, policy: dict[str, Any], message: str) -> None:
        with pytest.raises(RefusalError, match=message) as caught:
            decide(job_of(kind), policy=Policy(**policy))
        assert caught.value.code == Code.POLICY

    def test_a_table_of_small_cells_is_refused_by_a_code_of_its_own(self) -> None:
        with pytest.raises(RefusalError, match="fewer_than of at least 11; found 10") as caught:
            decide(job_of("table"), policy=Policy(tasks=("statistics",), min_cell=11))
        assert caught.value.code == Code.CELLS
        found = reasons(job_of("table"), policy=Policy(tasks=("statistics",), min_cell=11))
        assert [code for code, _ in found] == [Code.CELLS]
        for least in (1, 10):
            decide(job_of("table"), policy=Policy(tasks=("statistics",), min_cell=least))

    @pytest.mark.parametrize(
        ("approval", "message"),
        [
            ({"tasks": ("survival",)}, "task 'diagnosis' is not allowed on data set 'sepsis'"),
            ({"coordinators": ("e" * 64,)}, f"coordinator {'c' * 64} is not allowed on data set"),
            ({"epsilon_per_job": 2.0}, "epsilon 3 passes the cap 2 of data set 'sepsis'"),
            ({"epsilon_worst_per_job": 2.0}, "worst-case epsilon .* the cap 2 of data set"),
        ],
    )
    def test_a_data_set_has_rules_of_its_own(self, approval: dict[str, Any], message: str) -> None:
        job = job_of("distributed")
        other = Policy(datasets={"trial": Approval(**approval)})
        assert decide(job, policy=other)
        with pytest.raises(RefusalError, match=message) as caught:
            decide(job, policy=Policy(datasets={DATASET: Approval(**approval)}))
        assert caught.value.code == Code.POLICY

    def test_what_a_data_set_allows_is_not_more_than_the_policy_does(self) -> None:
        approval = Approval(tasks=("diagnosis",), coordinators=("c" * 64,), epsilon_per_job=3.0)
        policy = Policy(datasets={DATASET: approval}, coordinators=("c" * 64,))
        assert decide(job_of("distributed"), policy=policy)
        error = refused(job_of("distributed"), policy=changed(policy, "tasks", ()))
        assert error.problem == "task 'diagnosis' is not allowed"

    def test_other_coordinators_may_be_left_out(self) -> None:
        assert decide(job_of("distributed"), policy=Policy(coordinators=("c" * 64,)))
        error = refused(job_of("distributed"), policy=Policy(coordinators=("e" * 64,)))
        assert (error.code, error.problem) == (
            Code.POLICY,
            f"coordinator {'c' * 64} is not allowed",
        )

    def test_masks_where_a_policy_wants_them(self) -> None:
        policy = Policy(require_masks=True)
        assert decide(job_of("local"), policy=policy)
        error = refused(job_of("unmasked"), policy=policy)
        assert (error.code, error.problem) == (Code.POLICY, "masks must be on by this policy")

    def test_hours_are_those_in_which_a_job_begins(self) -> None:
        nights = Hours(windows=(Window(days=("fri",), begin="18:00", end="06:00"),))
        friday = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
        job = changed(job_of("distributed"), "expires", "2026-12-20T10:30:00+01:00")
        policy = Policy(hours=nights)
        assert decide(job, policy=policy, now=friday)
        assert decide(job, policy=policy, now=friday + timedelta(hours=11, minutes=59))
        error = refused(job, policy=policy, now=friday - timedelta(minutes=1))
        assert (error.code, error.expected) == (Code.POLICY, "fri 18:00-06:00 (UTC)")
        assert error.remedy == "ask again at 2026-11-20T18:00:00+00:00"
        assert refused(job, policy=policy, now=friday + timedelta(hours=12)).code == Code.POLICY
        assert decide(job, policy=policy, now=None)  # it has begun here before
        never = refused(job, policy=Policy(hours=Hours(windows=())), now=friday)
        assert never.remedy == "no hour is ever open"

    def test_exactly_at_every_cap_is_allowed(self) -> None:
        privacy = job_of("distributed").privacy
        policy = Policy(
            epsilon_per_job=privacy.epsilon,
            epsilon_worst_per_job=privacy.epsilon_worst,
            delta=privacy.delta,
            max_rounds=2,
            max_parameters=4,
        )
        assert decide(job_of("distributed"), policy=policy)

    def test_clear_runs_need_public_data_as_well(self) -> None:
        policy = Policy(modes=("none",), clear_runs=True)
        assert decide(job_of("clear"), policy=policy, population=PUBLIC)
        assert refused(job_of("clear"), policy=policy).code == Code.POLICY

    def test_flowers_strategies_run_in_clear_alone(self) -> None:
        job = changed(job_of("none"), "strategy", Named(name="flwr:FedMedian", options={}))
        error = refused(job, policy=Policy(modes=("none",), clear_runs=True), population=PUBLIC)
        assert error.problem == "strategy 'flwr:FedMedian' is not allowed"

    def test_held_out_patients_are_capped_like_the_others(self) -> None:
        request = make_request(privacy=PrivacyRequest(epsilon=1.0, evaluation_epsilon=4.0))
        error = refused(make_job(request=request), policy=Policy(epsilon_worst_per_job=100.0))
        assert error.problem == "epsilon 4 passes the cap per job 3"

    @pytest.mark.parametrize("kind", ["distributed", "none"])
    def test_masks_are_needed(self, kind: str) -> None:
        policy = Policy(modes=("distributed", "none"))
        error = refused(changed(job_of(kind), "encryption.masks", False), policy=policy)
        assert (error.code, error.problem) == (Code.POLICY, "masks must be on in this mode")


class TestDeclarations:
    """What the hospital says of its own data set, besides the records."""

    @pytest.mark.parametrize("name", ["train_size", "test_size"])
    def test_sizes(self, name: str) -> None:
        job = job_of("distributed")
        stated = getattr(job.site("north"), name)
        assert decide(job, **{name: stated})
        error = refused(job, **{name: stated + 10})
        assert (error.code, error.problem) == (Code.POLICY, f"declared {name}")
        assert (error.expected, error.found) == (str(stated + 10), str(stated))

    def test_patients_are_protected_and_not_records(self) -> None:
        assert decide(job_of("patients"), patient="patient")
        error = refused(job_of("distributed"), patient="patient")
        assert (error.code, error.expected) == (
            Code.POLICY,
            "a schema whose patient column is 'patient'",
        )


class TestEveryReason:
    """A dry run gets all of them, in the order of the wire."""

    def test_none_where_the_job_may_run(self) -> None:
        assert reasons(job_of("distributed")) == []

    def test_from_all_stages_at_once(self) -> None:
        job = changed(job_of("distributed"), "roster", "e" * 64)
        job = changed(job, "privacy.epsilon", 0.5)
        job = changed(job, "encryption.library", "SEAL 9")
        found = reasons(
            job,
            name="west",
            policy=Policy(tasks=(), max_rounds=1),
            columns=("age",),
            patient="patient",
            now=NOW + timedelta(days=9),
        )
        codes = [code for code, _ in found]
        assert codes[:3] == [Code.ROSTER, Code.ROSTER, Code.EXPIRED]
        assert codes[3:6] == [Code.POLICY, Code.POLICY, Code.SCHEMA]
        assert codes[6:] == [Code.POLICY, Code.VERSION, Code.POLICY]

    def test_no_model_is_built_that_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise AssertionError("built")

        monkeypatch.setattr(Diagnosis, "initial", fail)
        found = reasons(job_of("distributed"), policy=Policy(max_parameters=3))
        assert found == [(Code.POLICY, "model size; expected <= 3 parameters; found 4")]

    def test_where_there_is_no_such_data_set(self) -> None:
        found = reasons(job_of("distributed"), population=None, columns=())
        assert [code for code, _ in found] == [Code.SCHEMA]

    def test_where_the_source_cannot_be_read(self) -> None:
        found = reasons(job_of("distributed"), columns=(), unreadable="data.csv: cannot be read")
        assert found == [(Code.SCHEMA, "data.csv: cannot be read")]

    def test_where_the_source_went_away_asking_later_helps(self) -> None:
        found = reasons(job_of("distributed"), columns=(), unreadable="no connection", away=True)
        assert found == [(Code.BUSY, "no connection")]


class TestColumnsAndTask:
    def test_columns_that_the_source_lacks_are_all_named(self) -> None:
        error = refused(job_of("patients"), columns=("age", "sepsis"))
        assert (error.code, error.problem) == (
            Code.SCHEMA,
            "the source lacks lactate, patient, pulse",
        )

    def test_a_schema_that_cannot_be_read(self) -> None:
        job = changed(job_of("distributed"), "schema", {**schema(), "columns": []})
        error = refused(job)
        assert error.code == Code.SCHEMA
        assert "job.schema: too few columns" in str(error)

    def test_the_unit_of_privacy_is_the_schemas(self) -> None:
        job = changed(job_of("patients"), "privacy.unit", "record")
        error = refused(job)
        assert (error.code, error.expected, error.found) == (Code.POLICY, "patient", "record")

    @pytest.mark.parametrize(
        ("path", "named", "message"),
        [
            ("task", Named(name="oracle", options={}), "no task 'oracle' is installed"),
            ("task", Named(name="diagnosis", options={"model": "tree"}), "model"),
            ("strategy", Named(name="magic", options={}), "no strategy named 'magic'"),
            ("strategy", Named(name="fedsgd", options={"speed": 9}), "speed"),
        ],
    )
    def test_what_is_not_installed_or_misused(self, path: str, named: Named, message: str) -> None:
        policy = Policy(tasks=("diagnosis", "oracle"), strategies=("fedsgd", "magic"))
        error = refused(changed(job_of("distributed"), path, named), policy=policy)
        assert error.code == Code.TASK
        assert message in str(error)

    @pytest.mark.parametrize("path", ["layout", "initial_weights"])
    def test_another_release_of_the_code(self, path: str) -> None:
        error = refused(changed(job_of("distributed"), path, "0" * 64))
        assert (error.code, error.remedy) == (
            Code.VERSION,
            "install the same release of fedward as the coordinator",
        )


class TestNumbers:
    """The numbers that bound what leaves; each case would release more than is charged."""

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("privacy.epsilon", 0.5),
            ("privacy.epsilon_worst", 3.0),
            ("privacy.epsilon_evaluation", 0.5),
            ("privacy.update.noise_multiplier", 0.5),
            ("privacy.update.sensitivity", 1.0),
            ("privacy.update.beta", 0.1),
            ("privacy.update.steps", 1000),
        ],
    )
    def test_what_does_not_support_the_stated_epsilon(self, path: str, value: float) -> None:
        error = refused(changed(job_of("distributed"), path, value))
        assert error.code == Code.POLICY
        assert "privacy." in str(error)

    @pytest.mark.parametrize(
        ("kind", "path", "value", "message"),
        [
            ("distributed", "privacy.update.steps", 1, "update.steps; expected 2; found 1"),
            ("distributed", "privacy.update.spare", 0, "update.spare; expected 2; found 0"),
            ("distributed", "privacy.update.length", 3, "update.length; expected 4; found 3"),
            ("distributed", "training.rounds", 3, "update.steps; expected 3; found 2"),
            ("distributed", "training.spare_attempts", 9, "update.spare; expected 9; found 2"),
            ("distributed", "training.rounds", 0, "training.rounds; expected >= 1; found 0"),
            ("distributed", "training.spare_attempts", -1, "spare_attempts; expected >= 0"),
            ("local", "training.local_steps", 0, "training.local_steps; expected >= 1; found 0"),
            ("local", "training.local_steps", 50, "update.repeats; expected 50; found 5"),
            ("local", "privacy.update.repeats", 1, "update.repeats; expected 5; found 1"),
            ("one shot", "training.local_steps", 2, "local_steps of a statistics; expected 1"),
            ("one shot", "privacy.update.clip", 1.0, r"update.clip; expected at least 4\.47"),
            ("one shot", "privacy.update.sampling_rate", 0.1, "of statistics; expected 1; found 0"),
            ("distributed", "privacy.evaluation.clip", 0.1, r"clip; expected at least 2\.23"),
            ("distributed", "privacy.evaluation.length", 9, "evaluation.length; expected 124"),
        ],
    )
    def test_what_the_stated_epsilon_is_not_about(
        self, kind: str, path: str, value: float, message: str
    ) -> None:
        job = changed(job_of(kind), path, value)
        check_plan(job.privacy, job.sites)  # nothing wrong with the numbers by themselves
        with pytest.raises(RefusalError, match=message) as caught:
            decide(job)
        assert caught.value.code == Code.POLICY

    def test_one_noised_sum_is_behind_every_count(self) -> None:
        request = make_request(privacy=PrivacyRequest(epsilon=1.0, evaluation_epsilon=0.9))
        job = changed(make_job(request=request), "privacy.epsilon_evaluation", 3.0)
        job = changed(job, "privacy.epsilon_evaluation_worst", 9.0)
        error = refused(changed(job, "privacy.evaluation.repeats", 2))
        assert (error.problem, error.found) == ("evaluation.repeats", "2")

    @pytest.mark.parametrize(
        ("kind", "strategy", "expected"),
        [
            ("distributed", "fedavg", "gradient or statistics"),
            ("none", "fedsgd", "update or statistics"),
            ("unmasked", "fedsgd", "update or statistics"),
        ],
    )
    def test_what_is_released_fits_where_the_noise_is(
        self, kind: str, strategy: str, expected: str
    ) -> None:
        job = changed(job_of(kind), "strategy", Named(name=strategy, options={}))
        error = refused(job, policy=Policy(modes=(job.privacy.mode,)))
        assert (error.code, error.expected) == (Code.POLICY, expected)

    def test_private_modes_are_encrypted(self) -> None:
        job = changed(job_of("distributed"), "encryption.scheme", "none")
        error = refused(job, policy=Policy(clear_runs=True), population=PUBLIC)
        assert (error.code, error.problem) == (Code.POLICY, "privacy without encryption")


class TestEncryption:
    def test_another_library(self) -> None:
        error = refused(changed(job_of("distributed"), "encryption.library", "SEAL 9"))
        assert (error.code, error.expected) == (Code.VERSION, "SEAL 9")

    @pytest.mark.parametrize("purpose", ["update", "evaluation"])
    def test_parameters_are_there_for_every_release(self, purpose: str) -> None:
        error = refused(changed(job_of("distributed"), f"encryption.{purpose}", None))
        assert (error.code, error.problem) == (Code.POLICY, "encryption parameters")

    def test_parameters_without_a_release(self) -> None:
        job = changed(job_of("distributed"), "privacy.evaluation", None)
        job = changed(job, "privacy.epsilon_evaluation", 0.0)
        job = changed(job, "privacy.epsilon_evaluation_worst", 0.0)
        assert refused(job).problem == "encryption parameters"

    @pytest.mark.parametrize("purpose", ["update", "evaluation"])
    def test_unsafe_parameters(self, purpose: str) -> None:
        modulus = (1 << 58) - 1
        error = refused(changed(job_of("distributed"), f"encryption.{purpose}.modulus", modulus))
        assert error.code == Code.POLICY
        assert "prime modulus" in str(error)

    @pytest.mark.parametrize("purpose", ["update", "evaluation"])
    def test_room_for_no_more_hospitals_than_the_job_asks(self, purpose: str) -> None:
        job = job_of("distributed")
        larger = make_job(request=make_request(hospitals=4))
        packing = getattr(larger.encryption, purpose)
        error = refused(changed(job, f"encryption.{purpose}", packing))
        assert (error.code, error.found) == (Code.POLICY, "4")

    @pytest.mark.parametrize("kind", ["local", "none"])
    @pytest.mark.parametrize(
        ("path", "value"), [("digit_bits", 1), ("digit_bits", 64), ("digit_bound", 0.0)]
    )
    def test_digits_that_hold_nothing(self, kind: str, path: str, value: float) -> None:
        job = changed(job_of(kind), f"encryption.{path}", value)
        assert refused(job, policy=Policy(modes=("local", "none"))).code == Code.POLICY


def test_one_shot_of_another_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of("one shot")
    monkeypatch.setattr(Diagnosis, "is_logistic", False)

    error = refused(job)

    assert error.code is Code.POLICY
    assert "expected a model that is one linear score of two classes" in str(error)


def test_a_table_is_bounded_by_what_is_counted() -> None:
    job = changed(job_of("table"), "privacy.update.clip", 1.0)
    error = refused(job, policy=Policy(tasks=("statistics",)))
    assert (error.code, error.expected) == (Code.POLICY, f"at least {2.9580398915498085}")
