from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privacy.budget import Caps
from privacy.composition import displayed_epsilons
from privacy.ledger import Ledger
from privacy.ledger_heads import CONTEXT, open_head, sign_head
from protocol.canonical import to_canonical
from protocol.errors import BudgetError, Code, InputError, IntegrityError, RefusalError
from protocol.signing import SigningKey
from tests.privacy.ledgers import BIG, CAPS, KEY, NOW, charge, copy_of, gaussian_delta, job, mu_of

DIGEST = "ab" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path, KEY, clock=lambda: NOW) as opened:
        yield opened


def spent(ledger: Ledger, population: str = "cardiology") -> tuple[float, float]:
    return ledger.spent(population=population, partition="train", delta=1e-5)


def release(ledger: Ledger, attempt: int, *, number: int = 1, epoch: int = 1) -> None:
    ledger.record_release(
        job=job(number), epoch=epoch, attempt=attempt, purpose="update", digest=DIGEST
    )


def test_464_rounds_are_granted_over_jobs_and_restarts_and_the_465th_is_not(path: Path) -> None:
    rounds = [100, 100, 1, 63, 200]
    for number, steps in enumerate(rounds):
        with Ledger.open(path, KEY) as ledger:
            ledger.reserve([charge(number, steps)], CAPS, NOW)
    with Ledger.open(path, KEY) as ledger:
        before = spent(ledger)
        with pytest.raises(BudgetError) as refusal:
            ledger.reserve([charge(99, 1)], CAPS, NOW)
        assert spent(ledger) == before
        jobs = ledger.jobs()
    mu = mu_of([(30.0, sum(rounds))])
    assert gaussian_delta(mu, before[0]) == pytest.approx(0.99e-5, rel=1e-6)
    message = str(refusal.value)
    assert "epsilon <= 3 " in message
    assert f"spent {before[0]:.6g}" in message
    assert f"asked for {displayed_epsilons([charge()], 1e-5)[0]:.6g}" in message
    assert [account.status for account in jobs] == ["reserved"] * 5 + ["refused"]


def test_a_reservation_counts_in_full_until_it_is_settled(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 12)], CAPS, NOW)
    assert spent(ledger) == displayed_epsilons([charge(1, 12)], 1e-5)
    for attempt in (1, 2, 4):
        release(ledger, attempt)
    assert spent(ledger) == displayed_epsilons([charge(1, 12)], 1e-5)
    assert ledger.settle(job(1), NOW) == {"update": 3}
    assert spent(ledger) == displayed_epsilons([charge(1, 3)], 1e-5)
    assert ledger.finished(job(1))
    assert ledger.settle(job(1), NOW) == {"update": 3}
    assert ledger.head == ledger.report().head


def test_a_crash_leaves_the_reservation_which_counts_as_spent(
    path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    ledger.reserve([charge(1, 400)], CAPS, NOW)
    release(ledger, 1)
    with Ledger.open(copy_of(path, tmp_path / "after"), KEY) as after:
        assert spent(after) == displayed_epsilons([charge(1, 400)], 1e-5)
        with pytest.raises(BudgetError):
            after.reserve([charge(2, 65)], CAPS, NOW)
        # The job goes on where it was, or gives back what it did not use.
        release(after, 2, epoch=2)
        after.settle(job(1), NOW)
        after.reserve([charge(2, 462)], CAPS, NOW)


def test_a_settlement_may_count_more_than_was_released_but_not_less(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 12), charge(1, 3, partition="test")], CAPS, NOW)
    release(ledger, 1)
    with pytest.raises(InputError, match="1 \\(released\\) to 12 \\(reserved\\)"):
        ledger.settle(job(1), NOW, {"update": 0, "evaluation": 0})
    ledger.settle(job(1), NOW, {"update": 5, "evaluation": 0})
    assert spent(ledger) == displayed_epsilons([charge(1, 5)], 1e-5)
    assert ledger.spent(population="cardiology", partition="test", delta=1e-5) == (0.0, 0.0)


def test_the_same_job_is_reserved_once(ledger: Ledger) -> None:
    charges = [charge(1, 12), charge(1, 3, partition="test")]
    ids = ledger.reserve(charges, CAPS, NOW)
    assert ids == ("2/update", "2/evaluation")
    assert ledger.reserve(charges, CAPS, NOW) == ids
    assert ledger.report().rows == 2
    with pytest.raises(BudgetError, match="other numbers"):
        ledger.reserve(charges[:1], CAPS, NOW)
    assert ledger.report().rows == 2


def test_a_refused_job_leaves_a_row_and_may_release_nothing(ledger: Ledger) -> None:
    with pytest.raises(BudgetError):
        ledger.reserve([charge(1, 600)], CAPS, NOW)
    assert ledger.report().rows == 2
    assert spent(ledger) == (0.0, 0.0)
    assert not ledger.finished(job(1))
    with pytest.raises(BudgetError, match="no privacy budget is reserved"):
        release(ledger, 1)
    for change in (ledger.settle, ledger.void):
        with pytest.raises(BudgetError):
            change(job(1), NOW)
    # A hospital may raise its cap later.
    ledger.reserve([charge(1, 600)], BIG, NOW)
    release(ledger, 1)


def test_records_are_read_only_behind_a_reservation(ledger: Ledger) -> None:
    read: list[int] = []

    def train(number: int, steps: int) -> None:
        ledger.reserve([charge(number, steps)], CAPS, NOW)
        read.append(number)

    train(1, 464)
    with pytest.raises(BudgetError):
        train(2, 1)
    assert read == [1]


def test_void_gives_everything_back_and_only_before_a_release(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 464)], CAPS, NOW)
    ledger.void(job(1), NOW)
    ledger.void(job(1))
    assert spent(ledger) == (0.0, 0.0)
    ledger.reserve([charge(2, 464)], CAPS, NOW)
    release(ledger, 1, number=2)
    with pytest.raises(BudgetError, match="cannot be void"):
        ledger.void(job(2), NOW)
    assert ledger.report().rows == 5


def test_releases_are_unique_ordered_and_limited(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 3)], CAPS, NOW)
    assert ledger.attempts(job(1)) == ledger.attempts(job(9)) == 0
    release(ledger, 1)
    with pytest.raises(IntegrityError, match="released before"):
        release(ledger, 1)
    release(ledger, 2, epoch=2)
    with pytest.raises(RefusalError, match="does not go forward"):
        release(ledger, 3, epoch=1)
    release(ledger, 3, epoch=2)
    assert ledger.attempts(job(1)) == 3
    with pytest.raises(RefusalError, match="every reserved attempt"):
        release(ledger, 4, epoch=2)
    with pytest.raises(InputError, match="digest"):
        ledger.record_release(job=job(1), epoch=3, attempt=3, purpose="update", digest="?")
    assert ledger.report().rows == 5


def test_attempts_survive_a_restart(path: Path) -> None:
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge(1, 3)], CAPS, NOW)
        release(ledger, 1)
    with Ledger.open(path, KEY) as ledger:
        assert ledger.attempts(job(1)) == 1
        with pytest.raises(IntegrityError):
            release(ledger, 1)
        release(ledger, 2, epoch=2)


def test_a_finished_job_releases_nothing_more(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 3)], CAPS, NOW)
    assert not ledger.finished(job(1))
    ledger.mark_finished(job(1))
    ledger.mark_finished(job(1))
    assert ledger.finished(job(1))
    with pytest.raises(RefusalError, match="is over"):
        release(ledger, 1)
    with pytest.raises(RefusalError, match="is over"):
        ledger.reserve([charge(1, 3)], CAPS, NOW)
    # What it reserved stays spent until it is settled.
    assert spent(ledger) == displayed_epsilons([charge(1, 3)], 1e-5)
    ledger.settle(job(1), NOW)
    assert spent(ledger) == (0.0, 0.0)


def test_heterogeneous_events_compose_by_population_and_partition(ledger: Ledger) -> None:
    kinds = [
        charge(1, 10, sigma=20.0),
        charge(2, 5, sigma=35.0, own=9.0),
        charge(3, 40, sigma=3.0, q=0.05),
        charge(4, 7, population="stroke"),
    ]
    for one in kinds:
        ledger.reserve([one, charge(int(one.job, 16), 1, partition="test")], BIG, NOW)
    assert spent(ledger) == displayed_epsilons(kinds[:3], 1e-5)
    assert spent(ledger, "stroke") == displayed_epsilons(kinds[3:], 1e-5)
    test = ledger.spent(population="cardiology", partition="test", delta=1e-5)
    assert test == displayed_epsilons([charge(n, 1, partition="test") for n in range(4)], 1e-5)
    assert spent(ledger, "nobody") == (0.0, 0.0)


def test_once_sub_sampled_events_are_in_the_renyi_filter_decides(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 420)], CAPS, NOW)
    # By the tightest count this would fit; the filter that is valid for adaptive jobs says no.
    tiny = charge(2, 1, sigma=50.0, q=1e-4)
    assert displayed_epsilons([charge(1, 420), tiny], 1e-5)[0] < 2.9
    with pytest.raises(BudgetError):
        ledger.reserve([tiny], CAPS, NOW)


def test_a_job_without_noise_needs_caps_without_end_and_spends_them(ledger: Ledger) -> None:
    ledger.reserve([charge(1, 5, sigma=0.0)], Caps(epsilon=math.inf, epsilon_worst=math.inf,
                                                   delta=1e-5), NOW)  # fmt: skip
    assert spent(ledger) == (math.inf, math.inf)
    with pytest.raises(BudgetError, match="spent inf"):
        ledger.reserve([charge(2)], CAPS, NOW)
    assert ledger.verify().balances[0].epsilon == math.inf


def test_a_split_key_is_made_once_and_never_changes(path: Path) -> None:
    with Ledger.open(path, KEY) as ledger:
        cardiology, stroke = ledger.split_key("cardiology"), ledger.split_key("stroke")
        assert len(cardiology) == 32
        assert cardiology != stroke
        rows = ledger.report().rows
        assert ledger.split_key("cardiology") == cardiology
        assert ledger.report().rows == rows
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge()], CAPS, NOW)
        assert ledger.split_key("stroke") == stroke
        ledger.verify()


def test_heads_grow_and_every_statement_of_them_is_an_echo(ledger: Ledger) -> None:
    statements = [ledger.statement()]
    for number in range(3):
        ledger.reserve([charge(number)], CAPS, NOW)
        statements.append(ledger.statement())
    rows = ledger.report().rows
    assert all(ledger.check_echo(statement) for statement in statements)
    assert ledger.report().rows == rows


def test_a_statement_tells_others_nothing_of_the_ledger(ledger: Ledger) -> None:
    before = [ledger.statement(), ledger.statement()]
    ledger.reserve([charge()], CAPS, NOW)
    told = [open_head(one, [KEY.public]) for one in (*before, ledger.statement())]
    assert len({one.mark for one in told if one is not None}) == 3
    assert len({one.nonce for one in told if one is not None}) == 3
    assert len({len(one) for one in (*before, ledger.statement())}) == 1
    assert not any(ledger.head.encode() in one for one in (*before, ledger.statement()))


def test_a_ledger_from_a_backup_blocks_until_the_right_file_is_back(
    path: Path, tmp_path: Path
) -> None:
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge(1, 3)], CAPS, NOW)
        old = ledger.statement()
        backup = copy_of(path, tmp_path / "backup")
        ledger.reserve([charge(2, 300)], CAPS, NOW)
        echo = ledger.statement()
    with Ledger.open(backup, KEY) as restored:
        with pytest.raises(RefusalError, match="old copy") as error:
            restored.check_echo(echo)
        assert error.value.code == Code.BUDGET
        assert "put the newest copy" in str(error.value)
        assert restored.report().blocked
    with Ledger.open(backup, KEY) as restored:
        for attempt in (
            lambda: restored.reserve([charge(3)], CAPS, NOW),
            lambda: release(restored, 1),
            lambda: restored.settle(job(1), NOW),
            lambda: restored.void(job(1)),
            lambda: restored.mark_finished(job(1)),
            lambda: restored.split_key("cardiology"),
            lambda: restored.check_echo(echo),
            # Neither an older word of its own nor nonsense lifts what was found.
            lambda: restored.check_echo(old),
            lambda: restored.check_echo(b"nonsense"),
            lambda: restored.check_echo(restored.statement()),
        ):
            with pytest.raises(RefusalError, match="old copy"):
                attempt()
        # The missing head is still what the message says, and no row but the block was added.
        assert restored.report().rows == 3
    with Ledger.open(path, KEY) as ledger:
        assert ledger.check_echo(echo)
        ledger.reserve([charge(3)], CAPS, NOW)
        assert not ledger.verify().blocked


def test_a_ledger_that_took_another_way_blocks(path: Path, tmp_path: Path) -> None:
    with Ledger.open(path, KEY) as ledger:
        backup = copy_of(path, tmp_path / "backup")
        ledger.reserve([charge(1)], CAPS, NOW)
        echo = ledger.statement()
    with Ledger.open(backup, KEY) as restored:
        restored.reserve([charge(2)], CAPS, NOW)
        with pytest.raises(RefusalError, match="old copy"):
            restored.check_echo(echo)


def test_an_echo_that_the_node_did_not_sign_blocks_nothing(ledger: Ledger) -> None:
    ahead = "e" * 64
    other = SigningKey.generate()
    for echo in (
        b"",
        b"nonsense",
        sign_head(ahead, other),
        KEY.sign_attached("job", to_canonical(open_head(sign_head(ahead, KEY), [KEY.public]))),
        KEY.sign_attached(CONTEXT, b"{}"),
        sign_head(ahead, KEY)[:-1],
        sign_head(ahead, KEY)[:-1] + b"?",
    ):
        assert not ledger.check_echo(echo)
    assert ledger.report().rows == 1
    ledger.reserve([charge()], CAPS, NOW)
    with pytest.raises(RefusalError, match="old copy"):
        ledger.check_echo(sign_head(ahead, KEY))


def test_a_head_signed_before_the_key_changed_is_still_the_nodes_own(ledger: Ledger) -> None:
    before = ledger.statement()
    ledger.rotate(SigningKey.generate())
    assert ledger.check_echo(before)
    assert ledger.check_echo(ledger.statement())


def test_without_the_key_a_ledger_is_for_reading(path: Path, ledger: Ledger) -> None:
    ledger.reserve([charge(1, 5)], CAPS, NOW)
    with Ledger.open(path, None) as reader:
        assert spent(reader) == spent(ledger)
        assert reader.verify() == ledger.verify()
        ledger.reserve([charge(2, 5)], CAPS, NOW)
        assert reader.head == ledger.head
        for change in (
            lambda: reader.reserve([charge(2)], CAPS, NOW),
            lambda: reader.split_key("cardiology"),
            lambda: reader.check_echo(b""),
            reader.statement,
        ):
            with pytest.raises(InputError, match="reading only"):
                change()


def test_a_new_key_takes_the_chain_over(path: Path) -> None:
    new = SigningKey.generate()
    with Ledger.open(path, KEY) as ledger, Ledger.open(path, KEY) as left_behind:
        ledger.reserve([charge(1)], CAPS, NOW)
        ledger.rotate(new)
        ledger.reserve([charge(2)], CAPS, NOW)
        with pytest.raises(InputError, match="another key"):
            left_behind.reserve([charge(4)], CAPS, NOW)
    with pytest.raises(InputError, match="another key"):
        Ledger.open(path, KEY)
    with Ledger.open(path, new) as ledger:
        ledger.reserve([charge(3)], CAPS, NOW)
        report = ledger.verify()
    assert report.signer == new.fingerprint
    assert report.rows == 5


def test_history_has_both_epsilons_after_each_change(ledger: Ledger) -> None:
    for day, number in enumerate((1, 2, 3)):
        ledger.reserve([charge(number, 10)], CAPS, NOW + timedelta(days=day))
    release(ledger, 1)
    ledger.void(job(2), NOW + timedelta(days=4))
    ledger.settle(job(1), NOW + timedelta(days=5))
    points = ledger.history()["cardiology", "train"]
    for point, steps in zip(points, (10, 20, 30, 20, 11), strict=True):
        assert (point.epsilon, point.epsilon_worst) == displayed_epsilons([charge(1, steps)], 1e-5)
        assert point.caps == CAPS
    assert [(point.at - NOW).days for point in points] == [0, 1, 2, 4, 5]


def test_an_export_holds_the_chain_and_no_split_key(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve([charge()], CAPS, NOW)
    key = ledger.split_key("cardiology")
    target = tmp_path / "export.json"
    target.write_text("older")
    ledger.export(target)
    document = json.loads(target.read_text())
    assert [row["hash"] for row in document["rows"]][-1] == ledger.head
    assert target.stat().st_mode & 0o777 == 0o600
    assert key.hex() not in target.read_text()
    with pytest.raises(InputError, match="cannot be written"):
        ledger.export(tmp_path / "nowhere" / "export.json")


def test_rows_whose_caller_names_no_time_have_the_present(path: Path, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with Ledger.open(path, KEY) as ledger:
        ledger.reserve([charge()], CAPS, NOW)
        release(ledger, 1)
        ledger.export(tmp_path / "export.json")
    rows = json.loads((tmp_path / "export.json").read_text())["rows"]
    begun, reserved, released = (
        datetime.fromisoformat(json.loads(row["body"])["time"]) for row in rows
    )
    assert before <= begun <= released <= datetime.now(UTC)
    assert reserved == NOW
