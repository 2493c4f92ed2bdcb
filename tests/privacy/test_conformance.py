"""Received numbers: accepted as they are made, refused as soon as one of them promises too much."""

import math
from dataclasses import replace
from typing import Any

import pytest

from privacy.conformance import check_cohort, check_plan, own_multiplier
from privacy.plan import PrivacyRequest, resolve_privacy
from protocol.errors import InputError
from protocol.jobs import Mode, Privacy, Site

SITES = [Site(name=f"site-{n}", train_size=100, test_size=40) for n in range(5)]


def made(mode: Mode = "distributed", **request: Any) -> Privacy:
    return resolve_privacy(
        PrivacyRequest(mode=mode, epsilon=None if mode == "none" else 3.0, **request),
        sites=SITES,
        length=31,
        steps=10,
        spare=2,
        repeats=1,
        unit="patient",
        evaluation_length=128,
        evaluation_norm=1.5,
        evaluation_steps=2,
    )


def changed(privacy: Privacy, family: str | None, **fields: Any) -> Privacy:
    if family is None:
        return replace(privacy, **fields)
    return replace(privacy, **{family: replace(getattr(privacy, family), **fields)})


@pytest.mark.parametrize("mode", ["distributed", "local", "none"])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_what_is_made_is_accepted(mode: Mode, rate: float) -> None:
    check_plan(made(mode, sampling_rate=rate), SITES)


@pytest.mark.parametrize("mode", ["distributed", "local"])
@pytest.mark.parametrize("family", ["update", "evaluation"])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_less_noise_than_stated_is_refused(mode: Mode, family: str, rate: float) -> None:
    privacy = made(mode, sampling_rate=rate)
    for factor in (0.999, 0.8):
        sigma = getattr(privacy, family).noise_multiplier * factor
        with pytest.raises(InputError, match=rf"privacy\.{family}: .*epsilon; expected at least"):
            check_plan(changed(privacy, family, noise_multiplier=sigma), SITES)
    more = getattr(privacy, family).noise_multiplier * 2
    check_plan(changed(privacy, family, noise_multiplier=more), SITES)


@pytest.mark.parametrize(
    ("field", "factor"),
    [
        ("epsilon", 0.999),
        ("epsilon_worst", 0.999),
        ("epsilon_evaluation", 0.999),
        ("epsilon_evaluation_worst", 0.999),
        ("epsilon", 0.0),
        ("epsilon_worst", -1.0),
        ("epsilon", 1e4),
        ("delta", 0.9),
        ("delta", 0.0),
        ("delta", 1e4),
    ],
)
def test_more_privacy_than_the_noise_gives_is_refused(field: str, factor: float) -> None:
    privacy = made()
    with pytest.raises(InputError, match=r"privacy\..*; expected .*; found"):
        check_plan(changed(privacy, None, **{field: getattr(privacy, field) * factor}), SITES)


@pytest.mark.parametrize("family", ["update", "evaluation"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("length", 0),
        ("length", 10**6),  # the sensitivity is that of fewer coordinates
        ("clip", 1.6),  # likewise of a smaller clip
        ("clip", 0.0),
        ("clip", math.inf),
        ("scale", 3000.0),
        ("scale", 2.0**14),
        ("scale", 2.0**45),
        ("scale", 0.0),
        ("sensitivity", 4000.0),
        ("sensitivity", math.inf),
        ("sensitivity", math.nan),
        ("beta", 1e-7),
        ("beta", 0.0),
        ("noise_multiplier", 0.0),
        ("noise_multiplier", 1e12),
        ("noise_multiplier", math.nan),
        ("bound", 0.0),
        ("bound", 1e12),
        ("steps", 0),
        ("steps", 20),
        ("spare", -1),
        ("spare", 20),
        ("repeats", 0),
        ("repeats", 2),
        ("sampling_rate", 0.0),
        ("sampling_rate", 1.5),
    ],
)
def test_each_number_is_checked(family: str, field: str, value: float) -> None:
    with pytest.raises(InputError, match=r"privacy\..*expected .*; found"):
        check_plan(changed(made(), family, **{field: value}), SITES)


def test_sampling_where_the_noise_is_for_full_batches_is_fine_but_not_the_reverse() -> None:
    check_plan(changed(made(), "update", sampling_rate=0.1), SITES)
    with pytest.raises(InputError, match="update: epsilon"):
        check_plan(changed(made(sampling_rate=0.1), "update", sampling_rate=0.2), SITES)
    with pytest.raises(InputError, match=r"evaluation\.sampling_rate"):
        check_plan(changed(made(), "evaluation", sampling_rate=0.1), SITES)


def test_noise_that_is_narrow_on_the_grid_is_refused() -> None:
    privacy = made()
    release = privacy.update
    coarse = 2.0**3
    tiny = changed(
        privacy, "update", scale=coarse, sensitivity=release.sensitivity * coarse / release.scale
    )
    with pytest.raises(InputError, match="sensitivity"):
        check_plan(tiny, SITES)
    honest = changed(privacy, "update", scale=coarse, sensitivity=20.0, bound=10.0)
    with pytest.raises(InputError, match="32 to 2\\^40 grid units"):
        check_plan(changed(honest, "update", noise_multiplier=3.0), SITES)


def test_fewer_sites_are_refused_more_need_more_stated() -> None:
    privacy = made()
    check_plan(privacy, SITES[:4])
    more = [*SITES, Site(name="new", train_size=1, test_size=0)]
    with pytest.raises(InputError, match="worst-case epsilon"):
        check_plan(privacy, more)
    with pytest.raises(InputError, match="at least 3"):
        check_plan(privacy, SITES[:2])


def test_mode_none_may_not_state_anything() -> None:
    privacy = made("none")
    for family in ("update", "evaluation"):
        with pytest.raises(InputError, match="noise_multiplier"):
            check_plan(changed(privacy, family, noise_multiplier=1.0), SITES)
    for field in ("epsilon", "epsilon_worst", "epsilon_evaluation_worst"):
        with pytest.raises(InputError, match="no guarantee"):
            check_plan(changed(privacy, None, **{field: 1.0}), SITES)


def test_without_evaluation_nothing_is_stated_for_it() -> None:
    privacy = replace(made(), evaluation=None)
    with pytest.raises(InputError, match="0 without evaluation"):
        check_plan(privacy, SITES)
    check_plan(replace(privacy, epsilon_evaluation=0.0, epsilon_evaluation_worst=0.0), SITES)


def test_shares_of_the_honest_sites_make_up_the_noise() -> None:
    for size, colluding in ((3, 1), (5, 0), (40, 19)):
        share = own_multiplier("distributed", 4.0, size, colluding)
        assert math.sqrt((size - colluding) * share**2) == pytest.approx(4.0, rel=1e-12)
    assert own_multiplier("local", 4.0, 5, 1) == 4.0


def test_cohorts_that_protect_nobody_are_refused() -> None:
    check_cohort("distributed", 3, 1)
    check_cohort("local", 1, 0)
    check_cohort("none", 2, 1)
    for mode, size, colluding in (
        ("distributed", 2, 0),
        ("distributed", 3, 2),
        ("distributed", 5, -1),
        ("local", 1, 1),
        ("none", 0, 0),
    ):
        with pytest.raises(InputError, match="privacy"):
            check_cohort(mode, size, colluding)  # type: ignore[arg-type]
