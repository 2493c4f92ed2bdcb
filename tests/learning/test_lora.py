"""Adapters of a small, randomly initialised model from a folder: gradients, pins and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.admission import Situation, admit
from client.policy import Policy, Population
from learning.lora import PACKAGES, Adapters
from learning.lora_module import frozen_model
from learning.networks import set_weights
from learning.pretrained import ENVIRONMENT, FILES, folder_digest, open_pretrained
from learning.task import Finding, Task, load_task
from learning.trainer import chunk_of
from privacy.engine import Engine
from privacy.gradients import bytes_per_record, values_per_record
from privacy.guards import run_guards
from privacy.plan import PrivacyRequest
from privacy.probes import single_gradients
from protocol.errors import Code, InputError, RefusalError
from protocol.jobs import Named, Site
from server.jobs import Origin, resolve
from server.requests import JobRequest
from tests.contracts import cases
from tests.contracts import test_tasks as contract
from tests.contracts.test_task_modes import assert_a_private_job_ends_with_a_model

transformers = pytest.importorskip("transformers")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "fever", "cough", "chills", "and")
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 12,
}
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "note", "kind": "text", "length": 8, "may_be_missing": True},
        *cases.COLUMNS,
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
    "patient": "pid",
}


def write_folder(folder: Path, config: str = "Bert", **sizes: Any) -> Path:
    """A model with random weights and a tokenizer of a few words, as people would save them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    chosen = getattr(transformers, f"{config}Config")(**(sizes or SIZES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = getattr(transformers, f"{config}Model")(chosen)
    model.save_pretrained(folder)
    numbers = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    write_folder(folder / "tiny")
    return folder


@pytest.fixture(autouse=True)
def _here(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(base))


def case(base: Path, name: str = "tiny", **changes: Any) -> cases.Case:
    pinned = {"name": name, "sha256": folder_digest(base / name), "rank": 2, **changes}
    return cases.Case("text", SCHEMA, {"model": "adapted", "pretrained": pinned})


def moved(task: Task) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(3).normal(size=task.layout().size)


CHECKS: tuple[Callable[[cases.Case], None], ...] = (
    contract.test_layout_is_the_models_parameters,
    contract.test_initial_weights_are_finite_and_say_nothing_yet,
    contract.test_generated_records_fit_the_task,
    contract.test_each_loss_depends_on_its_record_alone,
    contract.test_gradient_is_the_slope_of_the_loss,
    contract.test_training_lowers_the_loss,
    contract.test_predictions_are_finite_and_ignore_the_other_rows,
    contract.test_predictions_are_torchs_to_single_precision,
    contract.test_outputs_have_names_and_fit_their_description,
    contract.test_patients_are_numbered_in_order_of_first_appearance,
)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_a_tasks_contract(base: Path, check: Callable[[cases.Case], None]) -> None:
    check(case(base))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hospitals_learn_adapters_together(base: Path, tmp_path: Path) -> None:
    assert_a_private_job_ends_with_a_model(case(base), tmp_path)


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_clipped_sums_of_adapters_are_those_of_single_gradients(base: Path, unit: Any) -> None:
    task = case(base).build()
    records, weights_P = task.generate(8, np.random.default_rng(1)), moved(task)
    module = task.model()
    set_weights(module, task.layout(), weights_P)
    rows_NP = single_gradients(module, task.loss, records.x_NF, records.y_N)
    adapters = task.layout().size - (8 + 8 + 1)
    assert (np.abs(rows_NP[:, :adapters]).max(axis=0) > 0).all(), "every adapter learns"
    if unit == "patient":
        rows_NP = rows_NP.reshape(4, 2, -1).sum(axis=1)
    norm_U = np.linalg.norm(rows_NP, axis=1)
    clip = float(np.median(norm_U))
    engine = Engine(task.model(), task.loss, clip=clip / (1 - 1e-6), unit=unit)
    engine.load(weights_P)
    found_P = engine.clipped_sum(records.x_NF, records.y_N, records.patient_N)
    np.testing.assert_allclose(
        found_P, np.minimum(1, clip / norm_U) @ rows_NP, rtol=1e-9, atol=1e-12
    )


def test_the_guards_let_it_pass(base: Path) -> None:
    task = case(base).build()
    run_guards(task.model, task.loss, task.generate, clip=1.0, unit="patient")


def test_only_adapters_and_the_last_layer_are_parameters(base: Path) -> None:
    task = case(base).build()
    names = [name for name, _ in task.layout().entries]
    assert names[0] == "adapters.encoder/layer/0/attention/self/query.A.weight"
    assert names[-2:] == ["output.weight", "output.bias"]
    assert task.layout().size == 2 * 2 * 2 * (8 + 8) + (8 + 8) + 1


def test_at_first_the_states_are_those_of_the_pretrained_model(base: Path) -> None:
    """B is zero, so what the last layer reads is the mean of the saved model's own states."""
    task = case(base).build()
    weights = task.layout().split(task.initial(0).copy())
    weights["output.weight"][0, 0] = 1.0
    table = {name: [None] for name in task.schema.column_names}
    x_1F, _ = task.features({**table, "note": ["No fever, cough"]})
    own = transformers.BertModel.from_pretrained(base / "tiny", local_files_only=True).double()
    pieces = torch.tensor([[2, 4, 5, 1, 6, 3]])
    with torch.no_grad():
        expected = own.eval()(input_ids=pieces).last_hidden_state.mean(dim=1)[0, 0]
    found_11 = task.network.logits(weights, x_1F)  # type: ignore[attr-defined]
    assert found_11[0, 0] == pytest.approx(float(expected), abs=1e-9)


def test_word_pieces_are_the_tokenizers_and_problems_are_counted(base: Path) -> None:
    task = case(base).build()
    table = {name: [None] * 3 for name in task.schema.column_names}
    x_NF, report = task.features({**table, "note": ["No FEVER", None, "no and " * 9]})
    assert x_NF[0, :9].tolist() == [3, 5, 6, 4, 0, 0, 0, 0, 0]
    assert x_NF[1, :9].tolist() == [0] * 8 + [1]
    assert x_NF[2, :8].tolist() == [3, 5, 9, 5, 9, 5, 9, 4]
    notes = [found for found in report.findings if found.column == "note"]
    assert notes == [Finding("note", "missing", 1), Finding("note", "cut off", 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "sizes", "adapted"),
    [
        ("Roberta", {**SIZES, "max_position_embeddings": 14}, "attention.self.value"),
        (
            "DistilBert",
            {"vocab_size": 9, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12,
             "max_position_embeddings": 12},
            "attention.v_lin",
        ),
    ],
)  # fmt: skip
def test_other_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, sizes: Any, adapted: str
) -> None:
    write_folder(tmp_path / "other", config, **sizes)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    task = case(tmp_path, "other").build()
    assert adapted.replace(".", "/") in task.layout().entries[-3][0]
    contract.test_gradient_is_the_slope_of_the_loss(case(tmp_path, "other"))


def test_the_digest_is_what_people_compute_with_sha256sum(base: Path) -> None:
    told = subprocess.run(
        ["sha256sum", *FILES], cwd=base / "tiny", capture_output=True, check=True
    ).stdout
    assert folder_digest(base / "tiny") == sha256(told).hexdigest()


def refused(base: Path, name: str, digest: str = "0" * 64) -> str:
    with pytest.raises(InputError) as caught:
        open_pretrained(name, digest)
    return str(caught.value)


def test_a_hospital_without_the_folder_says_what_it_lacks(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'absent' is not on this machine" in refused(base, "absent")
    assert "a folder's name" in refused(base, "../tiny")
    assert "is another one; expected SHA-256 000" in refused(base, "tiny")
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"in {tmp_path}/.fedward/pretrained; found no config.json" in refused(base, "tiny")
    with pytest.raises(InputError, match=r"^job\.task: the pretrained model 'tiny' is not on this"):
        load_task(Named(name="text", options=case(base).options), SCHEMA)


def test_a_hospital_without_the_folder_refuses_the_job(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = case(base)
    now = datetime(2026, 11, 20, tzinfo=UTC)
    names = ("north", "south", "east")
    request = JobRequest(
        name="notes",
        dataset="notes",
        intended_use="test",
        task=Named(name=asked.name, options=asked.options),
        schema=asked.schema,
        sites=tuple(Site(name=name, train_size=30, test_size=10) for name in names),
        privacy=PrivacyRequest(mode="distributed", epsilon=3.0, delta=1e-5),
    )
    job = resolve(request, Origin(coordinator="0" * 64, roster="1" * 64, now=now))
    situation = Situation(
        name="north",
        roster=job.roster,
        policy=Policy(tasks=("text",)),
        population=Population(),
        columns=asked.build().schema.column_names,
        now=now,
    )
    assert admit(job, situation).job is job
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    with pytest.raises(RefusalError, match="'tiny' is not on this machine") as caught:
        admit(job, situation)
    assert caught.value.code is Code.TASK


def test_no_family_runs_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that asks for its own code, or for what is not known, is refused unopened."""
    folder = write_folder(tmp_path / "odd")
    (folder / "modeling_odd.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    for changes, told in (
        ({"auto_map": {"AutoModel": "modeling_odd.OddModel"}}, "auto_map"),
        ({"model_type": "odd"}, "found odd"),
        ({"hidden_act": "modeling_odd.act"}, "an activation"),
        ({"num_hidden_layers": "2"}, "sizes and an activation"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        assert told in refused(tmp_path, "odd", folder_digest(folder))
    # A kernel from a hub that the configuration names is not asked for.
    wanted = {**config, "_attn_implementation": "kernels-community/odd"}
    (folder / "config.json").write_text(json.dumps(wanted))
    pretrained = open_pretrained("odd", folder_digest(folder))
    assert frozen_model(pretrained).config._attn_implementation == "eager"  # type: ignore[union-attr]


def test_weights_that_do_not_fit_or_are_changed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "tiny")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    pretrained = open_pretrained("tiny", folder_digest(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 16}))
    with pytest.raises(InputError, match="changed while it was read"):
        frozen_model(pretrained)
    other = open_pretrained("tiny", folder_digest(folder))
    with pytest.raises(InputError, match="tensors that do not fit the configuration"):
        frozen_model(other)
    (folder / "model.safetensors").write_bytes(b"\x80\x04garbage and more of it")
    with pytest.raises(InputError, match="no safetensors file"):
        open_pretrained("tiny", folder_digest(folder))


def test_notes_may_not_be_longer_than_the_model_reads(base: Path) -> None:
    longer = {**SCHEMA, "columns": [{"name": "note", "kind": "text", "length": 13}]}
    with pytest.raises(InputError, match="at most 12 word pieces"):
        load_task(Named(name="text", options=case(base).options), longer)


def test_missing_packages_are_named_with_the_extra(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learning.lora.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"fedward\[text\]"):
        case(base).build()
    assert "peft" in PACKAGES


def test_notes_that_no_tokenizer_expects_are_read_all_the_same(base: Path) -> None:
    short = {**SCHEMA, "columns": [{"name": "note", "kind": "text", "length": 1}]}
    options = dict(case(base).options)
    x_NF, report = load_task(Named(name="text", options=options), short).features(
        {"note": ["fever fever fever", "half \udc80 a character"]}
    )
    assert x_NF.shape == (2, 1)
    assert report.findings == (Finding("note", "cut off", 2),)


CHILD = """
import json, sys
from learning.task import load_task
from protocol.jobs import Named
options, schema = json.loads(sys.stdin.read())
task = load_task(Named(name="text", options=options), schema)
task.initial(7)
print(sorted({"torch", "transformers", "peft", "opacus"} & set(sys.modules)))
"""


def test_the_coordinator_knows_the_layout_without_torch(base: Path) -> None:
    document = json.dumps([dict(case(base).options), SCHEMA])
    run = subprocess.run(
        [sys.executable, "-c", CHILD], input=document, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_adapters_of_two_modules_are_apart(base: Path) -> None:
    network = case(base).build().network  # type: ignore[attr-defined]
    assert isinstance(network, Adapters)
    one, other = network.module(), network.module()
    with torch.no_grad():
        next(one.parameters()).fill_(1.0)
    assert not bool((next(other.parameters()) == 1.0).any())


def test_the_frozen_model_counts_in_what_goes_through_it_together(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = case(base).build()
    model = task.model()
    records = task.generate(6, np.random.default_rng(0))
    inputs = torch.from_numpy(records.x_NF)
    # Attention's weights of both layers, which no layer that is trained takes in or gives.
    attention = 2 * SIZES["num_attention_heads"] * 8 * 8
    assert bytes_per_record(model, inputs) > 8 * (attention + values_per_record(model, inputs))
    shown = [inputs.shape[1]]
    for layer in model.modules():
        if not [*layer.children()]:
            layer.register_forward_hook(lambda _, __, output: shown.append(output.numel()))
    model(inputs[:1])
    # Two records of what the model shows; with the frozen layers not even one.
    monkeypatch.setattr("learning.trainer.CHUNK_VALUES", 2 * sum(shown))
    assert chunk_of(model, inputs.shape[1]) == 1
