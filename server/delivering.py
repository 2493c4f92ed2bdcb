"""One delivery from its first offer to its end: the shell around `server.delivery_rules`.

It relays public keys and sealed letters and reads neither. Nothing is kept between two processes
but what happened and the number of the last attempt: another one asks again from the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from protocol.canonical import to_canonical
from protocol.delivery_messages import HandOver, Received, Vouch, Vouched, by_hospital
from protocol.errors import Code
from protocol.jobs import Job
from protocol.messages import Place
from protocol.roster import Roster
from protocol.signing import SigningKey
from server.correspondence import Correspondence
from server.delivery_folder import DeliveryFolder, Handed
from server.delivery_rules import Rules, Standing, can_go, ending, sender, served, waits_for
from server.exchange import Exchange, HaltedError
from server.launch import Event
from server.offers import Offered, Offers
from server.terms import Answer

LONGEST_S = 60.0
"""Between two offers to hospitals that wait for their administrator, or are away."""
MOST_ATTEMPTS = 30
"""Each is a line in every holder's journal."""


@dataclass(frozen=True, kw_only=True)
class Handing:
    """What a delivery is carried out with.

    Args:
        kept: Its folder.
        job: The job whose model it is.
        key: The coordinator's key.
        roster: Today's roster; the delivery goes nowhere if it names another one.
        pause_s: First pause between two offers; each is twice as long, up to `LONGEST_S`.
        clock: Present time with a time zone.
    """

    kept: DeliveryFolder
    job: Job
    key: SigningKey
    roster: Roster
    pause_s: float = 1.0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


class Delivering:
    """One run of one delivery.

    Args:
        handing: The delivery and its signer.
        exchange: The way to the hospitals.
    """

    def __init__(self, handing: Handing, exchange: Exchange) -> None:
        self._handing = handing
        self._kept = handing.kept
        self._delivery = handing.kept.delivery
        self._rules = Rules.of(self._delivery, handing.job)
        self._letters = Correspondence(self._delivery, handing.key, exchange)
        self._exchange = exchange
        offered = Offered(
            signed=self._kept.signed,
            delivery=self._delivery,
            job=handing.job,
            roster=handing.roster,
        )
        self._offers = Offers(offered, self._letters, self._rules)
        self._standing = Standing()
        self._attempt = handing.kept.attempt

    def run(self) -> Handed:
        """Ask until every recipient has the model, or cannot get it.

        Raises:
            FedwardError: What must be kept could not be; the delivery can be begun again.
        """
        self._exchange.halted = lambda: self._kept.stop_requested
        try:
            status, reason = self._go()
        except HaltedError:
            status, reason = "stopped", "stopped by the coordinator"
        self._letters.reset()
        self._note("ended", "; ".join(part for part in (reason, status) if part))
        return Handed(
            status=status,
            reason=reason,
            received=tuple(n for n in self._rules.recipients if n in self._standing.received),
            refusals={name: str(code) for name, code in self._standing.refused.items()},
        )

    def _go(self) -> tuple[str, str]:
        if self._handing.roster.digest != self._delivery.roster:
            # Whoever has trusted the newer one refuses, and its cards are no word on the older.
            return "failed", "the roster has changed since it was signed; deliver the model again"
        pause_s = self._handing.pause_s
        self._attempt += 1
        while True:
            before = self._standing
            self._exchange.check()
            self._letters.reset()
            self._standing = self._offers.ask(self._standing, self._place())
            if self._standing != before or not self._kept.events():
                self._note("offered", self._describe())
            if can_go(self._rules, self._standing):
                self._hand_on()
            over = self._ending()
            if over is not None:
                return over
            self._wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    def _ending(self) -> tuple[str, str] | None:
        over = ending(self._rules, self._standing)
        if over is None and self._handing.clock() >= self._delivery.ends:
            over = "failed", f"it expired, waiting for {self._waiting()}"
        if over is None and self._attempt > MOST_ATTEMPTS:
            over = (
                "failed",
                f"{MOST_ATTEMPTS} attempts came to nothing, the last with {self._waiting()}",
            )
        return over

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            self._exchange.pause(left_s)

    # -- letters ----------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        """Get letters from every willing holder, and hand them to the recipients that are ready."""
        self._letters.reset()
        letters = self._write()
        self._note("vouched", f"{len(letters)} of {len(self._rules.holders)} holders wrote")
        if names := served(self._rules, self._standing, letters):
            self._letters.reset()
            self._hand_over(names, letters)
            self._note("handed-over", self._describe())
        # Whoever was ready and has no model yet is asked anew, and makes new keys.
        self._standing = replace(self._standing, ready={})
        self._attempt += 1

    def _write(self) -> dict[str, dict[str, bytes]]:
        """Letters by recipient, by holder."""
        signed, chosen = self._kept.signed, sender(self._rules, self._standing, self._attempt)
        ready = self._standing.ready
        names = served(self._rules, self._standing, self._standing.willing)
        recipients = to_canonical({name: ready[name] for name in names})
        found: dict[str, dict[str, bytes]] = {}

        def take(name: str, body: Vouched) -> Answer:
            letters = by_hospital(body.letters)
            if set(letters) != set(names):
                return Answer(code=Code.FAILED)
            found[name] = letters
            return Answer()

        bodies = {
            name: Vouch(
                signature=signed.signature,
                send=name == chosen,
                delivery=signed.delivery,
                recipients=recipients,
            )
            for name in self._rules.holders
            if name in self._standing.willing
        }
        answers = self._letters.ask(self._offers.seats, bodies, self._place(), Vouched, take)
        for name, answer in answers.items():
            if answer.code is not None:
                self._standing = self._standing.refuse(name, answer.code)
        return found

    def _hand_over(self, names: Iterable[str], letters: dict[str, dict[str, bytes]]) -> None:
        bodies = {
            name: HandOver(letters=to_canonical({one: by[name] for one, by in letters.items()}))
            for name in names
        }
        answers = self._letters.ask(self._offers.seats, bodies, self._place(), Received)
        for name, answer in answers.items():
            if answer.code is None:
                self._standing = self._standing.accept(self._rules, name, holds=True, member=None)
            else:
                self._standing = self._standing.disbelieve(self._rules, name, answer.code)

    # -- notes ------------------------------------------------------------------------------------

    def _place(self) -> Place:
        return Place(job=self._delivery.digest, attempt=self._attempt)

    def _waiting(self) -> str:
        return waits_for(self._rules, self._standing)

    def _describe(self) -> str:
        standing = self._standing
        parts = [
            f"{len(standing.willing)} of {len(self._rules.holders)} holders agree",
            f"{len(standing.received)} of {len(self._rules.recipients)} recipients have it",
        ]
        waiting = self._waiting()
        return "; ".join([*parts, f"waiting for {waiting}"] if waiting else parts)

    def _note(self, kind: str, detail: str) -> None:
        standing = self._standing
        self._kept.append(
            Event(
                kind=kind,
                round=0,
                sites=tuple(n for n in self._rules.recipients if n in standing.received),
                at=time.time(),
                seconds=self._letters.seconds,
                bytes_up=self._letters.bytes_up,
                bytes_down=self._letters.bytes_down,
                detail=detail,
                attempt=self._attempt,
                arrivals=self._letters.arrivals,
                lost={name: str(code) for name, code in standing.refused.items()},
            )
        )
