"""The answer: the golden case, every kind of answer, open ends, notes, any metric, bad input."""

import math
import re

import numpy as np
import pytest
from simulated import RISING, SIZED, figure_8, flat, line, study

from raysl.analysis.scores import Score
from raysl.analysis.threshold import find_threshold


def wave(size):
    return 80 - 4 * math.sin(math.pi * math.log(size / 500) / math.log(4) + 0.5)


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
        # The bars of the method's notes, section 8, number 10.
        threshold = find_threshold(figure_8(), assume_sd=0.5, unit="unlabelled images")
        assert 58_000 < threshold.point < 64_000
        assert threshold.low == 50_000
        assert 65_000 < threshold.high < 75_000
        assert 0.03 < threshold.masses.below < 0.08
        between = sum(mass for _, high, mass in threshold.places if high < 65_100)
        assert 0.6 < between < 0.8
        assert threshold.interval_text() == "below 50,000 to 72,000"
        assert "assuming a seed sd of 0.5 points" in threshold.sentence()
        assert threshold.noise.source == "assumed"

    def test_one_seed_and_what_lies_beyond_the_range_are_warned_of(self):
        notes = find_threshold(figure_8(), assume_sd=0.5).notes
        assert notes[0] == (
            "The seed sd of 0.5 points is assumed, not measured: each cell has one seed."
        )
        assert any(
            note.startswith("Nothing is claimed outside 50,000 to 100,000") for note in notes
        )

    def test_a_small_assumed_sd_makes_it_found(self):
        threshold = find_threshold(figure_8(), assume_sd=0.2, unit="unlabelled images")
        assert threshold.kind == "found"
        # Draws on another processor may round the last digit the other way.
        assert re.fullmatch(
            r"SimCLR beats scratch from about 6[23],000 unlabelled images on, 90 % interval "
            r"5[567],000-6[789],000, assuming a seed sd of 0\.2 points\.",
            threshold.sentence(),
        )


class TestTheKindsOfAnswer:
    def test_found(self):
        threshold = find_threshold(study(RISING, flat(80)), unit="unlabelled images")
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
        assert any("a smooth curve is doubtful" in note for note in threshold.notes)

    def test_two_crossings_give_no_single_threshold(self):
        sizes = np.geomspace(500, 8000, 7)
        threshold = find_threshold(study(wave, flat(80), sizes=sizes, sd=0.4))
        assert threshold.kind == "several"
        assert len(threshold.crossings) >= 2
        assert "cross more than once" in threshold.sentence()
        assert max(c.probability for c in threshold.crossings) > 0.95

    def test_an_arm_that_falls_behind_stops_being_ahead_within_an_interval(self):
        threshold = find_threshold(study(line(80, through=1500, slope=-3), flat(80)))
        assert threshold.kind == "several"
        (crossing,) = threshold.crossings
        assert not crossing.upward
        assert crossing.low < 1500 < crossing.high
        assert crossing.high / crossing.low < 2
        assert "stops being ahead of scratch at about 1," in threshold.sentence()
        assert "90 % interval 1," in threshold.sentence()
        assert any("SimCLR gets worse with more images" in note for note in threshold.notes)

    def test_equal_arms_stay_undetermined_with_the_probabilities(self):
        threshold = find_threshold(study(line(80, through=500, slope=0.0), flat(80)))
        assert threshold.kind == "undetermined"
        assert threshold.sentence().startswith("Undetermined, because the crossing may lie")
        assert "probability" in threshold.sentence()

    def test_repetitions_that_agree_exactly_are_not_taken_for_noiseless(self):
        threshold = find_threshold(study(RISING, flat(80), sd=0.0))
        assert threshold.kind == "undetermined"
        assert "agree exactly" in threshold.sentence()

    def test_two_sizes_are_said_to_leave_the_shape_between_them_open(self):
        said = "Only two sizes were measured"
        two = find_threshold(study(RISING, flat(80), sizes=(500, 8000), sd=0.2))
        three = find_threshold(study(RISING, flat(80), sizes=(500, 1000, 8000), sd=0.2))
        assert two.kind == "found"
        assert any(note.startswith(said) for note in two.notes)
        assert not any(note.startswith(said) for note in three.notes)

    def test_the_same_seed_gives_the_same_answer_and_draws_do_not_matter_much(self):
        scores = study(RISING, flat(80))
        first, second = find_threshold(scores), find_threshold(scores)
        assert first == second
        other = find_threshold(scores, seed=1, draws=5000)
        assert other != first
        assert other.low == pytest.approx(first.low, rel=0.05)


class TestTheSizesThatAreCompared:
    def test_no_threshold_is_claimed_outside_the_common_range(self):
        scores = study(RISING, SIZED)
        scores = [s for s in scores if s.arm == "simclr" or 1000 <= s.size <= 4000]
        threshold = find_threshold(scores)
        assert threshold.sizes == (1000, 4000)
        assert 1000 <= threshold.low <= threshold.high <= 4000
        assert any("Missing cells, which the other arm has" in note for note in threshold.notes)

    def test_an_interval_beyond_what_was_measured_is_no_threshold(self):
        measured = find_threshold(study(RISING, flat(80), sd=0.2))
        assert measured.kind == "found"
        scores = [s for s in study(RISING, flat(80), sd=0.2) if s.size is None or s.size >= 2000]
        wide = find_threshold(scores, asked=(500, 8000))
        assert wide.asked == (500, 8000)
        assert wide.sizes == (2000, 8000)
        assert wide.kind == "undetermined"

    def test_an_open_end_is_exactly_the_end_and_printed_as_open(self):
        threshold = find_threshold(study(line(80, through=560, slope=3), flat(80)))
        assert threshold.low == 500
        assert threshold.interval_text().startswith("below 500 to ")
        threshold = find_threshold(study(line(80, through=7500, slope=3), flat(80)))
        assert threshold.high == 8000
        assert threshold.interval_text().endswith(" to above 8,000")

    @pytest.mark.parametrize("low", [3.0, 700.0, 49_999.0, 123_457.0])
    def test_whatever_the_end_is_it_is_met_exactly(self, low):
        sizes = [low * ratio for ratio in (1, 2, 4, 8)]
        ahead = find_threshold(study(line(85, through=low, slope=2), flat(80), sizes=sizes))
        behind = find_threshold(study(line(60, through=low, slope=2), flat(80), sizes=sizes))
        assert (ahead.low, ahead.high, ahead.point) == (low, low, None)
        assert (behind.low, behind.high, behind.point) == (8 * low, 8 * low, None)

    def test_of_an_arm_that_stops_being_ahead_too(self):
        threshold = find_threshold(study(line(80, through=600, slope=-3), flat(80)))
        assert threshold.crossings[0].low == 500
        assert threshold.kind == "undetermined"
        assert "may fall from above zero to below" in threshold.sentence()
        assert "interval" not in threshold.sentence()


class TestTheForecast:
    def test_it_asks_for_what_would_leave_the_nearer_end_out(self):
        threshold = find_threshold(study(line(80, through=600, slope=2), flat(80), seeds=2))
        assert threshold.kind == "undetermined"
        (text,) = [note for note in threshold.notes if "more run" in note]
        ratio = float(text.split("a ratio of ")[1].split()[0])
        assert 1.05 <= ratio < 1.5
        assert ratio == pytest.approx((threshold.point / 500) ** 2, abs=0.02)

    def test_no_runs_are_never_asked_for(self):
        for sd in (0.5, 0.8):
            notes = find_threshold(figure_8(), assume_sd=sd).notes
            assert not any("about 0 more" in note for note in notes)
        equal = find_threshold(study(line(80, through=500, slope=0.0), flat(80)))
        assert any("more runs" in note or "no number of runs" in note for note in equal.notes)


class TestAnyMetric:
    def in_fractions(self, scores):
        return [Score(s.arm, s.size, s.seed, s.value / 100) for s in scores]

    def test_a_metric_in_0_to_1_has_the_threshold_of_percents(self):
        scores = study(RISING, SIZED)
        percent = find_threshold(scores)
        other = find_threshold(self.in_fractions(scores), point=0.01)
        assert other.kind == percent.kind == "found"
        assert other.point == pytest.approx(percent.point, rel=1e-6)
        assert other.interval_text() == percent.interval_text()
        assert other.notes == percent.notes
        assert other.noise.sd == pytest.approx(percent.noise.sd / 100)
        assert other.differences[0].low == pytest.approx(percent.differences[0].low / 100)

    def test_so_have_a_margin_and_an_assumed_sd_and_the_sentence_says_points(self):
        percent = find_threshold(figure_8(), assume_sd=0.2, margin=0.5)
        other = find_threshold(
            self.in_fractions(figure_8()), assume_sd=0.002, margin=0.005, point=0.01
        )
        assert other.sentence() == percent.sentence()
        assert other.notes == percent.notes
        assert "by 0.5 points from" in percent.sentence()
        assert "a seed sd of 0.2 points" in percent.sentence()

    def test_a_loss_negated_does_as_well(self):
        scores = study(RISING, SIZED)
        losses = [Score(s.arm, s.size, s.seed, 2.5 - s.value / 40) for s in scores]
        negated = [Score(s.arm, s.size, s.seed, -s.value) for s in losses]
        found = find_threshold(negated, point=1 / 40)
        assert found.point == pytest.approx(find_threshold(scores).point, rel=1e-6)

    def test_what_all_values_have_in_common_does_not_matter(self):
        scores = study(RISING, SIZED)
        moved = [Score(s.arm, s.size, s.seed, s.value - 300) for s in scores]
        assert find_threshold(moved).point == pytest.approx(find_threshold(scores).point, rel=1e-6)

    def test_a_margin_moves_the_threshold_up_and_is_in_the_sentence(self):
        scores = study(RISING, flat(80), sd=0.2)
        plain, ahead = find_threshold(scores), find_threshold(scores, margin=1.5)
        # 1.5 points more at 3 points an e-fold: half an e-fold
        assert math.log(ahead.point / plain.point) == pytest.approx(0.5, abs=0.1)
        assert ahead.low > plain.high
        assert "SimCLR beats scratch by 1.5 points from about 2," in ahead.sentence()
        assert "points" not in plain.sentence()


class TestBadInput:
    good = study(RISING, SIZED)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"margin": -1.0}, "margin must be a number from 0 up, not -1"),
            ({"margin": math.nan}, "margin must be a number from 0 up, not nan"),
            ({"confidence": 1.0}, "confidence must be from 0.5 to below 1"),
            ({"point": 0.0}, "size of a point must be a number above 0, not 0"),
            ({"assume_sd": 0.0}, "assumed sd must be a number above 0"),
            ({"arm": "simlcr"}, "did you mean 'simclr'"),
            ({"arm": "scratch", "baseline": "scratch"}, "both 'scratch'"),
        ],
    )
    def test_options_that_mean_nothing_are_refused(self, options, sentence):
        with pytest.raises(ValueError, match=sentence):
            find_threshold(self.good, **options)

    @pytest.mark.parametrize(
        ("scores", "sentence"),
        [
            ([], "needs two arms, and there are no scores"),
            ([s for s in good if s.arm == "simclr"], "needs two arms, and there is only 'simclr'"),
            ([s for s in good if s.arm == "simclr" or s.size == 500], "at least two sizes"),
            ([*good, good[0]], "repeats"),
            ([*good, Score("simclr", 500.0, 9, math.nan, "row 9")], "Row 9 .* no finite metric"),
            ([*good, Score("simclr", -5.0, 9, 80.0, "row 9")], "Row 9 .* must be above 0"),
            ([Score(s.arm, s.size, s.seed, s.value / 100) for s in good], "multiply them by 100"),
            ([*good, Score("simclr", 500.0, 9, 0.78, "row 9")], "Row 9 .* looks like a fraction"),
        ],
    )
    def test_scores_that_cannot_hold_a_threshold_are_refused(self, scores, sentence):
        with pytest.raises(ValueError, match=sentence):
            find_threshold(scores, arm=None, baseline=None)

    def test_a_metric_that_never_moves_is_undetermined(self):
        same = [Score(s.arm, s.size, s.seed, 50.0) for s in self.good]
        threshold = find_threshold(same)
        assert threshold.kind == "undetermined"
        assert threshold.crossings == ()
        assert any("All 15 values of SimCLR are 50" in note for note in threshold.notes)
