import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.he.bits import pack_bits
from privacy.he.parameters import digit_radix
from privacy.he.sum import CiphertextSum, SumProcess
from protocol.errors import InputError, IntegrityError
from tests.privacy.he.cohort import Hospitals, Opened, Values, summed


def values_of(hospitals: Hospitals, seed: int, reach: int) -> Values:
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.integers(-reach, reach + 1, (hospitals.sites, hospitals.count))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[Hospitals, Values]:
    sites = draw(st.integers(1, 7))
    max_sites = draw(st.integers(sites, 40))
    radix = draw(
        st.one_of(
            st.integers(2, 16).map(lambda bits: digit_radix(bits, max_sites)),
            st.integers(2, 2**34),
        )
    )
    count = draw(st.one_of(st.integers(0, 40), st.integers(4000, 20_000)))
    hospitals = Hospitals.of(radix=radix, sites=sites, count=count, max_sites=max_sites)
    reach = (radix - 1) // 2 // sites
    if draw(st.booleans()):
        return hospitals, np.full((sites, count), draw(st.sampled_from([-reach, reach])))
    return hospitals, values_of(hospitals, draw(st.integers(0, 2**32)), reach)


@settings(max_examples=60, deadline=None)
@given(cohorts())
def test_the_decrypted_sum_is_the_integer_sum(case: tuple[Hospitals, Values]) -> None:
    hospitals, values_KN = case
    residues = summed(hospitals.new_sum(), hospitals.contributions(values_KN))
    assert np.array_equal(hospitals.read(residues), values_KN.sum(axis=0))


def test_the_sum_is_exact_at_k_max_with_the_extreme_values() -> None:
    sites = 40
    hospitals = Hospitals.of(radix=digit_radix(8, sites), sites=sites, count=16_000)
    for value in (127, -127):
        values_KN = np.full((sites, 16_000), value)
        residues = summed(hospitals.new_sum(), hospitals.contributions(values_KN))
        assert np.array_equal(hospitals.read(residues), values_KN.sum(axis=0))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(2, 2**34), st.integers(0, 2**32))
def test_masked_words_anywhere_below_t_add_up_mod_t(sites: int, radix: int, seed: int) -> None:
    hospitals = Hospitals.of(radix=radix, sites=sites, count=100)
    t = hospitals.packing.plain_modulus
    generator = np.random.Generator(np.random.PCG64(seed))
    words_KW = generator.integers(0, t, (sites, 1000), dtype=np.uint64)
    total = CiphertextSum(hospitals.packing, 1000)
    residues = summed(total, [hospitals.key.encrypt(words_W) for words_W in words_KW])
    assert np.array_equal(hospitals.key.decrypt(residues, 1000), words_KW.sum(axis=0) % t)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_noise_bound_is_where_the_parameters_put_it(sign: int) -> None:
    sites = 2
    hospitals = Hospitals.of(radix=digit_radix(16, 30), sites=sites, count=8_000, max_sites=30)
    values_KN = values_of(hospitals, 5, 2**15 - 1)
    residues = summed(hospitals.new_sum(), hospitals.contributions(values_KN))
    q, t = hospitals.packing.modulus, hospitals.packing.plain_modulus

    def shifted(noise: int) -> bytes:
        opened = Opened.of(hospitals, residues)
        opened.first += np.uint64(noise if sign > 0 else q - noise)
        return opened.closed()

    # All that 28 more contributions can bring, or anything else below q / 2t in the worst case.
    largest = q // (2 * t) - 43
    assert largest >= 28 * 21.5
    assert np.array_equal(hospitals.read(shifted(largest)), values_KN.sum(axis=0))
    with pytest.raises(IntegrityError):
        hospitals.read(shifted(q // (2 * t) + 44))


@pytest.fixture(scope="module")
def process() -> Iterator[SumProcess]:
    with SumProcess() as running:
        yield running


@pytest.fixture(scope="module")
def hospitals() -> Hospitals:
    return Hospitals.of(radix=2541, sites=3, count=20_000, max_sites=4)


def test_a_process_adds_as_this_one_does(process: SumProcess, hospitals: Hospitals) -> None:
    values_KN = values_of(hospitals, 1, 127)
    payloads = hospitals.contributions(values_KN)
    remote = process.sum(hospitals.packing, hospitals.num_words)
    assert summed(remote, payloads) == summed(hospitals.new_sum(), payloads)
    assert np.array_equal(hospitals.read(remote.residues()), values_KN.sum(axis=0))


def test_one_process_holds_several_sums_and_forgets_closed_ones(
    process: SumProcess, hospitals: Hospitals
) -> None:
    small = Hospitals.of(radix=2**31, sites=3, count=5)
    first = process.sum(hospitals.packing, hospitals.num_words)
    second = process.sum(small.packing, small.num_words)
    values_KN = values_of(hospitals, 2, 127)
    other_KN = values_of(small, 3, 2**28)
    pairs = list(
        zip(hospitals.contributions(values_KN), small.contributions(other_KN), strict=True)
    )
    with ThreadPoolExecutor(4) as threads:
        for pair in pairs:
            list(threads.map(lambda total, payload: total.add(payload), (first, second), pair))
    assert np.array_equal(hospitals.read(first.residues()), values_KN.sum(axis=0))
    first.close()
    assert np.array_equal(small.read(second.residues()), other_KN.sum(axis=0))
    third = process.sum(small.packing, small.num_words)
    assert summed(third, [payload for _, payload in pairs]) == second.residues()


def bad_payloads(hospitals: Hospitals) -> dict[str, bytes]:
    good = hospitals.contribution(0, np.zeros(hospitals.count, dtype=np.int64))
    opened = Opened.of(hospitals, summed(hospitals.new_sum(), [good]))
    seeds = len(good) - opened.shape.first_size
    words = opened.first.size
    high = np.full(words, hospitals.packing.modulus, dtype=np.uint64)
    # A whole ciphertext as SEAL serialises it, with c1 = 0.
    transparent = bytes.fromhex("5ea11004030000008000010000000000") + bytes(2 * 8 * 4096 + 97 - 16)
    return {
        "empty": b"",
        "truncated": good[:-1],
        "too long": good + b"\0",
        "a key": hospitals.key.to_bytes(),
        "residues": opened.closed(),
        "residues not below q": good[:seeds] + pack_bits(high, opened.shape.bits),
        "ones": b"\xff" * len(good),
        "transparent": transparent,
        "explicit c1": transparent + good,
    }


@pytest.mark.parametrize("where", ["here", "process"])
def test_bad_contributions_are_refused_by_name_and_change_nothing(
    where: str, process: SumProcess, hospitals: Hospitals
) -> None:
    packing, num_words = hospitals.packing, hospitals.num_words
    total = process.sum(packing, num_words) if where == "process" else hospitals.new_sum()
    values_KN = values_of(hospitals, 4, 127)
    payloads = hospitals.contributions(values_KN)
    with pytest.raises(IntegrityError):
        total.residues()
    for bad in bad_payloads(hospitals).values():
        with pytest.raises(IntegrityError, match="contribution of Mercy"):
            total.add(bad, sender="Mercy")
    assert np.array_equal(hospitals.read(summed(total, payloads)), values_KN.sum(axis=0))
    total.add(payloads[0])
    with pytest.raises(IntegrityError, match=r"contribution of Mercy: .* at most 4"):
        total.add(payloads[0], sender="Mercy")


def test_weak_parameters_are_refused(process: SumProcess, hospitals: Hospitals) -> None:
    weak = replace(hospitals.packing, max_sites=1000)
    for opened in (process.sum, CiphertextSum):
        with pytest.raises(InputError, match="43"):
            opened(weak, 100)
        with pytest.raises(InputError, match="at least one word"):
            opened(hospitals.packing, 0)


def test_a_killed_child_is_a_clear_error_and_is_replaced(hospitals: Hospitals) -> None:
    payloads = hospitals.contributions(values_of(hospitals, 6, 127))
    with SumProcess() as process:
        lost = process.sum(hospitals.packing, hospitals.num_words)
        lost.add(payloads[0])
        first_pid = process.pid
        assert first_pid is not None
        os.kill(first_pid, signal.SIGKILL)
        with pytest.raises(IntegrityError, match=r"contribution of Mercy: .*process ended"):
            lost.add(payloads[1], sender="Mercy")
        for use in (lost.residues, lost.close):
            with pytest.raises(IntegrityError, match="process ended"):
                use()
        fresh = process.sum(hospitals.packing, hospitals.num_words)
        assert process.pid != first_pid
        assert summed(fresh, payloads) == summed(hospitals.new_sum(), payloads)
        with pytest.raises(IntegrityError, match="process ended"):
            lost.residues()
        last_pid = process.pid
    assert process.pid is None
    assert last_pid is not None
    assert not Path(f"/proc/{last_pid}").exists()


def test_a_child_that_does_not_answer_is_ended(hospitals: Hospitals) -> None:
    with SumProcess(timeout_s=30) as process:
        stuck = process.sum(hospitals.packing, hospitals.num_words)
        process._timeout_s = 0.3
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(IntegrityError, match="process ended"):
            stuck.residues()


def test_a_child_cannot_outgrow_its_memory(hospitals: Hospitals) -> None:
    with SumProcess(memory_bytes=300 << 20) as process:
        with pytest.raises(IntegrityError, match="process ended"):
            process.sum(hospitals.packing, 100_000_000)
        assert process.sum(hospitals.packing, 1000)


def test_the_child_inherits_nothing(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOSPITAL_PASSWORD", "secret")
    with (tmp_path / "key").open("wb") as held, SumProcess() as process:
        os.set_inheritable(held.fileno(), True)
        process.sum(hospitals.packing, 100)
        root = Path(f"/proc/{process.pid}")
        assert b"HOSPITAL_PASSWORD" not in (root / "environ").read_bytes()
        links = {link.readlink().as_posix() for link in (root / "fd").iterdir()}
        assert str(held.name) not in links


def test_who_interrupts_in_a_terminal_interrupts_no_child() -> None:
    with SumProcess() as process:
        assert process.pid is not None
        assert os.getsid(process.pid) == process.pid


def test_a_public_import_brings_no_secret_role_and_little_else() -> None:
    program = (
        "import sys; import privacy.he.child; print('child', *sys.modules);"
        "import privacy.he.sum, privacy.he.parameters, privacy.he.codec;"
        "print('sum', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    child, public = (set(line.split()) for line in done.stdout.splitlines())
    secrets = {"privacy.he.secret", "privacy.masks", "privacy.envelope", "torch", "opacus"}
    assert not secrets & public
    assert not {"cryptography", "protocol.jobs", "privacy.he.parameters", "yaml"} & child


ORPHAN = """
import sys, time
from privacy.he.parameters import parameters_for
from privacy.he.sum import SumProcess
with SumProcess() as process:
    process.sum(parameters_for(radix=2541, max_sites=3), 100)
    print(process.pid, flush=True)
    time.sleep(60)
"""


def test_the_child_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "zombie" not in status(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return "zombie"
