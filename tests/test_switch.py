"""The switch point: least regret, exact, and not at the mercy of one size."""

import numpy as np
import pytest

from raysl.analysis.switch import reversal_probabilities, sign_changes, switch_points


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

    def test_noise_at_the_dearest_size_moves_the_last_change_of_sign_but_not_the_switch_point(self):
        rng = np.random.default_rng(0)
        x = np.arange(6.0)
        curves = np.tile([-3.0, 3.0, 3.0, 3.0, 3.0, 0.2], (400, 1))
        curves[:, -1] += rng.normal(0, 0.5, size=400)
        last = [sign_changes(x, curve)[-1][0] for curve in curves]
        assert np.std(last) > 1
        assert np.all(switch_points(x, curves) == 0.5)


class TestTheChangesOfSign:
    def test_each_has_its_place_its_knots_and_its_direction(self):
        x = np.array([0.0, 1.0, 2.0, 3.0])
        found = sign_changes(x, np.array([-1.0, 1.0, 3.0, -3.0]))
        assert found == [(0.5, 0, 1, True), (2.5, 2, 3, False)]

    def test_a_stretch_on_zero_is_one_change_at_its_middle_or_none(self):
        x = np.array([0.0, 1.0, 2.0, 3.0])
        assert sign_changes(x, np.array([-1.0, 0.0, 0.0, 1.0])) == [(1.5, 0, 3, True)]
        assert sign_changes(x, np.array([1.0, 0.0, 0.0, 1.0])) == []


class TestReversals:
    def test_noise_around_zero_is_not_called_several_crossings(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(4000, 8))
        changes = (np.diff(np.sign(noise), axis=1) != 0).sum(axis=1)
        assert np.mean(changes >= 2) > 0.9  # counting changes would call it so
        several, falls = reversal_probabilities(noise)
        assert several < 0.2
        assert falls < 0.35

    def test_they_are_the_largest_over_all_choices_of_sizes(self):
        rng = np.random.default_rng(1)
        draws = rng.normal(size=(500, 5)) + np.array([1.0, 0.0, -1.0, 0.5, 1.0])
        up, down = draws > 0, draws < 0
        pairs = [up[:, i] & down[:, j] for i in range(5) for j in range(i + 1, 5)]
        triples = [
            (a[:, i] & b[:, j] & a[:, k])
            for a, b in ((up, down), (down, up))
            for i in range(5)
            for j in range(i + 1, 5)
            for k in range(j + 1, 5)
        ]
        several, falls = reversal_probabilities(draws)
        assert several == pytest.approx(max(t.mean() for t in triples))
        assert falls == pytest.approx(max(p.mean() for p in pairs))

    def test_a_curve_that_goes_one_way_has_none(self):
        rising = np.tile(np.linspace(-1, 1, 7), (10, 1))
        assert reversal_probabilities(rising) == (0.0, 0.0)
        assert reversal_probabilities(-rising) == (0.0, 1.0)
