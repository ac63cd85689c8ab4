"""Means and intervals of cells, and the numbers of sentences."""

import math

import pytest
from simulated import RISING, flat, study

from raysl.analysis.levels import make_curves, pooled_noise
from raysl.analysis.scores import Score
from raysl.analysis.wording import about, count, limits


class TestLevels:
    scores = (
        Score("a", 100.0, 0, 10.0),
        Score("a", 100.0, 1, 12.0),
        Score("a", 200.0, 0, 20.0),
        Score("b", None, 0, 5.0),
        Score("b", None, 1, 5.0),
        Score("b", None, 2, 8.0),
    )

    def test_the_sd_is_pooled_over_all_repeated_cells(self):
        # within-cell squares 2 and 6 on 1 + 2 degrees of freedom
        a, b = make_curves(self.scores)
        assert a.noise.sd == pytest.approx(math.sqrt(8 / 3))
        assert a.noise.df == 3
        assert a.noise == b.noise

    def test_the_interval_is_students_and_a_single_seed_uses_the_pooled_sd(self):
        a, _ = make_curves(self.scores, confidence=0.90)
        quantile, sd = 2.3534, math.sqrt(8 / 3)  # of Student's t with 3 df at 0.95
        double, single = a.levels
        assert double.mean == 11.0
        assert double.high - double.mean == pytest.approx(quantile * sd / math.sqrt(2), rel=1e-4)
        assert single.high - single.mean == pytest.approx(quantile * sd, rel=1e-4)
        assert single.seeds == (0,)

    def test_without_any_repetition_the_interval_is_absent(self):
        (curve,) = make_curves([Score("a", 100.0, 0, 1.0), Score("a", 200.0, 0, 2.0)])
        assert curve.noise.source == "unknown"
        assert [(level.low, level.high) for level in curve.levels] == [(None, None)] * 2

    def test_an_assumed_sd_is_used_and_must_be_positive(self):
        assert pooled_noise([], assume_sd=0.5).sd == 0.5
        with pytest.raises(ValueError, match="above 0"):
            pooled_noise([], assume_sd=0.0)

    def test_a_flat_arm_is_one_level(self):
        (curve,) = [c for c in make_curves(study(RISING, flat(80))) if c.arm == "scratch"]
        assert curve.is_flat
        assert len(curve.levels) == 1


class TestWording:
    def test_numbers(self):
        assert (count(8000.0), count(0.05), about(60_873)) == ("8,000", "0.05", "61,000")

    def test_close_limits_keep_enough_digits_to_differ(self):
        assert limits(1010, 1040, (500, 8000)) == ("1,010", "1,040")

    def test_rounding_never_leaves_the_range(self):
        low, high = limits(512.4, 7990, (512, 8000))
        assert (low, high) == ("512", "7,990")
