"""How much may be asked: requests at a time, and requests a second by each client."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.refusal import Kind, Refusal

_MOST_CLIENTS = 4096


@dataclass(eq=False)
class Turnstile:
    """Lets requests in as far as limits allow.

    Args:
        concurrent: Requests under way at a time.
        per_second: Requests a second of one client; a burst of two seconds is allowed.
        clock: Seconds that only grow.
    """

    concurrent: int
    per_second: float
    clock: Callable[[], float]
    under_way: int = 0
    _clients: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, client: str) -> None:
        """Take a place, which is to be given back once the request is answered.

        Raises:
            Refusal: The client asks too often, or the server has too much to do.
        """
        self._count(client)
        if self.under_way >= self.concurrent:
            raise Refusal(Kind.UNAVAILABLE, "too many requests at a time", remedy="try again")
        self.under_way += 1

    def give_back(self) -> None:
        """Give a place back."""
        self.under_way -= 1

    def _count(self, client: str) -> None:
        """Take one from the client's allowance, which grows with time."""
        now, burst = self.clock(), max(2 * self.per_second, 1.0)
        left, since = self._clients.pop(client, (burst, now))
        left = min(burst, left + (now - since) * self.per_second)
        self._clients[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        if left < 1:
            raise Refusal(
                Kind.TOO_MANY,
                "this client asks too often",
                expected=f"at most {self.per_second:g} requests a second",
            )
