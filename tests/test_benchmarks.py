"""Every benchmark says what it does, and measures something small in seconds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path.name
    for path in (ROOT / "benchmarks").glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
ENCRYPTION_KEYS = {
    "scheme",
    "bits",
    "upload_bytes_per_value",
    "download_bytes_per_value",
    "encrypt_values_per_s",
    "sum_values_per_s",
    "decrypt_values_per_s",
    "max_error",
    "peak_growth_mb",
}
SIZE = ["--sites", "3", "--parameters", "100", "--records", "20", "--rounds", "2"]
SMALL = {
    "accounting.py": (["--quick"], {"events", "epsilon", "ms", "dp_accounting_ms"}),
    "ledger.py": (["--events", "2"], {"ledger", "events", "p50_ms", "p95_ms", "cpu_ms"}),
    "masks.py": (
        ["--words", "2000", "--repeat", "1"],
        {"modulus", "peers", "seconds", "ms_per_peer_and_million_words"},
    ),
    "noise.py": (["--values", "500"], {"draw", "ms"}),
    "round.py": ([*SIZE, "--evaluate", "1"], {"sites", "parameters", "phase", "ms", "cpu_ms"}),
}
LARGER = {
    "evaluation.py": (
        ["--trials", "5", "--patients", "254"],
        {"patients", "auroc_of_all", "auroc_error", "brier_error", "auroc_width", "auprc_inside"},
    ),
    "inference.py": (
        ["--requests", "5", "--seconds", "0.2"],
        {
            "server",
            "protocol",
            "p50_ms",
            "p99_ms",
            "p50_ratio",
            "p50_own_ratio",
            "per_second",
            "throughput_ratio",
            "throughput_own_ratio",
        },
    ),
    "demo.py": ([], {"arm", "rounds", "s", "cpu_s", "slowest_cpu_s"}),
    "privacy_overhead.py": (
        ["--models", "mlp", "--quick", "--repeats", "1"],
        {"model", "method", "time_ms", "by_opacus", "by_opacus64", "error", "others"},
    ),
    "recipes.py": (
        ["--each", "40", "labels", "--arm", "clear", "--rounds", "2", "--rates", "0.5"],
        {"arm", "rounds", "local_steps", "learning_rate", "mean"},
    ),
    "scale.py": (
        SIZE,
        {"sites", "parameters", "round_s", "job_s", "wall_s", "peak_mb", "grown_mb", "adding_mb"},
    ),
    "sources.py": (["--rows", "20000"], {"kind", "records", "read_s", "records_mb", "memory_mb"}),
}


def printed(script: str, *options: str) -> str:
    command = [sys.executable, f"benchmarks/{script}", *options]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def rows_of(script: str, *options: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(printed(script, "--json", *options))
    return rows


def test_every_measurement_is_listed_here() -> None:
    apart = {"encryption.py", "upload.py", "nvflare.py", "federation.py"}
    assert {*SMALL, *LARGER, *apart} == set(SCRIPTS)


def test_rounds_over_connections_say_what_they_measure() -> None:
    assert "--quick" in printed("federation.py", "--help")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_rounds_over_connections_are_measured_beside_flowers_own() -> None:
    rows = rows_of("federation.py", "--quick")
    tables = {
        name: [row for row in rows if row["table"] == name]
        for name in ("phases", "rounds", "memory")
    }
    assert [row["phase"] for row in tables["phases"]] == [
        "enrolled", "keys", "round", "finished", "ended",
    ]  # fmt: skip
    ours, flowers = tables["rounds"]
    assert ours["bytes_up"] == flowers["bytes_up"]
    assert 0 < ours["answering"] < ours["round_s"]
    assert {"process tree", "ours_mb", "plain_mb", "ratio"} <= set(tables["memory"][0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--values", "0"], "expected a whole number from 1 on; found '0'"),
        (["--json", "/nowhere/rows.json"], "nothing can be written into /nowhere"),
    ],
)
def test_nothing_is_measured_for_nothing(options: list[str], words: str) -> None:
    check_refusal("noise.py", options, words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("encryption.py", ["--row", "local", "7"], "--row: expected one of local 8, "),
        (
            "evaluation.py",
            ["--sites", "1"],
            "--sites: expected a whole number from 3 on; found '1'",
        ),
        (
            "evaluation.py",
            ["--epsilon", "nan"],
            "--epsilon: expected a number above 0; found 'nan'",
        ),
        ("noise.py", ["--json", "tests"], "tests: no file that can be written"),
        ("nvflare.py", ["--rounds", "1"], "--rounds: expected a whole number from 2 on"),
        ("recipes.py", ["no", "--rounds", "1", "--rates", "1"], "no simulation 'no'; expected a"),
        ("recipes.py", ["labels", "--rounds", "1", "--rates", "0"], "--rates: expected a number"),
        ("round.py", ["--sites", "2"], "--sites: expected a whole number from 3 on; found '2'"),
        ("round.py", ["--evaluate", "-1"], "--evaluate: expected a whole number from 0 on"),
        ("round.py", ["--parameters", "9000000000"], "hidden widths; expected one or more"),
        ("scale.py", ["--sites", "1"], "--sites: expected a whole number from 3 on; found '1'"),
        ("scale.py", ["--parameters", "9000000000"], "hidden widths; expected one or more"),
        ("scale.py", ["--rounds", "1"], "--rounds: expected a whole number from 2 on; found '1'"),
        ("sources.py", ["--kinds"], "--kinds: expected at least one argument"),
        ("upload.py", ["--values", "8"], "--values: expected a whole number from 9 on; found '8'"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(
    script: str, options: list[str], words: str
) -> None:
    check_refusal(script, options, words)


def check_refusal(script: str, options: list[str], words: str) -> None:
    command = [sys.executable, f"benchmarks/{script}", *options]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{script}: error: ")
    assert words in last
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_no_trial_tells_has_no_figure() -> None:
    first, _ = rows_of("evaluation.py", "--trials", "2", "--patients", "1")
    assert (first["auroc_error"], first["auroc_width"], first["auroc_inside"]) == (None,) * 3


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_what_it_does(script: str) -> None:
    assert "usage" in printed(script, "--help")


@pytest.mark.parametrize("script", SMALL)
def test_small_measurements_print_the_rows_that_they_promise(script: str) -> None:
    check_rows(script, *SMALL[script])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", LARGER)
def test_larger_measurements_print_the_rows_that_they_promise(script: str) -> None:
    check_rows(script, *LARGER[script])


def check_rows(script: str, options: list[str], keys: set[str]) -> None:
    rows = rows_of(script, *options)
    assert rows
    assert all(keys <= set(row) for row in rows)


def test_a_file_says_on_which_machine_and_with_which_versions(tmp_path: Path) -> None:
    target = tmp_path / "noise.json"
    table = printed("noise.py", "--values", "500", "--json", str(target))
    report = json.loads(target.read_text(encoding="utf-8"))
    assert {"date", "cpu", "cores", "memory_gib", "load"} == set(report["machine"])
    assert {"Python", "fedward", "opendp", "numpy"} == set(report["versions"])
    assert report["machine"]["cpu"] in table
    assert f"opendp {report['versions']['opendp']}" in table


def test_one_row_of_encrypted_sums_has_all_that_is_promised() -> None:
    row = json.loads(printed("encryption.py", "--row", "local", "16", "--values", "9000"))
    assert set(row) == ENCRYPTION_KEYS
    assert row["max_error"] == 0


@pytest.mark.slow
def test_encrypted_sums_are_exact_and_smaller_than_floats_and_the_peers() -> None:
    rows = rows_of("encryption.py", "--values", "50000", "--sites", "10")
    assert all(set(row) == ENCRYPTION_KEYS for row in rows)
    ours = {(row["scheme"], row["bits"]): row for row in rows if "fedward" in row["scheme"]}
    others = {row["scheme"]: row for row in rows}
    most = {("local", 8): 2.1, ("local", 12): 2.8, ("local", 16): 3.7}
    most |= {("distributed", 22): 4.2, ("distributed", 32): 8.0}
    for (mode, bits), bytes_per_value in most.items():
        row = ours["fedward " + mode, bits]
        assert row["upload_bytes_per_value"] <= bytes_per_value
        assert row["max_error"] == 0
        assert row["peak_growth_mb"] <= 40
    assert 0 < others["ckks"]["max_error"] < 1e-6
    assert (
        others["ckks"]["upload_bytes_per_value"] > 10 * others["float32"]["upload_bytes_per_value"]
    )
    assert others["tenseal bfv"]["max_error"] == 0


@pytest.mark.slow
def test_tables_of_encryption_show_ratios_and_limits() -> None:
    table = printed("encryption.py", "--values", "20000", "--sites", "3")
    assert "as small as CKKS" in table
    assert "Share of what is possible" in table


@pytest.mark.slow
def test_uploads_of_whole_rounds_are_measured() -> None:
    rows = rows_of("upload.py", "--values", "5000")
    assert all(row["status"] == "completed" for row in rows)
    assert {"case", "values", "upload_bytes_per_value", "digits", "q_bits"} <= set(rows[0])


@pytest.mark.slow
def test_a_federation_of_our_own_is_measured_as_flares_is(tmp_path: Path) -> None:
    target = tmp_path / "row.json"
    printed("nvflare.py", "--ours", "Fedward, mode none", "4", str(target), "--rounds", "2")
    row = json.loads(target.read_text(encoding="utf-8"))
    assert row["round_s"] > 0
    assert row["bytes"] > 0
