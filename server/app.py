"""The Flower ServerApp: carries out what the state machine of `server.rounds` commands."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from privacy.he.sum import SumProcess
from server.course import Course
from server.exchange import Exchange
from server.keeper import Keeper
from server.launch import Launch, Outcome


def make_app(
    launch: Launch,
    *,
    poll_s: float,
    child: SumProcess | None,
    report: Callable[[Outcome], None],
    keeper: Keeper | None = None,
) -> ServerApp:
    """A ServerApp that runs one job to its end, or goes on with it where another one ended.

    Args:
        launch: The signed job, and who signs the coordinator's messages.
        poll_s: Pause between two looks for answers; 0 where the grid answers at once.
        child: The keyless process that adds ciphertexts; None in clear runs.
        report: Takes the outcome; it is called once, however the job ends.
        keeper: Where the job is kept; without one nothing outlasts this process.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        report(Course(launch, Exchange(grid, poll_s=poll_s), child, keeper).run())

    return app
