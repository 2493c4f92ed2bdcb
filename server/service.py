"""The coordinator that runs: it keeps a SuperLink up and every unfinished job at work.

It alone talks to Flower. Commands leave jobs and requests as files in the folder and read what
happened from there, so nothing is lost when a command, a ServerApp or this process dies. Each step
looks at what is and does what is missing; `server.upkeep` decides.
"""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime
from threading import Event

from protocol.errors import FedwardError
from protocol.roster import Roster
from server.announcements import Announcements, DeliveriesUnderWay, Tell
from server.archive import Archive
from server.config import Folder
from server.control import Control, LinkError, Node
from server.delivery_folder import DeliveryArchive
from server.job_folder import JobFolder
from server.link import SuperLink
from server.presence import Presence, hold, lock_of
from server.readiness import check_certificates, check_disk, check_roster
from server.runs import Runs
from server.runtime import Runtime
from server.upkeep import Effort, clock_step, lost, register
from server.webhook import Webhook

STEP_S = 1.0
DISK_S = 60.0
SILENT_S = 60.0


class Service:
    """A running coordinator.

    Args:
        folder: Its folder, checked with `server.readiness.check_ready`.
        tell: Called with a kind and a line for whatever the administrator should know.
        webhook: Told of jobs that end and hospitals that are lost.
    """

    def __init__(self, folder: Folder, tell: Tell, webhook: Webhook) -> None:
        self._folder = folder
        self._tell = tell
        self._webhook = webhook
        self._key = folder.load_key()
        self._archive = Archive(folder.jobs)
        self._link = SuperLink(folder)
        self._control: Control | None = None
        self._runtime: Runtime | None = None
        self._runs = Runs(folder, tell)
        self._deliveries = DeliveriesUnderWay(DeliveryArchive(folder), tell, webhook)
        self._announcements = Announcements(self._archive, tell, webhook)
        self._starts = Effort()
        self._silent_since = 0.0
        self._ready = False
        self._certificates = ""
        self._roster: Roster | None = None
        self._roster_bytes = b""
        self._hospitals: dict[str, bool] = {}
        self._said = ""
        self._present: Presence | None = None
        self._watched: dict[str, JobFolder] = {}
        self._clock = (time.time(), time.monotonic())
        self._disk_s = 0.0

    @property
    def superlink_pid(self) -> int:
        """Process of the SuperLink, 0 before the first."""
        return self._link.pid

    @property
    def job_pids(self) -> dict[str, int]:
        """Process of each job under way, by the job's digest."""
        return self._runs.pids

    def run(self, stop: Event, renew: Event, *, step_s: float = STEP_S) -> None:
        """Work until `stop` is set; `renew` restarts the SuperLink with the files of now.

        Raises:
            BusyError: Another coordinator runs in this folder.
        """
        with hold(lock_of(self._folder)):
            try:
                while not stop.is_set():
                    if renew.is_set():
                        renew.clear()
                        self._restart("asked for")
                    self._step_safely()
                    stop.wait(step_s)
            finally:
                self._runs.end()
                self._disconnect()
                self._link.stop()
                self._webhook.close()

    def _step_safely(self) -> None:
        """One step; what goes wrong is said once and tried again."""
        try:
            self.step()
        except (FedwardError, OSError) as error:
            self._complain(str(error))
        else:
            self._said = ""

    def _complain(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._tell("error", line)

    def step(self) -> None:
        """Look at everything and do what is missing.

        Raises:
            FedwardError: Something is wrong that a later step may find right.
        """
        self._watch_clock_and_disk()
        self._watch_certificates()
        for job in self._announcements.look():
            self._watched.pop(job.digest, None)
        self._runs.look()
        if not self._keep_up():
            return
        control, runtime = self._connect()
        try:
            nodes = control.nodes()
            self._silent_since = time.monotonic()
            if not self._ready:
                self._ready = True
                self._tell("ready", f"hospitals can connect to {self._folder.config.address}")
            self._register(control, nodes)
            self._watch_hospitals(nodes)
            jobs = self._archive.unfinished()
            self._watched.update({job.digest: job for job in jobs})
            self._runs.keep((*jobs, *self._deliveries.look()), control, runtime)
        except LinkError:
            self._bear_silence()
        self._save_presence()

    # -- the SuperLink --------------------------------------------------------------------------

    def _keep_up(self) -> bool:
        """Start the SuperLink where it does not run; whether it runs."""
        now_s = time.monotonic()
        if self._link.running():
            return True
        if self._link.pid and self._certificates:
            self._certificates = ""
            self._starts = self._starts.ended(now_s)
            self._forget_runs()
            self._tell("superlink", "it ended; see superlink.log in the state folder")
        if not self._starts.due(now_s):
            return False
        self._certificates = self._digest_certificates()
        self._link.start()
        self._starts = self._starts.started(now_s)
        self._silent_since = now_s
        return True

    def _restart(self, why: str) -> None:
        self._tell("superlink", f"restarts: {why}")
        self._forget_runs()
        self._link.stop()
        self._certificates = ""

    def _forget_runs(self) -> None:
        """Runs end with their SuperLink, so every job needs a new one."""
        self._runs.end()
        self._disconnect()
        self._ready = False
        self._roster_bytes = b""

    def _bear_silence(self) -> None:
        """A SuperLink that starts may be silent; one that stays so is started anew."""
        silent_s = time.monotonic() - self._silent_since
        if silent_s > SILENT_S:
            self._restart(f"it did not answer for {silent_s:.0f} s")

    def _connect(self) -> tuple[Control, Runtime]:
        self._control = self._control or Control(self._folder)
        self._runtime = self._runtime or Runtime(self._folder)
        return self._control, self._runtime

    def _disconnect(self) -> None:
        for client in (self._control, self._runtime):
            if client is not None:
                client.close()
        self._control = self._runtime = None

    # -- hospitals ------------------------------------------------------------------------------

    def _register(self, control: Control, nodes: tuple[Node, ...]) -> None:
        """Make the SuperLink's list of nodes the roster's, at the start and when it changes."""
        data = self._folder.roster.read_bytes()
        if data == self._roster_bytes:
            return
        roster = self._folder.load_roster(self._key.fingerprint)
        check_roster(self._folder, roster)
        wanted = {card.name: card.node_key for card in roster.members}
        change = register(wanted, {node.node: node.key for node in nodes})
        for node in change.drop:
            control.unregister(node)
        for name, key in change.add.items():
            control.register(name, key)
        self._roster, self._roster_bytes = roster, data
        self._tell("roster", f"edition {roster.sequence}: {len(roster.members)} hospitals")

    def _watch_hospitals(self, nodes: tuple[Node, ...]) -> None:
        if self._roster is None:
            return
        online = {node.key.strip() for node in nodes if node.online}
        found = {card.name: card.node_key.strip() in online for card in self._roster.members}
        before = {name for name, there in self._hospitals.items() if there}
        now = {name for name, there in found.items() if there}
        for name in sorted(now - before):
            self._tell("hospital", f"{name} is connected")
        for name in lost(before, now):
            self._tell("hospital", f"{name} is lost")
            for job in self._watched.values():
                if name in {site.name for site in job.job.sites}:
                    said = {"hospital": name, "job": job.job.name, "digest": job.digest}
                    self._webhook.tell("hospital-lost", said)
        self._hospitals = found

    # -- surroundings ---------------------------------------------------------------------------

    def _watch_certificates(self) -> None:
        """New files under tls/ take effect once they are whole and fit each other."""
        if self._certificates and self._digest_certificates() != self._certificates:
            check_certificates(self._folder, datetime.now(UTC))
            self._restart("the certificates are new")

    def _digest_certificates(self) -> str:
        paths = (self._folder.ca, self._folder.certificate, self._folder.certificate_key)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        return " ".join(digests)

    def _watch_clock_and_disk(self) -> None:
        wall_s, steady_s = time.time(), time.monotonic()
        step = clock_step(wall_s - self._clock[0], steady_s - self._clock[1])
        self._clock = (wall_s, steady_s)
        if step:
            self._tell(
                "clock",
                f"the clock was set by {step:+.0f} s; nodes whose clock is 5 s ahead of this one"
                " or 5 minutes behind it are refused, and deadlines under way move along",
            )
        if steady_s - self._disk_s > DISK_S or not self._disk_s:
            self._disk_s = steady_s
            for warning in check_disk(self._folder):
                self._tell("disk", warning)
            for problem in self._archive.damaged():
                self._tell("error", problem)

    def _save_presence(self) -> None:
        found = Presence(
            pid=os.getpid(), ready=self._ready, hospitals=self._hospitals, runs=self._runs.numbers
        )
        if found != self._present:
            found.save(self._folder)
            self._present = found
