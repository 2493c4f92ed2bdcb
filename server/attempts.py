"""Exchanges of a cohort: keys, a state for those that lack it, attempts, and the end."""

from __future__ import annotations

import time
from collections.abc import Collection

from protocol.canonical import from_canonical, to_canonical
from protocol.errors import Code, FedwardError
from protocol.messages import (
    KeysMade,
    MakeKeys,
    Share,
    Shared,
    Step,
    Stepped,
    Stop,
    Stopped,
)
from server import terms
from server.checkpoint import Finished
from server.correspondence import Correspondence
from server.harvest import Harvest
from server.holding import Holding
from server.launch import Launch
from server.sums import Collector, Sums
from server.terms import Answer


class Attempts:
    """Carries out what is asked of a cohort.

    Args:
        launch: The job and its signer.
        letters: The way to the hospitals.
        holding: What goes from one exchange to the next.
        sums: Makes the sums.
    """

    def __init__(
        self, launch: Launch, letters: Correspondence, holding: Holding, sums: Sums
    ) -> None:
        self._launch = launch
        self._job = launch.job
        self._letters = letters
        self._holding = holding
        self._sums = sums
        self.summed = True

    def make_keys(self, command: terms.MakeKeys) -> dict[str, Answer]:
        """Begin an epoch and let its maker make the keys.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        holding = self._holding
        holding.begin_epoch(command.epoch, command.members)

        def take(_: str, body: KeysMade) -> Answer:
            bundles = _mapping(body.bundles)
            if set(bundles) != set(command.members):
                return Answer(code=Code.FAILED)
            holding.bundles = bundles
            return Answer()

        body = MakeKeys(cohort=holding.present.to_bytes())
        return self._letters.ask(
            holding.sites, {command.maker: body}, holding.place(0), KeysMade, take
        )

    def share(self, command: terms.Share) -> dict[str, Answer]:
        """Let members vouch for the state that the others will take over.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        holding = self._holding

        def take(site: str, body: Shared) -> Answer:
            snapshots = _mapping(body.snapshots or b"")
            if site == command.sender:
                if set(snapshots) != set(command.lacking):
                    return Answer(code=Code.FAILED)
                holding.snapshots = snapshots
                holding.snapshot_sender = site
            holding.attestations[site] = body.attestation
            self._heard(site, body.head)
            return Answer()

        bodies = {
            site: Share(
                base=command.base,
                recipients=command.lacking,
                send=site == command.sender,
                cohort=holding.present.to_bytes(),
                bundle=holding.bundles.get(site),
            )
            for site in command.members
        }
        place = holding.place(command.attempt)
        return self._letters.ask(holding.sites, bodies, place, Shared, take)

    def attempt(self, command: terms.Attempt) -> dict[str, Answer]:
        """Send the sums that are due and add what is released.

        Raises:
            HaltedError: Somebody asked for the job's end.
        """
        holding = self._holding
        if command.fresh_keys and self._job.encryption.scheme == "none":
            holding.begin_epoch(command.epoch, command.members)
        harvest = Harvest(self._collectors(command))
        try:
            answers = self._ask(command, harvest)
            sums = harvest.results(
                command.members, attempt=command.attempt, masked=self._job.masked
            )
        finally:
            harvest.close()
        if command.counts_attempt or harvest.metrics:
            holding.metrics = harvest.metrics
        if command.finish:
            holding.model = harvest.model
            holding.finished = Finished(
                attempt=command.attempt, confirmations=harvest.confirmations
            )
        self.summed = sums is not None
        holding.keep(sums or ())
        return answers

    def stop(self, sites: tuple[str, ...], reason: str, *, wait_s: float | None = None) -> None:
        """Let hospitals settle, as far as they can be reached.

        Args:
            sites: Their names.
            reason: Why the job ends.
            wait_s: Patience with hospitals that were lost; none are awaited then. Members, which
                it is left out for, may be on their way back from the crash that this one survived,
                and are told once more if their nodes were connected and gave no answer.
        """
        if wait_s is not None:
            self._stop(sites, reason, wait_s)
            return
        there = self._await(sites)
        silent = self._stop(sites, reason, self._job.timeout_s) & there
        if silent:
            # Their nodes may have died over this very message, and be back in a moment.
            self._await(silent)
            self._stop(silent, reason, self._launch.patience.settle_s)

    def _stop(self, sites: Collection[str], reason: str, wait_s: float) -> frozenset[str]:
        """Send `stop`; the hospitals that did not answer."""
        finished = self._holding.finished
        told = to_canonical(finished.confirmations) if finished.confirmations else None
        stop = Stop(reason=reason, attempt=finished.attempt, confirmations=told)
        bodies = dict.fromkeys(sites, stop)
        place = self._holding.place(0)

        def take(site: str, body: Stopped) -> Answer:
            self._heard(site, body.head)
            return Answer()

        seats = self._holding.sites
        answers = self._letters.ask(seats, bodies, place, Stopped, take, wait_s=wait_s)
        return frozenset(site for site in sites if answers[site].code == Code.DEADLINE)

    def _await(self, sites: Collection[str]) -> frozenset[str]:
        """Wait until the nodes of these hospitals are connected, but not long; who is there."""
        node_of = {site: self._holding.sites[site].node for site in sites}
        end = time.monotonic() + self._launch.patience.settle_s
        while True:
            nodes = set(self._letters.nodes())
            there = frozenset(site for site, node in node_of.items() if node in nodes)
            left = end - time.monotonic()
            if len(there) == len(node_of) or left <= 0:
                return there
            self._letters.pause(left)

    def _ask(self, command: terms.Attempt, harvest: Harvest) -> dict[str, Answer]:
        holding = self._holding

        def take(site: str, body: Stepped) -> Answer:
            answer = harvest.take(site, body)
            self._heard(site, body.head)
            holding.weights_tag = body.weights_tag
            return answer

        bodies = {site: self._step(command, site) for site in command.members}
        place = holding.place(command.attempt)
        return self._letters.ask(holding.sites, bodies, place, Stepped, take)

    def _heard(self, site: str, head: bytes) -> None:
        self._launch.heads[self._holding.sites[site].fingerprint] = head

    def _collectors(self, command: terms.Attempt) -> dict[str, Collector]:
        """The small sum first: what is wrong with an answer shows there before it is in both."""
        wanted = {"evaluation": command.evaluate, "update": command.train}
        size = self._holding.present.size
        return {
            purpose: self._sums.collector(purpose, cohort_size=size)
            for purpose, asked in wanted.items()
            if asked
        }

    def _step(self, command: terms.Attempt, site: str) -> Step:
        holding = self._holding
        total = holding.pending.get((command.total_attempt, "update"))
        counts = holding.pending.get((command.counts_attempt, "evaluation"))
        lacking = site in command.lacking
        # Who vouched for the state has entered the epoch with that.
        entering = command.fresh_keys and (lacking or not command.lacking)
        return Step(
            round=command.round,
            train=command.train,
            evaluate=command.evaluate,
            finish=command.finish,
            total_attempt=command.total_attempt,
            contributors=total.contributors if total else (),
            counts_attempt=command.counts_attempt,
            counts_contributors=counts.contributors if counts else (),
            snapshot_sender=holding.snapshot_sender if lacking else "",
            cohort=holding.present.to_bytes() if entering else None,
            bundle=holding.bundles.get(site) if entering else None,
            total=total.total if total else None,
            counts=counts.total if counts else None,
            snapshot=holding.snapshots.get(site) if lacking else None,
            attestations=to_canonical(holding.attestations) if lacking else None,
        )


def _mapping(data: bytes) -> dict[str, bytes]:
    """Bytes by hospital; empty where a hospital sent something else."""
    try:
        found = from_canonical(data)
    except FedwardError:
        return {}
    if not isinstance(found, dict) or not all(isinstance(one, bytes) for one in found.values()):
        return {}
    return found
