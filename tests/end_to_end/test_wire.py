"""Nothing of a single hospital is on the wire, not even for whoever breaks TLS."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from client.admission import Admitted
from client.hospital import Hospital
from client.training import (
    Local,
    _gradient_sum,
    contribution,
    evaluation_counts,
    local_update,
    plain_counts,
    pooled_metrics,
    total_of,
)
from learning.task import load_task
from privacy.plan import DpPlan, Partition
from protocol.jobs import Job
from protocol.tensors import weights_digest
from simulations.consortium import open_hospital
from strategies.base import State, strategy_of
from tests.end_to_end import seeded_node
from tests.end_to_end.federation import HOSPITALS, Federation, federation
from tests.end_to_end.wire import Tap, records, tapped

SEED = 5
RUN = 4
TLS_HANDSHAKE, TLS_DATA = 22, 23

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Tapped:
    """A federation whose hospitals connect through a tap, and two jobs that it has run."""

    place: Federation
    tap: Tap
    private: bytes
    clear: bytes


@pytest.fixture(scope="module")
def tapped_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tapped]:
    folder = tmp_path_factory.mktemp("tapped")
    made: list[Federation] = []
    with tapped(lambda: made[0].server / "tls", lambda: made[0].port) as tap:
        place = Federation(
            folder,
            door=tap.outer.port,
            policy={"modes": ["distributed", "none"], "clear_runs": True},
            command=(sys.executable, "-P", seeded_node.__file__, str(SEED)),
        )
        made.append(place)
        with federation(place):
            hidden = {"metrics": False, "model": False}
            place.complete(place.job("private", training={"rounds": 2}, publication=hidden))
            private = tap.inner.all()
            # The same without noise and encryption, to see that what is looked for is found there.
            place.complete(
                place.job(
                    "clear",
                    training={"rounds": 1, "spare_attempts": 0},
                    privacy={"mode": "none", "epsilon": None},
                    encryption={"scheme": "none", "masks": False},
                    publication=hidden,
                )
            )
        yield Tapped(place, tap, private, tap.inner.all())


def test_the_network_sees_tls_to_one_port_and_nothing_else(tapped_runs: Tapped) -> None:
    talks = tapped_runs.tap.outer.talks
    assert len(talks) >= len(HOSPITALS)
    for talk in talks:
        for stream in (talk.said, talk.answered):
            kinds = records(bytes(stream))
            assert not kinds or kinds[0] == TLS_HANDSHAKE
    assert any(TLS_DATA in records(bytes(talk.answered)) for talk in talks)
    digest = tapped_runs.place.kept("private").digest.encode()
    assert digest not in tapped_runs.tap.outer.all()
    assert digest in tapped_runs.private


def test_without_tls_nothing_of_a_single_hospital_is_seen(tapped_runs: Tapped) -> None:
    place, job = tapped_runs.place, tapped_runs.place.kept("private").job
    replica = Replica(place, job)
    vectors = replica.run()

    # What is looked for is what happened: the models in the stores say so.
    held = set(place.models("private").values())
    assert held == {weights_digest(replica.state.weights)}
    for what, vector in vectors.items():
        assert not found(vector, tapped_runs.private), what
    public = job.to_bytes()
    for name, numbers in replica.numbers.items():
        # What the job says to everybody, such as a timeout of 60 s, may be equal by chance.
        secret = [number for number in numbers if not told(number, public)]
        assert len(secret) >= len(numbers) // 2
        for number in secret:
            assert not told(number, tapped_runs.private), (name, number)


def test_in_a_clear_run_the_same_search_finds_updates(tapped_runs: Tapped) -> None:
    place, job = tapped_runs.place, tapped_runs.place.kept("clear").job
    replica = Replica(place, job)
    for name in HOSPITALS:
        with replica.opened(name) as hospital:
            update = local_update(replica.local(hospital, "train", 1, "update"), replica.state)
            assert found(update, tapped_runs.clear), name


class Replica:
    """The job once more, in plain, with every hospital's own draws.

    Args:
        place: The federation that ran it, its nodes seeded.
        job: The job.
    """

    def __init__(self, place: Federation, job: Job) -> None:
        self._place = place
        self._job = job
        task = load_task(job.task, job.schema)
        strategy = strategy_of(job, task.layout().size)
        self._admitted = Admitted(job, task, strategy)
        self.state: State = strategy.init(task.initial(job.training.seed))
        self.numbers: dict[str, list[float]] = {}

    def run(self) -> dict[str, npt.NDArray[np.generic]]:
        """Every plain vector of every hospital, and the weights, by what they are."""
        job, admitted = self._job, self._admitted
        vectors: dict[str, npt.NDArray[np.generic]] = {}
        for round_, attempt in enumerate(self._attempts("update"), start=1):
            values = []
            for name in HOSPITALS:
                with self.opened(name) as hospital:
                    local = self.local(hospital, "train", attempt, "update")
                    values.append(contribution(local, self.state))
                    plain = _gradient_sum(local, self.state.weights)
                vectors[f"{name}: update {round_}"] = plain
                vectors[f"{name}: mean update {round_}"] = plain / len(local.records)
                vectors[f"{name}: noised update {round_}"] = values[-1]
                scaled = values[-1] / job.privacy.update.scale
                vectors[f"{name}: scaled update {round_}"] = scaled
            total = total_of(job, np.sum(values, axis=0), HOSPITALS, "gradient")
            self.state = admitted.strategy.step(self.state, total)
            vectors[f"weights after round {round_}"] = self.state.weights
        (attempt,) = self._attempts("evaluation")
        for name in HOSPITALS:
            with self.opened(name) as hospital:
                local = self.local(hospital, "test", attempt, "evaluation")
                counts = plain_counts(local, self.state.weights)
                vectors[f"{name}: counts"] = counts
                vectors[f"{name}: noised counts"] = evaluation_counts(local, self.state.weights)
                metrics = pooled_metrics(admitted, local.plan, counts, 1)
                split = hospital.split(job.dataset, admitted.task, cache="")
            sizes = [float(split.train.num_patients), float(split.test.num_patients)]
            measured = [metric.value for metric in metrics.values()]
            self.numbers[name] = sizes + [value for value in measured if not value.is_integer()]
        return vectors

    def opened(self, name: str) -> Hospital:
        """A hospital, as its seeded node opened it."""
        return open_hospital(self._place.folder, name, noise_seed=SEED, split_seed=SEED)

    def local(self, hospital: Hospital, side: Partition, attempt: int, purpose: str) -> Local:
        """What the hospital trained or counted with in an attempt."""
        job = self._job
        split = hospital.split(job.dataset, self._admitted.task, cache=job.digest)
        return Local(
            admitted=self._admitted,
            site=hospital.name,
            plan=DpPlan.of(job.privacy, side, len(HOSPITALS)),
            records=split.train if side == "train" else split.test,
            entropy=hospital.entropy(job.dataset, job.name, str(attempt), purpose),
        )

    def _attempts(self, purpose: str) -> list[int]:
        """The attempts of what was released, as a journal tells."""
        entries = [line["document"] for line in self._place.journal(HOSPITALS[0])]
        fields = [entry["fields"] for entry in entries if entry["kind"] == "release"]
        return [
            int(one["attempt"])
            for one in fields
            if one["job"] == self._job.digest and one["purpose"] == purpose
        ]


def found(vector: npt.NDArray[np.generic], capture: bytes) -> bool:
    """Whether four values of a vector in a row are in a capture, in any usual encoding."""
    whole = ("<i8", ">i8", "<i4", ">i4") if vector.dtype.kind == "i" else ()
    kinds = ("<f8", ">f8", "<f4", ">f4", *whole)
    for kind in kinds:
        encoded = np.ascontiguousarray(vector.astype(kind))
        for start in range(len(encoded) - RUN + 1):
            window = encoded[start : start + RUN]
            # Equal values, such as zeros, are everywhere.
            if len(set(window.tolist())) == RUN and window.tobytes() in capture:
                return True
    return False


def told(number: float, capture: bytes) -> bool:
    """Whether a single number is in a capture, as float64 or as the text of a document."""
    texts = [repr(number), number.hex()] + ([str(int(number))] if number.is_integer() else [])
    words = "|".join(re.escape(text) for text in texts)
    return (
        any(np.array(number, kind).tobytes() in capture for kind in ("<f8", ">f8"))
        or re.search(rf'[:,\["](?:{words})[,}}\]"]'.encode(), capture) is not None
    )


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    vector = np.arange(9) / 7
    for kind in ("<f8", ">f4"):
        assert found(vector, b"x" + vector[2:6].astype(kind).tobytes())
    assert not found(vector, vector[2:5].tobytes())
    assert told(143.0, b'{"size":143}')
    assert not told(143.0, b'{"size":1430}')
    assert records(b"\x16\x03\x01\x00\x02ab\x17\x03\x03\x00\x01c") == [22, 23]
    with pytest.raises(ValueError, match="TLS"):
        records(b"POST / HTTP/1.1\r\n")
