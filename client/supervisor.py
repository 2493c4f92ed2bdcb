"""The node's loop: claim a task, verify it, let the job's process answer, send the answer back.

It holds the hospital's signing key only to sign refusals, and the journal to write them down; it
reads no record and computes nothing. One message is answered at a time, as Flower's node hands
out one at a time, whichever job it is of.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from client.activity import Activity
from client.children import ChildGoneError, Nursery
from client.gate import check_gate
from client.node_config import NodeConfig
from client.node_state import StateFolder
from client.reception import LAST, Arrival, receive
from client.refusals import Ration, Refusals
from client.runner import Assignment, Runtime
from protocol.delivery_messages import Ready
from protocol.errors import BusyError, Code, FedwardError, IntegrityError, RefusalError
from protocol.journal import Journal
from protocol.messages import Enrolled, Header, Packet, Place, Refused, pack
from protocol.roster import Roster
from protocol.signing import SigningKey, fingerprint

POLL_S = 0.2
REPLY_S = 3600.0
GRACE_S = 10.0
"""What an answer gets beyond its deadline, after which the coordinator takes none."""
DELIVERIES_PER_HOUR = 600
"""Messages about deliveries: each may leave a line in the journal, and no budget bounds them."""
MOST_AWAITED = 8
"""Models whose letters are awaited at the same time, each by a process."""
NO_ANSWER = "this node could not answer"
"""All that the coordinator learns where even a refusal could not be made."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the supervisor knows of the hospital.

    Args:
        name: The hospital's name in the roster.
        config: How the node runs.
        key: Signs refusals.
        roster: The pinned roster.
        journal: Where refusals are written down.
        folder: The node's state.
        clock: Present time with a time zone.
    """

    name: str
    config: NodeConfig
    key: SigningKey
    roster: Roster
    journal: Journal
    folder: StateFolder
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


class Supervisor:
    """Answers tasks.

    Args:
        desk: The hospital.
        nursery: The jobs' processes.
        stopping: Whether the node is to stop, and an answer under way to be given up.
        report: Called whenever `activity` or the processes changed.
    """

    def __init__(
        self,
        desk: Desk,
        nursery: Nursery,
        *,
        stopping: Callable[[], bool] = lambda: False,
        report: Callable[[], None] = lambda: None,
    ) -> None:
        self._desk = desk
        self._nursery = nursery
        self._stopping = stopping
        self._report = report
        self._refusals = Refusals(desk.journal, desk.clock)
        self._deliveries = Ration(DELIVERIES_PER_HOUR)
        self._awaiting: list[str] = []
        self.activity = Activity(desk.key.public, desk.clock)

    def poll(self, runtime: Runtime) -> bool:
        """Answer the next task, if there is one.

        Returns:
            Whether a reply was handed to Flower's node.

        Raises:
            BusyError: Flower's node does not answer.
        """
        assignment = runtime.acquire()
        if assignment is None:
            return False
        with assignment:
            return self._serve(assignment)

    def dismiss_left(self) -> None:
        """End the processes of jobs that the administrator stopped, or whose time is over."""
        for digest in list(self._nursery.pids):
            known = self._desk.folder.load_job(digest)
            if known is not None and known.decision in {"left", "denied"}:
                how = self._nursery.drop(digest)
                _LOG.info("job stopped here", extra={"job": digest[:12], "process": how})
                self._report()

    def _serve(self, assignment: Assignment) -> bool:
        steps = [time.monotonic()]
        try:
            request = assignment.pull()
            steps.append(time.monotonic())
            packet = self.answer(request.fab, request.parts)
            steps.append(time.monotonic())
            del request
            assignment.reply(packet.to_wire())
        except BusyError:
            raise
        except FedwardError as error:
            self.activity.note_error(str(error))
            assignment.fail(NO_ANSWER)
        except Exception as error:  # noqa: BLE001 - a message must not end the node
            self.activity.note_error(type(error).__name__)
            assignment.fail(NO_ANSWER)
        self.activity.note_answered([*steps, time.monotonic()])
        self._report()
        return True

    def answer(self, fab: bytes, parts: Mapping[str, bytes]) -> Packet:
        """The signed answer to a message.

        Args:
            fab: The bundle of its run.
            parts: Its parts by name.

        Raises:
            ChildGoneError: The job's process ended before it answered.
        """
        try:
            arrival = receive(fab, parts, self._desk.roster.coordinator)
        except FedwardError as error:
            code = error.code if isinstance(error, RefusalError) else Code.SIGNATURE
            return self._refuse_bundle(code, str(error), fab)
        try:
            desk = self._desk
            check_gate(arrival, desk.config, desk.folder, desk.clock(), name=desk.name)
            self._check_ration(arrival)
        except RefusalError as error:
            self.activity.note(arrival, f"refused: {error.code}")
            return self._refuse(error.code, str(error), arrival.header)
        return self._hand_over(arrival)

    def _check_ration(self, arrival: Arrival) -> None:
        if arrival.kind != "delivery":
            return
        now = self._desk.clock()
        if self._deliveries.used_up(now):
            raise RefusalError(
                Code.BUSY,
                "too many messages about deliveries within an hour",
                expected=f"{DELIVERIES_PER_HOUR} at most",
                remedy="ask the coordinator what it delivers",
            )
        self._deliveries.take(now)

    def _hand_over(self, arrival: Arrival) -> Packet:
        """Let the job's process answer."""
        digest, header = arrival.digest, arrival.header
        self.activity.note(arrival, "under way")
        try:
            child = self._nursery.child(digest)
            self._report()
            reply = child.ask(
                arrival.packet, until=header.deadline + GRACE_S, abandoned=self._stopping
            )
        except ChildGoneError as error:
            how = self._nursery.drop(digest)
            self.activity.note(arrival, f"no answer: {how}")
            raise IntegrityError(f"{error}; it {how}") from error
        if reply.kind in {Enrolled.KIND, Ready.KIND}:
            self._desk.folder.mark_begun(digest)
        self._let_go(arrival, reply)
        self.activity.note_reply(arrival, reply)
        return reply

    def _let_go(self, arrival: Arrival, reply: Packet) -> None:
        """End processes that have nothing left to keep in memory.

        A delivery's keeps nothing but keys that await letters; one that goes on after a no begins
        anew, with new keys and today's policy, and so does one that more recent ones displace.
        """
        digest, awaits = arrival.digest, reply.kind == Ready.KIND and "member" in reply.blobs
        if reply.kind in LAST or (arrival.kind == "delivery" and not awaits):
            self._nursery.drop(digest)
        if awaits:
            self._awaiting = [*(one for one in self._awaiting if one != digest), digest]
            for displaced in self._awaiting[:-MOST_AWAITED]:
                self._nursery.drop(displaced)
            self._awaiting = self._awaiting[-MOST_AWAITED:]

    # -- refusals -------------------------------------------------------------------------------

    def _refuse(self, code: Code, reason: str, header: Header) -> Packet:
        """The coordinator gets the code; the reason stays in journal and log."""
        place = _place(header)
        self._refusals.note(place.job, code, reason)
        self.activity.note_error(reason)
        return self._refused(code, place)

    def _refuse_bundle(self, code: Code, reason: str, fab: bytes) -> Packet:
        """As `_refuse`, where no job is known; the bundle's digest says what came instead."""
        digest = hashlib.sha256(fab).hexdigest()
        self._refusals.note("", code, reason, bundle=digest)
        self.activity.note_error(f"bundle {digest[:12]}: {reason}")
        return self._refused(code, Place(job=""))

    def _refused(self, code: Code, place: Place) -> Packet:
        desk = self._desk
        return pack(
            Refused(name=desk.name, reason=str(code)),
            place,
            desk.key,
            recipient=fingerprint(desk.roster.coordinator),
            deadline=(desk.clock() + timedelta(seconds=REPLY_S)).timestamp(),
        )


def _place(header: Header) -> Place:
    return Place(job=header.job, epoch=header.epoch, attempt=header.attempt, cohort=header.cohort)
