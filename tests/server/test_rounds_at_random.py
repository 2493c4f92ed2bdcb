"""Whatever goes wrong, a job ends, and no hospital releases more than it reserved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.canonical import to_canonical
from protocol.config import decode
from server.rounds import advance, resume, start
from server.terms import (
    Attempt,
    Done,
    Rules,
    State,
)
from tests.server.rounds_world import ODD, SILENT, SITES, World


@st.composite
def some_rules(draw: st.DrawFn) -> Rules:
    """Rules as `Rules.of` makes them: unmasked jobs count no colluding hospitals."""
    masked = draw(st.booleans())
    return Rules(
        rounds=draw(st.integers(1, 4)),
        spare_attempts=draw(st.integers(0, 3)),
        sites=SITES[: draw(st.integers(1, 5))],
        min_sites=draw(st.integers(1, 4)),
        min_honest=2 if masked else 1,
        colluding_sites=draw(st.integers(0, 2)) if masked else 0,
        encrypted=masked or draw(st.booleans()),
        masked=masked,
        evaluate_every=draw(st.integers(0, 3)),
        evaluated=draw(st.booleans()),
        rejoin=draw(st.booleans()),
    )


@dataclass(frozen=True)
class Incident:
    """What goes wrong at one command.

    Args:
        silent: Hospitals whose answers do not come, and whether they carried the command out.
        restarted: Hospitals that are restarted afterwards.
        odd: A hospital with other weights.
        crashed: The coordinator ends before it learns of any answer.
        summed: Whether the sums are there.
        back: Whether lost hospitals are connected again.
    """

    silent: Mapping[str, bool]
    restarted: frozenset[str]
    odd: str
    crashed: bool
    summed: bool
    back: bool


QUIET = Incident({}, frozenset(), "", crashed=False, summed=True, back=False)
mishaps = st.builds(
    Incident,
    silent=st.dictionaries(st.sampled_from(SITES), st.booleans(), max_size=1),
    restarted=st.frozensets(st.sampled_from(SITES), max_size=1),
    odd=st.sampled_from(["", "", "", "", *SITES[:1]]),
    crashed=st.booleans(),
    summed=st.sampled_from([True, True, True, False]),
    back=st.booleans(),
)


def suffer(rules: Rules, world: World, state: State, incident: Incident) -> State:
    """The state after a command during which something goes wrong."""
    lost = {s: SILENT for s, done in incident.silent.items() if not done}
    # Where one is enough it may be left alone, and there is nobody by whom its weights are odd.
    if incident.odd and isinstance(state.command, Attempt) and rules.needed > 1:
        lost[incident.odd] = ODD
    answers = world.answer(state.command, lost)
    answers.update({s: SILENT for s in incident.silent if s in answers})
    for site in incident.restarted:
        world.nodes[site].restart()
    if incident.crashed:
        again = decode(State, to_canonical(state), "state")
        return resume(rules, again)
    world.heard(state.command, answers)
    back = SITES if incident.back else ()
    return advance(rules, state, answers, summed=incident.summed, back=back)


@settings(max_examples=400, deadline=None)
@given(
    rules=some_rules(),
    incidents=st.lists(st.one_of(st.just(QUIET), st.just(QUIET), mishaps), max_size=40),
)
def test_whatever_happens(rules: Rules, incidents: list[Incident]) -> None:
    world, states = World(rules), [start(rules)]
    for turn in range(400):
        state = states[-1]
        if isinstance(state.command, Done):
            break
        if isinstance(state.command, Attempt) and state.command.releases:
            assert rules.enough(state.command.members)
        incident = incidents[turn] if turn < len(incidents) else QUIET
        states.append(suffer(rules, world, state, incident))
        assert states[-1].epoch >= state.epoch
        members = states[-1].members
        assert members == tuple(site for site in rules.sites if site in members)
    done = states[-1].command
    assert isinstance(done, Done)
    assert (done.status == "failed") == bool(done.reason)
    updates = {attempt for _, purpose, attempt in world.released if purpose == "update"}
    # The ledger of every hospital counts numbers, whether or not anything came of them.
    assert max(updates, default=0) <= rules.rounds + rules.spare_attempts
    if done.status == "completed":
        stored = [site for site in rules.sites if world.nodes[site].finished]
        assert rules.enough(tuple(stored))
        assert {world.nodes[site].step for site in states[-1].confirmed} == {rules.rounds}
