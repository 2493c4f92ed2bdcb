"""Exported models, run by programs that know nothing of this one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from learning import export as exporting
from learning.export import BATCHES, FORMATS, compare, export
from learning.export_graph import Graph, sample, table_of
from learning.export_onnx import runner
from learning.task import Records
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Named
from tests.contracts.cases import CASES, Case, every_case
from tests.learning.test_export_graph import MODEL, SCHEMA, SCHEMA_OF
from tests.learning.test_readouts import case_model, model_of


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def check_by_onnxruntime(path: Path, model: Any = MODEL) -> None:
    """Requests of several sizes, against torch in both precisions and the node's own numbers."""
    schema = model.task.schema
    run = session(path)
    single, double = Graph(model, torch.float32), Graph(model)
    for rows in (1, 3, 100):
        arrays = sample(schema, rows, np.random.default_rng(rows))
        (found,) = run.run(None, arrays)
        tensors = [torch.from_numpy(array) for array in arrays.values()]
        own = model.predict(model.task.features(table_of(schema, arrays))[0])
        assert found.dtype == np.float32
        for other in (single(*tensors).numpy(), double(*tensors).numpy(), own):
            np.testing.assert_allclose(found, other, atol=1e-5)


def test_onnx_takes_raw_values_in_requests_of_any_size(tmp_path: Path) -> None:
    made = export(MODEL, "onnx", tmp_path)
    check_by_onnxruntime(tmp_path / "model.onnx")
    assert made.check.rows == BATCHES
    assert 0 < made.check.deviation <= 1e-5
    inputs = {
        one.name: (one.type, one.shape) for one in session(tmp_path / "model.onnx").get_inputs()
    }
    assert inputs["age"] == ("tensor(double)", ["rows", 1])
    assert inputs["scan"] == ("tensor(double)", ["rows", 3, 4])
    assert inputs["ward"] == ("tensor(int64)", ["rows", 1])


def test_card_and_digest_go_along(tmp_path: Path) -> None:
    made = export(MODEL, "onnx", tmp_path)
    card = MODEL.card
    assert (tmp_path / "card.json").read_bytes() == card.to_bytes()
    assert "# Model sepsis/3" in (tmp_path / "CARD.md").read_text()
    told = json.loads((tmp_path / "export.json").read_text())
    assert told == json.loads(json.dumps(asdict(made)))
    assert told["weights_sha256"] == card.digests.weights
    assert told["preprocessing"] == card.preprocessing
    file = onnx.load(tmp_path / "model.onnx")
    inside = {entry.key: entry.value for entry in file.metadata_props}
    assert inside["model"] == "sepsis/3"
    assert inside["weights_sha256"] == card.digests.weights
    tool = shutil.which("sha256sum")
    assert tool is not None
    done = subprocess.run(
        [tool, "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True
    )
    assert done.stdout.count(b": OK") == 4


def test_any_text_may_be_the_name_of_a_column(tmp_path: Path) -> None:
    schema = {
        "columns": [
            {"name": name, "kind": "number", "low": 0, "high": 1}
            for name in ("1", "in_0", "out", "mean radius (µm)")
        ],
        "label": {"name": "ill", "classes": ["no", "yes"]},
    }
    model = model_of(Named(name="diagnosis", options={}), schema)
    export(model, "triton", tmp_path)
    check_by_onnxruntime(tmp_path / "sepsis" / "3" / "model.onnx", model)
    check_triton(tmp_path, model)


def test_a_repository_for_triton(tmp_path: Path) -> None:
    export(MODEL, "triton", tmp_path)
    check_by_onnxruntime(tmp_path / "sepsis" / "3" / "model.onnx")
    found = check_triton(tmp_path, MODEL)
    assert found.parameters["weights_sha256"].string_value == MODEL.card.digests.weights
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "sepsis"]


def check_triton(folder: Path, model: Any) -> Any:
    """Triton's own message takes the configuration, and it describes the model that is there."""
    text = (folder / "sepsis" / "config.pbtxt").read_text()
    found = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (found.name, found.backend) == ("sepsis", "onnxruntime")
    assert found.max_batch_size > 1
    types = {
        "tensor(double)": "TYPE_FP64",
        "tensor(int64)": "TYPE_INT64",
        "tensor(float)": "TYPE_FP32",
    }
    run = session(folder / "sepsis" / str(model.card.version) / "model.onnx")
    for side, described in ((run.get_inputs(), found.input), (run.get_outputs(), found.output)):
        assert [(one.name, types[one.type], one.shape[1:]) for one in side] == [
            (one.name, model_config_pb2.DataType.Name(one.data_type), list(one.dims))
            for one in described
        ]
    return found


class TestInt8:
    def test_says_what_it_changes_on_values_of_the_schema(self, tmp_path: Path) -> None:
        schema = {**SCHEMA, "columns": SCHEMA["columns"][:2]}
        wide = model_of(
            Named(name="diagnosis", options={"model": "mlp", "hidden": [64, 64]}), schema
        )
        made = export(wide, "int8", tmp_path)
        change = made.int8
        assert change is not None
        assert 0 < change.mean <= change.largest < 0.5
        assert 0.9 < change.same_answer <= 1
        assert change.bytes_int8 < change.bytes_single
        assert "no patient is" in change.of
        assert change.measure is None
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "CARD.md", "SHA256SUMS", "card.json", "export.json", "model.onnx",
        ]  # fmt: skip
        weights = {one.data_type for one in onnx.load(tmp_path / "model.onnx").graph.initializer}
        assert onnx.TensorProto.INT8 in weights
        arrays = sample(wide.task.schema, 50, np.random.default_rng(0))
        (found,) = session(tmp_path / "model.onnx").run(None, arrays)
        own = wide.predict(wide.task.features(table_of(wide.task.schema, arrays))[0])
        assert np.abs(found - own).max() < 0.5

    def test_held_out_records_are_measured_and_the_file_says_so(self, tmp_path: Path) -> None:
        x_NF = np.random.default_rng(1).normal(size=(200, SCHEMA_OF.num_features))
        ill_N = MODEL.predict(x_NF)[:, 1]
        y_N = (ill_N > np.median(ill_N)).astype(np.int64)
        records = Records(x_NF=x_NF, y_N=y_N, patient_N=np.arange(200))
        change = export(MODEL, "int8", tmp_path, records).int8
        assert change is not None
        assert change.rows == 200
        assert "must not leave" in change.of
        assert change.measure == "AUROC"
        assert change.measure_single == pytest.approx(1.0, abs=1e-6)
        assert change.measure_int8 is not None
        assert 0.9 < change.measure_int8 <= 1.0
        assert not list(tmp_path.glob("features*"))

    def test_no_held_out_record_is_an_error(self, tmp_path: Path) -> None:
        none = Records(
            x_NF=np.empty((0, SCHEMA_OF.num_features)),
            y_N=np.empty(0, dtype=np.int64),
            patient_N=np.empty(0, dtype=np.int64),
        )
        with pytest.raises(InputError, match="held out"):
            export(MODEL, "int8", tmp_path, none)


def test_an_export_that_predicts_otherwise_is_refused() -> None:
    def off(arrays: Any) -> Any:
        return MODEL.predict(MODEL.task.features(table_of(SCHEMA_OF, arrays))[0]) + 2e-5

    with pytest.raises(IntegrityError, match="something else"):
        compare(MODEL, off, 1e-5)
    assert compare(MODEL, off, 1e-4).deviation == pytest.approx(2e-5)


def test_nothing_that_is_not_a_number_passes_the_check() -> None:
    with pytest.raises(IntegrityError, match="something else"):
        compare(MODEL, lambda arrays: np.full((len(arrays["age"]), 2), np.nan), 1e-5)


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"fedward\[export\]"):
        export(MODEL, "onnx", tmp_path)


def test_a_file_that_does_not_run_is_refused(tmp_path: Path) -> None:
    export(MODEL, "onnx", tmp_path)
    arrays = dict(sample(SCHEMA_OF, 2, np.random.default_rng(0)))
    arrays["age"] = arrays["age"][:1]
    with pytest.raises(IntegrityError, match="does not run"):
        runner(tmp_path / "model.onnx")(arrays)


def test_an_operation_that_onnx_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Graph):
        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            return torch.cumprod(super().forward(*values), dim=1)

    monkeypatch.setattr(exporting, "Graph", Odd)
    with pytest.raises(InputError, match="ONNX lacks"):
        export(MODEL, "onnx", tmp_path)


@pytest.mark.slow
def test_a_program_of_torch_says_what_the_node_says(tmp_path: Path) -> None:
    made = export(MODEL, "torch", tmp_path)
    assert made.check.deviation < 1e-12
    # In a process that never imports this project.
    arrays: dict[str, Any] = dict(sample(SCHEMA_OF, 5, np.random.default_rng(3)))
    np.savez(tmp_path / "values.npz", **arrays)
    code = (
        "import sys, numpy as np, torch\n"
        "values = np.load('values.npz')\n"
        "program = torch.export.load('model.pt2').module()\n"
        "np.save('found.npy', program(*[torch.from_numpy(values[n]) for n in values]).numpy())\n"
        "assert 'learning' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)
    own = MODEL.predict(MODEL.task.features(table_of(SCHEMA_OF, arrays))[0])
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), own, atol=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(600)
@every_case
def test_every_task_in_every_format(case: Case, tmp_path: Path) -> None:
    model = case_model(case)
    reads = any(column.kind == "text" for column in model.task.schema.columns)
    for kind in FORMATS:
        folder = tmp_path / kind
        folder.mkdir()
        if reads:
            with pytest.raises(InputError, match="'note' of kind 'text' cannot be exported"):
                export(model, kind, folder)
            continue
        made = export(model, kind, folder)
        assert made.check.deviation <= made.check.tolerance


@pytest.mark.parametrize("name", ["survival", "demand"])
def test_tasks_with_a_readout_of_their_own(name: str, tmp_path: Path) -> None:
    made = export(case_model(CASES[name]), "onnx", tmp_path)
    assert 0 < made.check.deviation <= 1e-5
