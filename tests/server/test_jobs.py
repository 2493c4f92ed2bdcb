from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.task import load_task
from privacy.accounting import SLACK, Event, epsilon, gaussian_mu
from privacy.he.parameters import SEAL_LIBRARY, check_packing
from privacy.plan import DpPlan, PrivacyRequest, check_plan
from protocol.errors import InputError
from protocol.jobs import Job, Mode, Named, Site
from protocol.tensors import weights_digest
from server.requests import EncryptionRequest, EvaluationRequest, TrainingRequest, read_request
from strategies.base import strategy_of
from tests.consortium import EPOCH, make_job, make_request, schema


def job_of(**changes: Any) -> Job:
    return make_job(request=make_request(**changes))


def sites(*sizes: int) -> tuple[Site, ...]:
    return tuple(
        Site(name=f"site-{index}", train_size=size, test_size=size // 4)
        for index, size in enumerate(sizes)
    )


class TestWhatAJobSays:
    def test_who_when_and_for_whom(self) -> None:
        job = job_of(valid_hours=5)
        assert (job.coordinator, job.roster) == ("c" * 64, "d" * 64)
        assert datetime.fromisoformat(job.created) == EPOCH
        assert datetime.fromisoformat(job.expires) == EPOCH + timedelta(hours=5)

    def test_two_launches_of_one_request_are_two_jobs(self) -> None:
        first, second = job_of(), job_of()
        assert len(first.nonce) == 32
        assert first.digest != second.digest
        assert replace(first, nonce=second.nonce) == second

    def test_it_survives_its_bytes(self) -> None:
        job = job_of(schema=schema())
        assert Job.from_bytes(job.to_bytes()) == job

    def test_nothing_selects_entropy(self) -> None:
        """The only seed in a job is that of the public initial weights."""
        named = {name for name in _field_names(job_of()) if "seed" in name or "entropy" in name}
        assert named == {"training.seed"}

    def test_the_model_that_nodes_must_build(self) -> None:
        request = make_request(task=Named(name="diagnosis", options={"model": "mlp"}))
        job = make_job(request=request)
        task = load_task(job.task, job.schema)
        weights = strategy_of(job, task.layout().size).init(task.initial(0)).weights
        assert (job.layout, job.initial_weights) == (task.layout().digest, weights_digest(weights))
        other = replace(request, training=TrainingRequest(rounds=2, seed=1))
        assert make_job(request=other).initial_weights != job.initial_weights

    def test_a_yaml_file_makes_the_same_request(self, tmp_path: Path) -> None:
        request = make_request()
        document = json.loads(json.dumps(_plain(request)))
        (tmp_path / "job.yaml").write_text(json.dumps(document))
        assert read_request(tmp_path / "job.yaml") == request

    def test_a_short_yaml_file_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(
            "name: tiny\ndataset: sepsis\nintended_use: tests\n"
            "task: {name: diagnosis, options: {}}\n"
            f"schema: {json.dumps(schema())}\n"
            "privacy: {epsilon: 1}\n"
            "sites:\n"
            + "".join(f"  - {{name: h{i}, train_size: 100, test_size: 20}}\n" for i in range(3))
        )
        job = make_job(request=read_request(tmp_path / "job.yaml"))
        assert (job.privacy.mode, job.strategy.name, job.min_sites) == ("distributed", "fedsgd", 3)
        assert (job.publication.metrics, job.publication.model) == (False, False)


def _field_names(value: object, path: str = "") -> list[str]:
    names = []
    for field in fields(value) if is_dataclass(value) else ():
        inner = getattr(value, field.name)
        name = f"{path}{field.name}"
        names += _field_names(inner, f"{name}.") if is_dataclass(inner) else [name]
    return names


def _plain(value: Any) -> Any:
    """A request as its YAML would be: nothing that is left to a default of None."""
    if is_dataclass(value):
        items = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {name: item for name, item in items.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


class TestDefaults:
    @pytest.mark.parametrize(
        ("changes", "strategy"),
        [
            ({}, "fedsgd"),
            ({"mode": "local"}, "fedavg"),
            ({"mode": "none"}, "fedavg"),
            ({"mode": "local", "training": TrainingRequest(proximal=0.1)}, "fedprox"),
        ],
    )
    def test_the_modes_usual_strategy(self, changes: dict[str, Any], strategy: str) -> None:
        assert job_of(**changes).strategy == Named(name=strategy, options={})

    @pytest.mark.parametrize(
        ("model", "rounds", "kappa"), [("logistic", 10, 0.5), ("mlp", 20, 2.0)]
    )
    @pytest.mark.parametrize("wanted", [0.05, 1.0, 50.0])
    def test_the_recipes_rounds_and_learning_rate(
        self, model: str, rounds: int, kappa: float, wanted: float
    ) -> None:
        """clip(kappa mu n / sqrt(P), 1, 60) over T, from the formula itself."""
        options: dict[str, Any] = {"model": model}
        if model == "mlp":
            options["hidden"] = [4]
        job = job_of(
            task=Named(name="diagnosis", options=options),
            sites=sites(150, 200, 250),
            epsilon=wanted,
            training=TrainingRequest(),
        )
        parameters = 4 if model == "logistic" else 3 * 4 + 4 + 4 + 1
        mu = gaussian_mu(wanted, SLACK * 1e-5)
        path = min(max(kappa * mu * 600 / math.sqrt(parameters), 1.0), 60.0)
        assert job.training.rounds == rounds
        assert job.training.learning_rate == pytest.approx(path / rounds, rel=1e-12)

    def test_the_path_does_not_depend_on_how_it_is_cut(self) -> None:
        one = job_of(mode="local", training=TrainingRequest(rounds=4))
        five = job_of(mode="local", training=TrainingRequest(rounds=4, local_steps=5))
        assert five.training.learning_rate * 5 == pytest.approx(one.training.learning_rate)

    @pytest.mark.parametrize("steps", [1, 7])
    def test_without_clipping_every_step_is_one_half(self, steps: int) -> None:
        job = job_of(mode="none", training=TrainingRequest(local_steps=steps))
        assert job.training.learning_rate == 0.5

    def test_one_shot_has_one_round(self) -> None:
        named = Named(name="one_shot", options={"radius": 3.0})
        job = job_of(strategy=named, training=TrainingRequest())
        assert job.training.rounds == 1
        assert job.privacy.update.clip == pytest.approx(math.sqrt(3.0**4 + 3.0**2))
        assert job.privacy.update.length == 4 * 5 // 2 + 4

    def test_what_is_written_wins(self) -> None:
        training = TrainingRequest(rounds=3, learning_rate=0.25, spare_attempts=0, l2=0.5, seed=9)
        job = job_of(training=training)
        assert (job.training.rounds, job.training.learning_rate) == (3, 0.25)
        assert (job.training.spare_attempts, job.training.l2, job.training.seed) == (0, 0.5, 9)

    def test_digits_hold_the_path_of_an_update(self) -> None:
        """Learning rate times steps times the clipped gradient and six deviations of its noise."""
        job = job_of(mode="local", training=TrainingRequest(rounds=2, local_steps=3))
        numbers, training = job.privacy.update, job.training
        deviation = numbers.noise_multiplier * numbers.clip / min(s.train_size for s in job.sites)
        expected = training.learning_rate * 3 * (numbers.clip + 6 * deviation)
        assert job.encryption.digit_bound == pytest.approx(expected)
        chosen = EncryptionRequest(digit_bits=12, digit_bound=0.125)
        assert job_of(mode="local", encryption=chosen).encryption.digit_bound == 0.125


class TestNumbers:
    @pytest.mark.parametrize("mode", ["distributed", "local", "none"])
    @pytest.mark.parametrize("patients", [True, False])
    def test_nodes_accept_them(self, mode: Mode, *, patients: bool) -> None:
        job = job_of(mode=mode, patients=patients, hospitals=5)
        check_plan(job.privacy, job.sites)
        assert job.privacy.unit == ("patient" if patients else "record")
        for packing in (job.encryption.update, job.encryption.evaluation):
            assert packing is not None
            check_packing(packing)
            assert packing.max_sites == 5
        assert job.encryption.library == SEAL_LIBRARY

    @settings(max_examples=30, deadline=None)
    @given(
        mode=st.sampled_from(["distributed", "local"]),
        wanted=st.floats(0.05, 20.0),
        rounds=st.integers(1, 30),
        spare=st.integers(0, 4),
        steps=st.integers(1, 4),
        hospitals=st.integers(3, 8),
        every=st.integers(0, 5),
    )
    def test_both_epsilons_hold_over_every_attempt(
        self,
        *,
        mode: Mode,
        wanted: float,
        rounds: int,
        spare: int,
        steps: int,
        hospitals: int,
        every: int,
    ) -> None:
        steps = 1 if mode == "distributed" else steps
        job = job_of(
            mode=mode,
            epsilon=wanted,
            hospitals=hospitals,
            training=TrainingRequest(rounds=rounds, spare_attempts=spare, local_steps=steps),
            evaluation=EvaluationRequest(every=every),
        )
        privacy = job.privacy
        check_plan(privacy, job.sites)
        own = math.sqrt(hospitals - 1) if mode == "distributed" else 1.0
        counted = 1 + ((rounds - 1) // every if every else 0)
        for release, sums, stated, worst in (
            (privacy.update, steps * (rounds + spare), wanted, privacy.epsilon_worst),
            (privacy.evaluation, counted + spare, wanted, privacy.epsilon_evaluation_worst),
        ):
            assert release is not None
            sigma = release.noise_multiplier
            assert epsilon([Event(sigma, 1.0, sums)], SLACK * 1e-5) <= stated
            assert epsilon([Event(sigma / own, 1.0, sums)], SLACK * 1e-5) <= worst * (1 + 1e-9)
            assert epsilon([Event(sigma * 0.99, 1.0, sums)], SLACK * 1e-5) > stated * 0.99

    def test_spare_attempts_cost_noise(self) -> None:
        plain, spare = (
            job_of(training=TrainingRequest(rounds=10, spare_attempts=number)).privacy.update
            for number in (0, 2)
        )
        growth = spare.noise_multiplier / plain.noise_multiplier
        assert growth == pytest.approx(math.sqrt(12 / 10), rel=1e-4)

    def test_held_out_patients_may_have_another_epsilon(self) -> None:
        privacy = job_of(privacy=PrivacyRequest(epsilon=2.0, evaluation_epsilon=0.5)).privacy
        assert (privacy.epsilon, privacy.epsilon_evaluation) == (2.0, 0.5)

    def test_nothing_is_evaluated(self) -> None:
        job = job_of(evaluation=EvaluationRequest(enabled=False))
        assert (job.privacy.evaluation, job.encryption.evaluation) == (None, None)
        assert (job.privacy.epsilon_evaluation, job.privacy.epsilon_evaluation_worst) == (0.0, 0.0)
        check_plan(job.privacy, job.sites)

    def test_clear_runs_have_no_parameters(self) -> None:
        encryption = job_of(mode="none", clear=True).encryption
        assert (encryption.scheme, encryption.masks) == ("none", False)
        assert (encryption.update, encryption.evaluation) == (None, None)

    def test_a_clear_run_can_have_one_hospital(self) -> None:
        request = make_request(
            hospitals=1,
            mode="none",
            clear=True,
            min_sites=1,
            privacy=PrivacyRequest(mode="none", colluding_sites=0),
        )
        assert len(make_job(request=request).sites) == 1

    def test_digits_of_every_cohort_fit_their_words(self) -> None:
        """Whatever is in a site's vector, the sum of K and eight deviations stays below B / 2."""
        job = job_of(hospitals=6)
        for partition, packing in (
            ("train", job.encryption.update),
            ("test", job.encryption.evaluation),
        ):
            assert packing is not None
            for cohort_size in (3, 6):
                plan = DpPlan.of(
                    job.privacy, "train" if partition == "train" else "test", cohort_size
                )
                most = cohort_size * (plan.release.bound * plan.release.scale + 1)
                noise = 8 * plan.share * math.sqrt(cohort_size)
                assert most + noise < packing.radix / 2

    @pytest.mark.parametrize("bits", [2, 8, 16, 24])
    def test_digits_of_unnoised_sums_fit_exactly(self, bits: int) -> None:
        encryption = job_of(mode="none", encryption=EncryptionRequest(digit_bits=bits)).encryption
        assert encryption.update is not None
        assert encryption.update.radix == 2 * 3 * (2 ** (bits - 1) - 1) + 1


class TestMistakes:
    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: TrainingRequest(rounds=0), "rounds; expected >= 1; found 0"),
            (lambda: TrainingRequest(spare_attempts=-1), "spare_attempts; expected >= 0"),
            (lambda: TrainingRequest(local_steps=0), "local_steps; expected >= 1"),
            (lambda: TrainingRequest(learning_rate=0.0), "learning_rate; expected > 0"),
            (lambda: TrainingRequest(l2=-0.1), "l2; expected >= 0"),
            (lambda: TrainingRequest(proximal=-0.1), "proximal; expected >= 0"),
            (lambda: TrainingRequest(seed=-1), "seed; expected >= 0"),
            (lambda: EvaluationRequest(every=-1), "every; expected >= 0"),
            (lambda: EncryptionRequest(digit_bits=1), "digit_bits; expected 2 to 32"),
            (lambda: EncryptionRequest(digit_bits=33), "digit_bits; expected 2 to 32"),
            (lambda: EncryptionRequest(digit_bound=0.0), "digit_bound; expected > 0"),
            (lambda: make_request(name="Sepsis"), "name; expected a name such as sepsis-2"),
            (lambda: make_request(name=""), "name; expected a name"),
            (lambda: make_request(name="../escape"), "name; expected a name"),
            (lambda: make_request(timeout_s=0), "timeout_s; expected >= 1"),
            (lambda: make_request(valid_hours=0), "valid_hours; expected >= 1"),
        ],
    )
    def test_one_number(self, build: Callable[[], object], message: str) -> None:
        with pytest.raises(InputError, match=message):
            build()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sites": sites(9, 9, 9)[:2] * 2}, "sites; expected each hospital once; found site-0"),
            ({"min_sites": 2}, "min_sites; expected >= 3; found 2; a sum of two"),
            ({"hospitals": 2}, "number of sites; expected >= 3; found 2"),
            ({"min_sites": 4}, "min_sites; expected at most 3 hospitals; found 4"),
            ({"mode": "none", "clear": True, "min_sites": 0}, "min_sites; expected >= 1"),
            ({"task": Named(name="oracle", options={})}, "no task 'oracle' is installed"),
            ({"schema": {"columns": []}}, "job.schema: missing 'label'"),
            (
                {"strategy": Named(name="flwr:FedMedian", options={}), "mode": "none"},
                "strategy 'flwr:FedMedian' reads every hospital's update",
            ),
            ({"strategy": Named(name="magic", options={})}, "no strategy named 'magic'"),
            ({"strategy": Named(name="fedsgd", options={"x": 1})}, "strategy.fedsgd.x: unknown"),
            (
                {"strategy": Named(name="fedavg", options={})},
                "releases updates in mode 'distributed'; expected fedsgd, one_shot or tally",
            ),
            (
                {"strategy": Named(name="fedsgd", options={}), "mode": "local"},
                "releases gradients in mode 'local'; expected one of updates, as fedavg",
            ),
            (
                {
                    "strategy": Named(name="fedsgd", options={}),
                    "task": Named(name="statistics", options={}),
                },
                "task 'statistics'; expected strategy 'tally'; found 'fedsgd'",
            ),
            (
                {"strategy": Named(name="tally", options={}), "training": TrainingRequest()},
                "strategy 'tally'; expected task 'statistics'",
            ),
            (
                {"strategy": Named(name="one_shot", options={})},
                "rounds with strategy 'one_shot'; expected 1",
            ),
            (
                {
                    "strategy": Named(name="one_shot", options={}),
                    "training": TrainingRequest(),
                    "privacy": PrivacyRequest(epsilon=1.0, sampling_rate=0.5),
                },
                "sampling_rate with strategy 'one_shot'; expected 1",
            ),
            (
                {"training": TrainingRequest(local_steps=2)},
                "local_steps; expected 1 in mode 'distributed'",
            ),
            ({"encryption": EncryptionRequest(masks=False)}, "masks: false; expected masks in"),
            (
                {"mode": "none", "encryption": EncryptionRequest(masks=False)},
                "masks: false; expected masks in every mode but 'local'",
            ),
            (
                {"encryption": EncryptionRequest(scheme="none", masks=False)},
                "encryption.scheme; expected bfv in mode 'distributed'",
            ),
            (
                {"mode": "local", "encryption": EncryptionRequest(scheme="none", masks=False)},
                "encryption.scheme; expected bfv in mode 'local'",
            ),
            (
                {"privacy": PrivacyRequest(epsilon=1.0, colluding_sites=2)},
                "at least 2 beyond colluding_sites",
            ),
            (
                {"privacy": PrivacyRequest(epsilon=1.0, colluding_sites=3)},
                "privacy.colluding_sites; expected 0 to 2 with 3 sites",
            ),
        ],
    )
    def test_parts_that_do_not_fit_each_other(self, changes: dict[str, Any], message: str) -> None:
        request = make_request(**changes)
        with pytest.raises(InputError, match=message):
            make_job(request=request)

    def test_a_linear_model_is_needed_for_one_shot(self) -> None:
        request = make_request(
            strategy=Named(name="one_shot", options={}),
            training=TrainingRequest(),
            task=Named(name="diagnosis", options={"model": "mlp", "hidden": [2]}),
        )
        with pytest.raises(InputError, match="expected a model that is one linear score"):
            make_job(request=request)

    def test_one_shot_separates_two_classes_and_learns_nothing_else(self) -> None:
        three = schema()
        three["label"] = {**three["label"], "classes": ["no", "yes", "unknown"]}
        request = make_request(
            strategy=Named(name="one_shot", options={}),
            training=TrainingRequest(),
            schema=three,
        )
        with pytest.raises(InputError, match="expected a model that is one linear score"):
            make_job(request=request)
