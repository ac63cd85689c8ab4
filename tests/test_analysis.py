"""Curves and thresholds: the right number, the right kind of answer, intervals that hold."""

import math

import numpy as np
import pytest

from raysl.analysis.levels import make_curves, pooled_noise
from raysl.analysis.pair import make_pair
from raysl.analysis.scores import Score, check_scores
from raysl.analysis.spread import Blocks, Independent, Paired, measure_spread
from raysl.analysis.switch import bend, reversal_probabilities, switch_points
from raysl.analysis.threshold import find_threshold
from raysl.analysis.wording import about, count, limits

# Konstantakos et al., Neurocomputing 620 (2025) 129199, figure 8: top-5 accuracy of a ResNet-50 on
# ImageNet-100, pretrained with SimCLR and probed, or trained from scratch; one run each.
FIGURE_8 = {100_000: (73.5, 70.6), 80_000: (70.2, 69.4), 65_000: (67.7, 67.4), 50_000: (63.9, 64.8)}
SIZES = np.geomspace(5e3, 3e5, 6)


def figure_8():
    return [
        Score(arm, float(size), 0, pair[i])
        for size, pair in FIGURE_8.items()
        for i, arm in enumerate(("simclr", "scratch"))
    ]


def study(arm, base, *, sizes=(500, 1000, 2000, 4000, 8000), seeds=3, sd=0.5, shared=0.0, rng=0):
    """Scores of two arms with the mean curves `arm` and `base`, flat where base(None) is a number.

    shared: the share of the noise variance that trials of one seed and size have in common.
    """
    rng = np.random.default_rng(rng)
    scores = []
    for seed in range(seeds):
        for size in sizes:
            common, mine, other = rng.normal(0, sd, size=3) * np.sqrt(
                [shared, 1 - shared, 1 - shared]
            )
            scores.append(Score("simclr", float(size), seed, arm(size) + common + mine))
            if base(None) is None:
                scores.append(Score("scratch", float(size), seed, base(size) + common + other))
        if base(None) is not None:
            scores.append(Score("scratch", None, seed, base(None) + rng.normal(0, sd)))
    return scores


def flat(level):
    return lambda size: level


def line(at, *, through, slope):
    """A level at size `through`, changing by `slope` points per e-fold; None for size None."""
    return lambda size: None if size is None else at + slope * math.log(size / through)


class TestTheGoldenCase:
    def test_interpolation_in_log_n_finds_the_crossing_of_figure_8(self):
        threshold = find_threshold(figure_8(), arm="simclr", baseline="scratch")
        assert 58_000 < threshold.point < 64_000

    def test_one_seed_gives_the_point_and_says_why_there_is_no_interval(self):
        threshold = find_threshold(figure_8())
        assert threshold.kind == "undetermined"
        assert (threshold.low, threshold.high, threshold.masses) == (None, None, None)
        assert threshold.noise.source == "unknown"
        assert "one seed" in threshold.sentence()
        assert "cross at about 61,000" in threshold.sentence()

    def test_an_assumed_sd_gives_the_known_interval_and_is_named(self):
        # Section 7 of the method's notes: < 50k to 81k, 0.08 of the probability below 50k.
        threshold = find_threshold(figure_8(), assume_sd=0.5, unit="unlabelled images")
        assert threshold.low == 50_000
        assert 75_000 < threshold.high < 86_000
        assert 0.05 < threshold.masses.below < 0.11
        assert threshold.interval_text() == "below 50,000 to 81,000"
        assert "assuming a seed sd of 0.5 points" in threshold.sentence()
        assert threshold.noise.source == "assumed"

    def test_a_small_assumed_sd_makes_it_found(self):
        threshold = find_threshold(figure_8(), assume_sd=0.2, unit="unlabelled images")
        assert threshold.kind == "found"
        assert threshold.sentence().startswith(
            "SimCLR beats scratch from about 61,000 unlabelled images on, 90 % interval 5"
        )


class TestTheSwitchPoint:
    def test_it_minimises_the_integral_of_the_difference(self):
        rng = np.random.default_rng(0)
        x = np.sort(rng.uniform(0, 5, size=6))
        curves = rng.normal(size=(300, 6))
        fine = np.linspace(x[0], x[-1], 20_001)
        for curve, found in zip(curves, switch_points(x, curves), strict=True):
            values = np.interp(fine, x, curve)
            steps = (values[1:] + values[:-1]) / 2 * np.diff(fine)
            integral = np.concatenate([[0.0], np.cumsum(steps)])
            at_found = np.interp(found, fine, integral)
            assert at_found == pytest.approx(integral.min(), abs=1e-6)

    def test_it_is_the_crossing_where_there_is_one_and_an_end_where_there_is_none(self):
        x = np.array([0.0, 1.0, 3.0])
        curves = np.array([[-1, 1, 2], [1, 2, 3], [-3, -2, -1], [-2, -1, 1]], dtype=float)
        assert switch_points(x, curves).tolist() == [0.5, 0.0, 3.0, 2.0]

    def test_a_shallow_early_lead_does_not_hide_the_real_switch(self):
        x = np.array([0.0, 1.0, 2.0, 3.0])
        assert 2.0 < switch_points(x, np.array([[0.1, -2.0, -2.0, 6.0]]))[0] < 3.0

    def test_bending_by_zero_changes_nothing_and_by_one_restores_a_parabola(self):
        x = np.array([0.0, 1.0, 3.0, 4.0])
        curves = np.stack([x**2 - 3, x**2 - 3])
        knots, bent = bend(x, curves, np.array([0.0, 1.0]))
        assert bent[0] == pytest.approx(np.interp(knots, x, curves[0]))
        assert bent[1] == pytest.approx(knots**2 - 3)

    def test_two_knots_cannot_bend(self):
        x, curves = np.array([0.0, 1.0]), np.array([[-1.0, 1.0]])
        assert bend(x, curves, np.array([1.0]))[0] is x

    def test_noise_around_zero_is_not_called_several_crossings(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(4000, 8))
        changes = (np.diff(np.sign(noise), axis=1) != 0).sum(axis=1)
        assert np.mean(changes >= 2) > 0.9  # counting changes would call it so
        several, falls = reversal_probabilities(noise)
        assert several < 0.2
        assert falls < 0.35


class TestTheKindsOfAnswer:
    def test_found(self):
        arm = line(80, through=1500, slope=3)
        threshold = find_threshold(study(arm, flat(80)), unit="unlabelled images")
        assert threshold.kind == "found"
        assert threshold.low < 1500 < threshold.high
        assert threshold.low < threshold.point < threshold.high
        assert threshold.masses.inside >= 0.95

    def test_always_ahead_with_its_smallest_lead(self):
        threshold = find_threshold(study(line(85, through=500, slope=2), flat(80)))
        assert threshold.kind == "always"
        assert threshold.point is None
        assert threshold.sentence() == (
            "No crossing between 500 and 8,000 images: SimCLR is ahead of scratch everywhere."
        )
        assert any(note.startswith("The smallest difference is") for note in threshold.notes)

    def test_never_ahead(self):
        threshold = find_threshold(study(line(70, through=8000, slope=2), flat(80)))
        assert threshold.kind == "never"
        assert "SimCLR is ahead of scratch nowhere" in threshold.sentence()

    def test_an_end_too_close_to_call_is_named(self):
        scores = study(line(90, through=500, slope=0.0), flat(80), sd=0.3)
        moved = [s for s in scores if s.size != 2000] + [
            Score("simclr", 2000.0, seed, 80 + noise) for seed, noise in enumerate((0.3, -0.2, 0.1))
        ]
        threshold = find_threshold(moved)
        assert threshold.kind == "always"
        assert "though too close to call at 2,000" in threshold.sentence()

    def test_two_crossings_give_no_single_threshold(self):
        def wave(size):
            return 80 - 4 * math.sin(math.pi * math.log(size / 500) / math.log(4) + 0.5)

        sizes = np.geomspace(500, 8000, 7)
        threshold = find_threshold(study(wave, flat(80), sizes=sizes, sd=0.4))
        assert threshold.kind == "several"
        assert len(threshold.crossings) >= 2
        assert "cross more than once" in threshold.sentence()
        assert max(c.probability for c in threshold.crossings) > 0.95

    def test_an_arm_that_falls_behind_stops_being_ahead(self):
        threshold = find_threshold(study(line(80, through=1500, slope=-3), flat(80)))
        assert threshold.kind == "several"
        assert [crossing.upward for crossing in threshold.crossings] == [False]
        assert "stops being ahead of scratch at about 1," in threshold.sentence()

    def test_equal_arms_stay_undetermined_with_the_probabilities(self):
        threshold = find_threshold(study(line(80, through=500, slope=0.0), flat(80)))
        assert threshold.kind == "undetermined"
        assert threshold.sentence().startswith("Undetermined, because the crossing may lie")
        assert "probability" in threshold.sentence()

    def test_repetitions_that_agree_exactly_are_not_taken_for_noiseless(self):
        scores = study(line(80, through=1500, slope=3), flat(80), sd=0.0)
        threshold = find_threshold(scores)
        assert threshold.kind == "undetermined"
        assert "agree exactly" in threshold.sentence()

    def test_two_sizes_are_said_to_hold_no_more_than_a_straight_line(self):
        scores = study(line(80, through=1500, slope=3), flat(80), sizes=(500, 8000), sd=0.2)
        threshold = find_threshold(scores)
        assert threshold.kind == "found"
        assert "if the difference is straight in log n" in threshold.sentence()

    def test_the_same_seed_gives_the_same_answer_and_draws_do_not_matter_much(self):
        scores = study(line(80, through=1500, slope=3), flat(80))
        first, second = find_threshold(scores), find_threshold(scores)
        assert first == second
        other = find_threshold(scores, seed=1, draws=5000)
        assert other != first
        assert other.low == pytest.approx(first.low, rel=0.05)


class TestTheSizesThatAreCompared:
    def test_nothing_is_claimed_outside_the_common_range(self):
        scores = study(line(80, through=1500, slope=3), line(80, through=1500, slope=0.0))
        scores = [s for s in scores if s.arm == "simclr" or 1000 <= s.size <= 4000]
        threshold = find_threshold(scores)
        assert threshold.sizes == (1000, 4000)
        assert any("left out: 500, 8,000" in note for note in threshold.notes)

    def test_an_open_end_is_printed_as_one(self):
        scores = study(line(80, through=560, slope=3), flat(80))
        threshold = find_threshold(scores)
        assert threshold.low == 500
        assert threshold.interval_text().startswith("below 500 to ")

    def test_a_flat_arm_is_one_level_and_not_evidence_at_every_size(self):
        scores = study(line(80, through=1500, slope=3), flat(80), sd=0.5)
        (curve,) = [c for c in make_curves(scores) if c.arm == "scratch"]
        assert curve.is_flat
        assert len(curve.levels) == 1
        loud = [
            Score(s.arm, s.size, s.seed, s.value + 3 * s.seed) if s.size is None else s
            for s in scores
        ]
        for apart in (0, 100):  # with the same seeds in both arms, and with others
            moved = [Score(s.arm, s.size, s.seed + apart * (s.size is None), s.value) for s in loud]
            spread = spread_of(moved)
            drawn = spread.draw(4000, np.random.default_rng(0))
            assert np.corrcoef(drawn, rowvar=False).min() > 0.6  # its error moves all sizes


def spread_of(scores):
    return measure_spread(make_pair(check_scores(scores), "simclr", "scratch"))


def with_seed_effects(scores, sd, rng=1):
    """The scores with an amount added that all trials of a seed share, as few labels make it."""
    effects = np.random.default_rng(rng).normal(0, sd, size=100)
    return [Score(s.arm, s.size, s.seed, s.value + effects[s.seed]) for s in scores]


RISING = line(80, through=1500, slope=3)
SIZED = line(80, through=1500, slope=0.0)  # a level baseline that depends on the size all the same


class TestTheNoiseOfTheDifference:
    def test_trials_of_one_seed_and_size_are_compared_pair_by_pair(self):
        scores = study(RISING, SIZED, shared=0.9, sd=1.0)
        assert isinstance(spread_of(scores), Paired)
        apart = [Score(s.arm, s.size, s.seed + 50 * (s.arm == "simclr"), s.value) for s in scores]
        assert isinstance(spread_of(apart), Independent)
        assert spread_of(scores).errors.max() < 0.7 * spread_of(apart).errors.min()

    def test_what_all_trials_of_a_seed_share_cancels_with_a_flat_baseline(self):
        quiet = study(RISING, flat(80), seeds=4)
        loud = with_seed_effects(quiet, sd=3.0)
        assert isinstance(spread_of(loud), Blocks)
        assert spread_of(loud).errors == pytest.approx(spread_of(quiet).errors)
        assert find_threshold(loud).low == pytest.approx(find_threshold(quiet).low)
        apart = [Score(s.arm, s.size, s.seed + 50 * (s.size is None), s.value) for s in loud]
        assert isinstance(spread_of(apart), Independent)
        assert spread_of(loud).errors.max() < 0.6 * spread_of(apart).errors.min()

    def test_seeds_that_shift_whole_curves_are_not_averaged_out_over_the_sizes(self):
        scores = study(RISING, SIZED, seeds=5, sd=0.3)
        shifted = [
            Score(s.arm, s.size, s.seed, s.value + 2 * (s.seed - 2) * (s.arm == "simclr"))
            for s in scores
        ]
        assert isinstance(spread_of(scores), Paired)
        spread = spread_of(shifted)
        assert isinstance(spread, Blocks)
        drawn = spread.draw(4000, np.random.default_rng(0))
        assert np.corrcoef(drawn, rowvar=False).min() > 0.9
        # one sd of the five shifts -4, -2, 0, 2, 4 over the root of their number
        assert spread.errors == pytest.approx([math.sqrt(10 / 5)] * 5, rel=0.1)

    @pytest.mark.parametrize("kind", ["blocks", "pairs", "independent"])
    def test_draws_have_the_stated_standard_errors(self, kind):
        base = flat(80) if kind == "blocks" else SIZED
        scores = study(RISING, base, seeds=12)
        if kind == "independent":
            scores = [s for s in scores if s.arm == "simclr" or s.seed < 11]
        spread = spread_of(scores)
        drawn = spread.draw(40_000, np.random.default_rng(0))
        # Student's t with many degrees of freedom has a slightly larger sd
        assert drawn.std(axis=0) == pytest.approx(spread.errors, rel=0.1)
        assert drawn.mean(axis=0) == pytest.approx(np.zeros(5), abs=0.01)

    def test_each_arm_keeps_its_own_noise_and_too_few_repetitions_borrow_it(self):
        scores = study(RISING, flat(80))
        own = spread_of([s for s in scores if s.size != 500 or s.seed != 0])
        assert isinstance(own, Independent)
        assert (own.arm.df, own.baseline.df) == (9, 2)
        borrowed = spread_of([s for s in scores if s.size is not None or s.seed == 0])
        assert borrowed.arm == borrowed.baseline
        assert "taken to be the same" in borrowed.note

    def test_the_threshold_tells_how_it_was_taken(self):
        notes = find_threshold(study(RISING, flat(80))).notes
        assert any("Trials are compared seed by seed" in note for note in notes)


def power_law_world(rng, low=5e3, high=3e5):
    """Two power laws of the error with exactly one crossing, at a known size in the range."""
    while True:
        crossing = math.exp(rng.uniform(math.log(low), math.log(high)))
        error = rng.uniform(15, 45)
        floors = rng.uniform(0.1, 0.65, size=2) * error
        exponent = rng.uniform(0.12, 0.6)
        slope = (error - floors[0]) * exponent + math.exp(rng.uniform(0, math.log(6)))
        exponents = exponent, slope / (error - floors[1])

        def curve(size, i, error=error, floors=floors, exponents=exponents, crossing=crossing):
            return 100 - floors[i] - (error - floors[i]) * (size / crossing) ** -exponents[i]

        fine = np.geomspace(low, high, 300)
        ahead = curve(fine, 1) > curve(fine, 0)
        if np.sum(ahead[1:] != ahead[:-1]) == 1 and min(curve(low, 0), curve(low, 1)) > 12:
            return crossing, lambda n, c=curve: c(n, 0), lambda n, c=curve: c(n, 1)


def simulated(rng, base, arm, *, seeds, sd=None):
    sd = sd or rng.uniform(0.3, 1.0)
    return [
        Score(name, float(size), seed, mean(size) + rng.normal(0, sd))
        for name, mean in (("scratch", base), ("simclr", arm))
        for size in SIZES
        for seed in range(seeds)
    ]


def covers(threshold, truth):
    low, high = threshold.sizes
    return (threshold.low <= truth or threshold.low <= low) and (
        threshold.high >= truth or threshold.high >= high
    )


class TestCalibration:
    """Simulated studies on fixed seeds: what is claimed with 90 % is true in about 90 %."""

    @pytest.mark.parametrize(("seeds", "sd"), [(3, None), (2, None), (3, 0.2)])
    def test_the_interval_covers_the_crossing_of_power_laws(self, seeds, sd):
        hits, kinds = [], []
        for world in range(220):
            rng = np.random.default_rng([world, seeds])
            truth, base, arm = power_law_world(rng)
            scores = simulated(rng, base, arm, seeds=seeds, sd=sd)
            threshold = find_threshold(scores, draws=1500)
            hits.append(covers(threshold, truth))
            kinds.append(threshold.kind)
            assert threshold.point is None or threshold.low <= threshold.point <= threshold.high
        assert 0.84 <= np.mean(hits) <= 0.97
        assert np.mean(np.isin(kinds, ["always", "never", "several"])) <= 0.03
        assert np.mean(np.array(kinds) == "found") >= 0.7

    def test_it_covers_kinked_curves_too(self):
        hits = []
        x = np.log(SIZES)
        for world in range(220):
            rng = np.random.default_rng([world, 99])
            while True:
                knots = rng.uniform(-8, 2) + np.cumsum([0, *rng.uniform(0.1, 4, size=5)])
                if knots[0] < -0.3 and knots[-1] > 0.3:
                    break
            truth = math.exp(np.interp(0, knots, x))
            scores = simulated(
                rng,
                lambda n: 50.0,
                lambda n, k=knots: 50 + np.interp(math.log(n), x, k),
                seeds=3,
            )
            hits.append(covers(find_threshold(scores, draws=1500), truth))
        assert 0.84 <= np.mean(hits) <= 0.97

    @pytest.mark.parametrize("own", [0.0, 0.5])
    def test_it_covers_where_few_labels_move_all_trials_of_a_seed(self, own):
        hits, widths = [], []
        for world in range(220):
            rng = np.random.default_rng([world, 4])
            truth = math.exp(rng.uniform(math.log(5e3), math.log(3e5)))
            slope = math.exp(rng.uniform(0, math.log(6)))
            scores = []
            for seed in range(5):
                shared, mine = rng.normal(0, [2.0, own + 1e-9])
                scores.append(Score("scratch", None, seed, 60 + shared + rng.normal(0, 0.5)))
                for size in SIZES:
                    value = 60 + slope * math.log(size / truth) + shared + mine
                    scores.append(Score("simclr", float(size), seed, value + rng.normal(0, 0.5)))
            threshold = find_threshold(scores, draws=1500)
            hits.append(covers(threshold, truth))
            widths.append(math.log(threshold.high / threshold.low))
        assert 0.84 <= np.mean(hits) <= 0.97
        assert np.median(widths) < 0.7  # 1.3 where the shared part does not cancel

    def test_curves_that_do_not_cross_are_rarely_given_a_crossing(self):
        kinds, wrong_side = [], 0
        for world in range(150):
            rng = np.random.default_rng([world, 7])
            side, gap, slope = rng.choice([-1, 1]), rng.uniform(0.4, 3), rng.uniform(0, 1.5)
            scores = simulated(
                rng,
                lambda n: 60 + 5 * math.log(n / 5e3),
                lambda n, s=side, g=gap, b=slope: (
                    60 + 5 * math.log(n / 5e3) + s * (g + b * math.log(n / 5e3))
                ),
                seeds=3,
            )
            kinds.append(find_threshold(scores, draws=1500).kind)
            wrong_side += kinds[-1] == ("never" if side > 0 else "always")
        assert np.mean(np.isin(kinds, ["found", "several"])) <= 0.02
        assert wrong_side == 0
        assert np.mean(np.isin(kinds, ["always", "never"])) >= 0.75

    def test_arms_that_do_not_differ_are_rarely_told_apart(self):
        kinds = []
        for world in range(150):
            rng = np.random.default_rng([world, 8])
            same = line(60, through=5e3, slope=5)
            kinds.append(find_threshold(simulated(rng, same, same, seeds=3), draws=1500).kind)
        assert np.mean(np.array(kinds) != "undetermined") <= 0.05


class TestCurves:
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


class TestWording:
    def test_numbers(self):
        assert (count(8000.0), count(0.05), about(60_873)) == ("8,000", "0.05", "61,000")

    def test_close_limits_keep_enough_digits_to_differ(self):
        assert limits(1010, 1040, (500, 8000)) == ("1,010", "1,040")

    def test_rounding_never_leaves_the_range(self):
        low, high = limits(512.4, 7990, (512, 8000))
        assert (low, high) == ("512", "7,990")
