"""Deliveries on the coordinator's disk: what was signed, what happened, how each ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import ClassVar

from protocol.bundle import SignedDelivery
from protocol.config import parse
from protocol.deliveries import Delivery
from protocol.errors import InputError
from server.archive import Archive
from server.config import Folder
from server.job_folder import JobFolder
from server.run_folder import OUTCOME, RunFolder, load_whole, replace_whole
from server.run_folders import RunFolders

DELIVERY = "delivery.json"
SIGNATURE = "delivery.sig"


@dataclass(frozen=True, kw_only=True)
class Handed:
    """How a delivery ended.

    Args:
        status: `completed` if every recipient has the model, else `failed` or `stopped`.
        reason: Why it was not completed, for people.
        received: Recipients that have the model.
        refusals: Code by hospital that did not do its part.
    """

    status: str
    reason: str
    received: tuple[str, ...]
    refusals: Mapping[str, str]


class DeliveryFolder(RunFolder):
    """The folder of one delivery. Its events are those of `server.launch.Event`, in round 0."""

    KIND: ClassVar[str] = "delivery"

    @cached_property
    def delivery(self) -> Delivery:
        """The delivery.

        Raises:
            IntegrityError: The file holds another one than the folder's name says.
        """
        delivery = Delivery.from_bytes(load_whole(self.path / DELIVERY))
        self.check_name(delivery.name, delivery.digest, DELIVERY)
        return delivery

    @property
    def digest(self) -> str:
        """SHA-256 of the delivery's bytes, hexadecimal."""
        return self.delivery.digest

    @property
    def title(self) -> str:
        """What people call it."""
        return self.delivery.title

    @property
    def signed(self) -> SignedDelivery:
        """What a run of it brings along."""
        return SignedDelivery(
            delivery=self.delivery.to_bytes(), signature=load_whole(self.path / SIGNATURE)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """None: its model's name is a job's."""
        return ()

    @property
    def attempt(self) -> int:
        """The last attempt that was begun, 0 before the first."""
        return max((event.attempt for event in self.events()), default=0)

    @property
    def outcome(self) -> Handed | None:
        """How it ended, None while it has not."""
        path = self.path / OUTCOME
        return parse(Handed, json.loads(load_whole(path)), OUTCOME) if path.exists() else None

    def save_outcome(self, outcome: Handed) -> None:
        """Keep how it ended.

        Raises:
            FedwardError: The disk is full or fails; it counts as under way.
        """
        text = json.dumps(asdict(outcome), indent=2, sort_keys=True)
        replace_whole(self.path / OUTCOME, text.encode())


class DeliveryArchive:
    """All deliveries of a coordinator, in a folder beside its jobs.

    Args:
        folder: The coordinator's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folders = RunFolders(folder.jobs / "deliveries", DELIVERY, SIGNATURE, DeliveryFolder)

    def create(self, delivery: Delivery, signature: bytes) -> DeliveryFolder:
        """Keep a signed delivery before anybody is asked.

        Raises:
            FedwardError: The disk is full or fails; there is no half-made folder.
        """
        signed = SignedDelivery(delivery=delivery.to_bytes(), signature=signature)
        return self._folders.create(delivery.name, signed)

    def deliveries(self) -> tuple[DeliveryFolder, ...]:
        """All of them, in the order in which they were launched; damaged ones are left out."""
        return self._folders.intact()

    def unfinished(self) -> tuple[DeliveryFolder, ...]:
        """Those without an outcome."""
        return self._folders.unfinished()

    def look_up(self, wanted: str) -> tuple[DeliveryFolder, ...]:
        """Deliveries of a folder's name or of the first digits of a digest."""
        return self._folders.look_up(wanted)

    def find(self, digest: str) -> DeliveryFolder:
        """The delivery of a digest.

        Raises:
            InputError: There is none.
        """
        for found in self.look_up(digest):
            return found
        raise InputError(
            f"{digest[:12]}: no such delivery", remedy="see them with: fedward server history"
        )


def find_either(folder: Folder, wanted: str) -> JobFolder | DeliveryFolder:
    """The job or the delivery that somebody means.

    Args:
        folder: The coordinator's folder.
        wanted: A job's name, a folder's name, or the first digits of a digest.

    Raises:
        InputError: There is none, or more than one.
    """
    archive = Archive(folder.jobs)
    jobs, deliveries = archive.look_up(wanted), DeliveryArchive(folder).look_up(wanted)
    if not deliveries:
        return archive.find(wanted)
    if len(deliveries) > 1 or jobs:
        names = ", ".join(one.path.name for one in (*jobs, *deliveries))
        raise InputError(
            f"{wanted}: more than one job or delivery",
            expected=f"one of {names}",
            remedy="name it by its folder",
        )
    return deliveries[0]
