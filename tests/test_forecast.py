"""How many runs an answer needs: the formula, a simulation of what it promises, and the words."""

import math

import numpy as np
import pytest

from raysl.analysis.forecast import forecast_text, pairs_needed, runs_needed


def test_a_ratio_of_one_and_a_half_needs_131_pairs_at_equal_noise_and_slope():
    assert pairs_needed(1.0, 1.0) == pytest.approx(131, abs=1)
    assert pairs_needed(0.6, 3.0) == pytest.approx(131 * (0.6 / 3.0) ** 2, rel=0.01)


def test_half_the_slope_costs_four_times_the_pairs_whatever_its_sign():
    assert pairs_needed(0.6, 1.0) == pytest.approx(4 * pairs_needed(0.6, 2.0))
    assert pairs_needed(0.6, -2.0) == pairs_needed(0.6, 2.0)


def test_a_tighter_ratio_costs_more():
    assert pairs_needed(0.6, 2.0, ratio=1.2) > 4 * pairs_needed(0.6, 2.0, ratio=1.5)


def test_that_many_pairs_give_an_interval_of_that_ratio_that_covers_nine_times_in_ten():
    sd, slope, ratio, crossing = 0.8, 2.5, 1.6, math.log(20_000)
    pairs = round(pairs_needed(sd, slope, ratio=ratio))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, sd, size=(4000, pairs, 2))  # [worlds, pairs, arms]
    differences = (noise[..., 0] - noise[..., 1]).mean(axis=1)  # [worlds], at the crossing: D = 0
    found = crossing - differences / slope
    half_width = math.log(ratio) / 2
    assert np.mean(np.abs(found - crossing) < half_width) == pytest.approx(0.9, abs=0.02)


def test_without_a_slope_no_number_of_pairs_is_enough():
    assert pairs_needed(0.6, 0.0) == math.inf


@pytest.mark.parametrize(
    ("sd", "slope", "ratio", "words"),
    [
        (-1.0, 1.0, 1.5, "from 0 up"),
        (math.nan, 1.0, 1.5, "from 0 up"),
        (1.0, math.nan, 1.5, "finite"),
        (1.0, 1.0, 1.0, "above 1"),
    ],
)
def test_impossible_numbers_get_a_sentence(sd, slope, ratio, words):
    with pytest.raises(ValueError, match=words):
        pairs_needed(sd, slope, ratio=ratio)


def test_runs_are_two_a_pair_less_what_is_there():
    assert runs_needed(5.2) == 12
    assert runs_needed(5.2, arm_runs=4, baseline_runs=2) == 6
    assert runs_needed(5.2, arm_runs=50, baseline_runs=2) == 4


def test_the_words_turn_a_slope_per_doubling_into_runs():
    text = forecast_text(arm="simclr", baseline="scratch", sd=0.6, slope=2.0)
    # 2 points per doubling are 2.885 per e-fold: 131 (0.6 / 2.885)^2 = 5.7 pairs.
    assert text.startswith(
        "With seed noise 0.6 points and a slope of 2 points per doubling, "
        "expect about 12 more runs for a ratio of 1.5"
    )
    assert "6 pairs of SimCLR and scratch near the crossing" in text


def test_the_words_count_what_is_done_and_say_how_a_flat_baseline_runs():
    text = forecast_text(
        arm="simclr", baseline="scratch", sd=0.6, slope=2.0, flat_baseline=True, arm_runs=2,
        baseline_runs=5,
    )  # fmt: skip
    assert "expect about 5 more runs" in text
    assert "6 of SimCLR near the crossing and 6 of scratch, one a seed" in text
    assert "2 of SimCLR and 5 of scratch are done" in text


@pytest.mark.parametrize("slope", [0.0, None])
def test_the_words_say_plainly_that_a_slope_of_zero_or_an_unknown_one_cannot_be_bought_off(slope):
    text = forecast_text(arm="simclr", baseline="scratch", sd=0.6, slope=slope)
    assert "no number of runs would" in text
    assert "expect about" not in text
