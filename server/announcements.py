"""Jobs that ended are announced once: in the log, and to the webhook until it has taken it."""

from __future__ import annotations

from collections.abc import Callable

from server.archive import Archive
from server.delivery_folder import DeliveryArchive, DeliveryFolder
from server.delivery_view import DeliveryRecord
from server.history import Record
from server.job_folder import JobFolder
from server.webhook import Webhook

Tell = Callable[[str, str], None]


class Announcements:
    """Says of each job once how it ended; what was said is kept in the job's folder.

    Args:
        archive: The coordinator's jobs.
        tell: Called with a kind and a line for the administrator.
        webhook: Told as well.
    """

    def __init__(self, archive: Archive, tell: Tell, webhook: Webhook) -> None:
        self._archive = archive
        self._tell = tell
        self._webhook = webhook
        self._told: set[str] = set()

    def look(self) -> tuple[JobFolder, ...]:
        """Announce what ended since the last look, or while nobody looked.

        Returns:
            Those jobs.

        Raises:
            FedwardError: What a job's folder says of its end cannot be read; that job is passed
                over from now on.
        """
        ended = tuple(job for job in self._archive.unannounced() if job.digest not in self._told)
        for job in ended:
            self._told.add(job.digest)
            record = Record.of(job)
            self._tell("job", f"{job.job.name}: {record.status} {record.reason}".rstrip())
            self._webhook.tell("job-ended", record.to_json(), delivered=job.mark_announced)
        return ended


class DeliveriesUnderWay:
    """Looks for deliveries without an outcome, and tells the administrator of those that ended.

    Args:
        archive: The coordinator's deliveries.
        tell: Called with a kind and a line.
        webhook: Told as well, of those that were seen under way.
    """

    def __init__(self, archive: DeliveryArchive, tell: Tell, webhook: Webhook) -> None:
        self._archive = archive
        self._tell = tell
        self._webhook = webhook
        self._going: dict[str, DeliveryFolder] = {}

    def look(self) -> tuple[DeliveryFolder, ...]:
        """Those under way."""
        going = self._archive.unfinished()
        for digest in self._going.keys() - {one.digest for one in going}:
            kept = self._going[digest]
            if kept.outcome is not None:
                record = DeliveryRecord.of(kept)
                self._tell("delivery", f"{kept.title}: {record.status} {record.reason}".rstrip())
                self._webhook.tell("delivery-ended", record.said())
        self._going = {one.digest: one for one in going}
        return going
