"""What a running coordinator decides: when to try again, whom to register, who is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.upkeep import (
    CLOCK_STEP_S,
    LONGEST_DELAY_S,
    SOUND_S,
    Effort,
    clock_step,
    lost,
    register,
)


class TestEffort:
    def test_the_first_start_waits_for_nothing(self) -> None:
        assert Effort().due(0.0)

    def test_each_failure_doubles_the_wait_up_to_a_minute(self) -> None:
        effort, waits = Effort(), []
        for now in range(100):
            effort = effort.started(float(now)).ended(float(now))
            waits.append(effort.not_before_s - now)
        assert waits[:7] == [1, 2, 4, 8, 16, 32, 60]
        assert set(waits[6:]) == {LONGEST_DELAY_S}

    def test_what_ran_soundly_is_forgiven(self) -> None:
        effort = Effort().started(0.0).ended(1.0).ended(2.0).started(10.0)
        assert effort.ended(10.0 + SOUND_S).failures == 3
        assert effort.ended(11.0 + SOUND_S).failures == 1

    @given(st.floats(0, 1e6), st.floats(0, 1e6))
    def test_it_is_due_when_the_wait_is_over(self, start: float, end: float) -> None:
        effort = Effort().started(start).ended(start + end)
        assert not effort.due(start + end)
        assert effort.due(effort.not_before_s)


class TestRegistration:
    @given(
        st.dictionaries(st.text(max_size=3), st.text(alphabet="ABCD", max_size=2), max_size=4),
        st.dictionaries(st.integers(0, 9), st.text(alphabet="ABCD", min_size=1, max_size=2)),
    )
    def test_doing_it_makes_the_list_the_rosters(
        self, wanted: dict[str, str], present: dict[int, str]
    ) -> None:
        change = register(wanted, present)
        left = {node: key for node, key in present.items() if node not in change.drop}
        after = set(left.values()) | set(change.add.values())
        assert after == {key for key in wanted.values() if key}
        again = register(wanted, dict(enumerate(sorted(after))))
        assert (again.add, again.drop) == ({}, ())

    def test_a_line_break_at_the_end_makes_no_other_key(self) -> None:
        change = register({"north": "KEY\n"}, {7: "KEY"})
        assert (change.add, change.drop) == ({}, ())


def test_whoever_was_never_there_is_not_lost() -> None:
    assert lost((), {"north"}) == ()
    assert lost({"south", "north"}, ()) == ("north", "south")


@given(st.floats(0, 1e7), st.floats(-1e7, 1e7))
def test_only_a_step_of_the_clock_counts(steady: float, step: float) -> None:
    found = clock_step(steady + step, steady)
    assert (found != 0) == (abs(steady + step - steady) > CLOCK_STEP_S)
