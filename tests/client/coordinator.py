"""A coordinator in one page: it begins a new epoch whenever a message of the old one fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocol.messages import Enrolled, Packet, Refused, Stepped, Stop, Stopped
from tests.client.stage import Epoch, Given, Stage

QUORUM = 2


@dataclass
class Coordinator:
    """Runs a stage's job to its end.

    Args:
        stage: The hospitals.
        watch: Called with the number of the message, who gets it, and what answers; what it
            returns is what arrives, None where the answer is lost.
    """

    stage: Stage
    watch: Callable[[int, str, Callable[[], Packet]], Packet | None] = lambda _, __, send: send()
    messages: int = 0
    epoch: Epoch | None = None
    number: int = 0
    attempt: int = 0
    round: int = 1
    sums: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    given: Given | None = None
    counted: bool = False

    def run(self, *, patience: int = 12) -> dict[str, Stepped]:
        """All members' answers to the finish.

        Raises:
            TimeoutError: It took more attempts than that.
        """
        for _ in range(patience):
            if self.epoch is None and not self._begin():
                continue
            done = self._attempt()
            if done is not None:
                self._stop()
                return done
        raise TimeoutError

    def _send(self, name: str, send: Callable[[], Packet], cls: type[Any]) -> Any | None:
        self.messages += 1
        packet = self.watch(self.messages, name, send)
        if packet is None or packet.kind == Refused.KIND:
            return None
        return self.stage.read(name, packet, cls)

    def _begin(self) -> bool:
        stage = self.stage
        standing: dict[str, Any] = {}
        for name in stage.hospitals:

            def send(name: str = name) -> Packet:
                return stage.say(name, stage.enrol_body())

            standing[name] = self._send(name, send, Enrolled)
        if None in standing.values():
            return False
        steps = {name: one.step for name, one in standing.items()}
        base = max(s for s in steps.values() if list(steps.values()).count(s) >= QUORUM)
        self.number = max(self.number, *(one.epoch for one in standing.values())) + 1
        self.attempt = max(self.attempt, *(one.attempt for one in standing.values()))
        self.epoch = stage.begin(self.number, {n: one.member for n, one in standing.items()})
        if self.epoch is None:
            return False
        # Whoever did not hear the counts has them from those who finished, if these are enough.
        finished = [name for name, one in standing.items() if one.finished]
        behind = [
            name
            for name, step in steps.items()
            if step != base or (len(finished) >= QUORUM and name not in finished)
        ]
        self.given = None
        if behind:
            self.given = stage.share(self.epoch, self.attempt + 1, base, behind)
        self.sums, self.round = {}, base + 1
        rounds = stage.job.training.rounds
        self.counted = base == rounds and bool(finished)
        return True

    def _attempt(self) -> dict[str, Stepped] | None:
        """One attempt; the answers if it was the last."""
        epoch, job = self.epoch, self.stage.job
        assert epoch is not None
        training = self.round <= job.training.rounds
        evaluating = not training and not self.counted and job.privacy.evaluation is not None
        self.attempt += 1
        body: dict[str, Any] = {
            "round": self.round,
            "train": training,
            "evaluate": evaluating,
            "finish": not training and not evaluating,
        }
        names = tuple(epoch.names)
        for purpose, blob in (("update", "total"), ("evaluation", "counts")):
            if purpose in self.sums:
                who = "contributors" if blob == "total" else "counts_contributors"
                number, data = self.sums[purpose]
                body |= {blob: data, f"{blob}_attempt": number, who: names}
        replies: dict[str, Any] = {}
        for name in self.stage.hospitals:

            def send(name: str = name) -> Packet:
                return self.stage.step(epoch, self.attempt, name, given=self.given, **body)

            replies[name] = self._send(name, send, Stepped)
            # What has been summed is finished by all who can, before anybody comes back.
            if replies[name] is None and not body["finish"]:
                self.epoch = None
                return None
        if None in replies.values():
            self.epoch = None
            return None
        epoch.new, self.given = False, None
        self._take(epoch, body, replies)
        return replies if body["finish"] else None

    def _take(self, epoch: Epoch, body: Mapping[str, Any], replies: Mapping[str, Stepped]) -> None:
        assert len({reply.weights_tag for reply in replies.values()}) == 1
        self.sums = {}
        for purpose, asked in (("update", body["train"]), ("evaluation", body["evaluate"])):
            if asked:
                self.sums[purpose] = self.attempt, self.stage.add(epoch, purpose, replies)
        self.counted = self.counted or bool(body["evaluate"])
        self.round += int(body["train"])

    def _stop(self) -> None:
        for name in self.stage.hospitals:
            packet = self.stage.say(name, Stop(reason="the job is over"))
            self.stage.read(name, packet, Stopped)
