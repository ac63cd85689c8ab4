"""Curve families against left-out sizes: who predicts them, and what that does to the threshold."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from raysl.analysis.families import FAMILIES, SHAPES, Cells, best_curve, fit_lines, fit_shape
from raysl.analysis.models import compare_models, leave_one_out
from raysl.analysis.scores import Score

# Konstantakos et al., Neurocomputing 620 (2025) 129199, figure 8; one run each.
FIGURE_8 = {100_000: (73.5, 70.6), 80_000: (70.2, 69.4), 65_000: (67.7, 67.4), 50_000: (63.9, 64.8)}
SIZES = np.geomspace(5e3, 3e5, 6)


def power_law(floor, drop, exponent):
    return lambda n: 100 - floor - drop * (n / 4e4) ** -exponent


def log_linear(level, slope):
    return lambda n: level + slope * math.log(n / 4e4)


def hill(steepness):
    return lambda n: 30 + 35 / (1 + (n / 4e4) ** -steepness)


def study(arm, base, *, sizes=SIZES, seeds=3, sd=0.4, rng=0):
    """Scores of two arms; a number as baseline is a flat arm."""
    rng = np.random.default_rng(rng)
    scores = [
        Score(name, float(size), seed, curve(size) + rng.normal(0, sd))
        for name, curve in (("simclr", arm), ("scratch", base))
        if callable(curve)
        for size in sizes
        for seed in range(seeds)
    ]
    if not callable(base):
        scores += [Score("scratch", None, seed, base + rng.normal(0, sd)) for seed in range(seeds)]
    return scores


def compare(scores, **options):
    return compare_models(scores, arm="simclr", baseline="scratch", **options)


def by_name(comparison):
    return {model.name: model for model in comparison.models}


def cells_of(means, *, sizes=SIZES, variance=0.05):
    x = np.log(sizes) - math.log(sizes[0] * sizes[-1]) / 2
    variances = np.broadcast_to(np.asarray(variance, dtype=float), x.shape)
    return Cells(x=x, mean=np.asarray(means, dtype=float), variance=variances, half=x[-1])


def loss_of(shape, grid, cells):
    return fit_lines(shape.rise(grid, cells.x), cells).loss


def winners(arm, base, num_worlds=5):
    return [compare(study(arm, base, rng=world)).models[0].name for world in range(num_worlds)]


class TestTheBestFamily:
    """Each family wins on its own data more often than not."""

    def test_power_laws_are_recognised(self):
        found = winners(power_law(12, 20, 0.8), power_law(20, 13, 0.4))
        assert found.count("power law") > len(found) / 2
        assert "log-linear" not in found

    def test_straight_lines_are_recognised(self):
        found = winners(log_linear(65, 5), log_linear(66, 2))
        assert found.count("log-linear") > len(found) / 2

    def test_curves_that_level_off_at_both_ends_are_recognised(self):
        found = winners(hill(2.0), hill(1.2))
        assert found.count("Hill") > len(found) / 2

    def test_a_family_that_misses_the_bend_is_not_plausible(self):
        models = by_name(compare(study(power_law(12, 20, 0.8), power_law(20, 13, 0.4))))
        assert models["power law"].plausible
        assert not models["log-linear"].plausible

    def test_its_score_is_the_sum_of_interior_and_ends(self):
        for model in compare(study(power_law(12, 20, 0.8), 66.0)).models:
            assert model.log_score == pytest.approx(model.interior + model.ends)


class TestFits:
    @pytest.mark.parametrize("exponent", [0.0, 0.3, 1.1])
    def test_the_power_law_reaches_the_least_squares_optimum(self, exponent):
        rng = np.random.default_rng(3)
        curve = power_law(15, 20, exponent) if exponent else log_linear(60, 4)
        cells = cells_of([curve(n) for n in SIZES] + rng.normal(0, 0.3, len(SIZES)))
        shape = SHAPES["power law"]
        low, high = shape.bounds(cells.half)
        fine = np.linspace(low, high, 200_001)  # [G, 1]
        brute = loss_of(shape, fine, cells)
        best = fit_shape(shape, cells)
        assert loss_of(shape, best[None], cells)[0] <= brute.min() + 1e-9
        assert best[0] == pytest.approx(fine[np.argmin(brute), 0], abs=1e-4)

    def test_so_does_the_hill_curve_where_a_coarse_grid_has_no_point_that_fits(self):
        rng = np.random.default_rng(4)
        clean = [hill(2.3)(n) for n in SIZES]
        cells = cells_of(clean + rng.normal(0, 0.05, len(SIZES)), variance=0.0025)
        shape = SHAPES["Hill"]
        low, high = shape.bounds(cells.half)
        axes = np.meshgrid(np.linspace(low[0], high[0], 600), np.linspace(low[1], high[1], 600))
        brute = loss_of(shape, np.stack([axis.ravel() for axis in axes], axis=1), cells)
        best = fit_shape(shape, cells)
        assert loss_of(shape, best[None], cells)[0] <= brute.min()
        assert math.exp(best[0]) == pytest.approx(2.3, rel=0.03)

    def test_a_falling_curve_is_fitted_by_a_flat_one(self):
        cells = cells_of([60, 59, 58, 57, 56, 55])
        for family in SHAPES:
            assert best_curve(family, cells, cells.x) == pytest.approx(np.full(6, 57.5))

    def test_isotonic_agrees_with_scikit_learn_and_weighs_cells_by_their_seeds(self):
        cells = cells_of([50, 54, 52, 51, 58, 57], variance=[0.1, 0.1, 0.05, 0.1, 0.1, 0.3])
        at = np.linspace(cells.x[0] - 1, cells.x[-1] + 1, 40)
        reference = IsotonicRegression(out_of_bounds="clip")
        reference.fit(cells.x, cells.mean, sample_weight=1 / cells.variance)
        assert best_curve("isotonic", cells, at) == pytest.approx(reference.predict(at))
        # by hand: 54, 52, 51 with weights 1, 2, 1 and 58, 57 with weights 3, 1
        pooled = [50, 52.25, 52.25, 52.25, 57.75, 57.75]
        assert best_curve("isotonic", cells, cells.x) == pytest.approx(pooled)

    def test_the_gaussian_process_follows_a_bend_that_a_line_cannot(self):
        cells = cells_of([50, 55, 57, 57, 55, 50])
        assert best_curve("GP", cells, cells.x) == pytest.approx(cells.mean, abs=0.4)


class TestForecasts:
    def test_the_log_linear_forecast_is_the_textbook_one(self):
        cells = cells_of([50.0, 54.2, 57.1, 61.5, 64.8, 69.4], variance=0.2)
        log_density, miss = leave_one_out("log-linear", cells, 0)
        design = np.stack([np.ones(5), cells.x[:5]], axis=1)
        coefficients = np.linalg.lstsq(design, cells.mean[:5])[0]
        last = np.array([1.0, cells.x[5]])
        sd = math.sqrt(0.2 * (1 + last @ np.linalg.inv(design.T @ design) @ last))
        residual = cells.mean[5] - last @ coefficients
        assert log_density[5] == pytest.approx(stats.norm.logpdf(residual, scale=sd), rel=1e-3)
        assert miss[5] == pytest.approx(abs(residual) / sd, rel=1e-3)

    @pytest.mark.parametrize("family", ["power law", "log-linear", "Hill", "GP"])
    def test_left_out_sizes_scatter_as_a_family_says_on_its_own_data(self, family):
        curve = {"log-linear": log_linear(60, 5), "Hill": hill(1.5)}.get(
            family, power_law(15, 20, 0.5)
        )
        rng = np.random.default_rng(5)
        clean = np.array([curve(n) for n in SIZES])
        misses = [
            leave_one_out(family, cells_of(clean + rng.normal(0, 0.3, 6), variance=0.09), 0)[1]
            for _ in range(10)
        ]
        assert 0.5 < np.mean(np.square(misses)) < 1.6

    def test_so_they_do_where_a_fixed_grid_of_shapes_would_step_over_those_that_fit(self):
        rng = np.random.default_rng(6)
        clean = np.array([hill(2.3)(n) for n in SIZES])
        misses = [
            leave_one_out("Hill", cells_of(clean + rng.normal(0, 0.05, 6), variance=0.0025), 0)[1]
            for _ in range(10)
        ]
        assert 0.5 < np.mean(np.square(misses)) < 1.6

    @pytest.mark.parametrize("family", FAMILIES)
    def test_more_noise_makes_a_forecast_less_certain(self, family):
        at = np.array([-3.0, -1.0, 0.4, 3.0])  # the sizes are at -2.0 ... 2.0
        sure, unsure = (
            FAMILIES[family](cells_of([50.0, 54, 57, 59, 60, 61], variance=variance), at).variance
            for variance in (0.01, 4.0)
        )
        assert (unsure > sure + 0.1).all()

    def test_a_step_at_the_largest_size_warns_against_extrapolation(self):
        step = dict(zip(SIZES, [60, 60.3, 60.5, 60.9, 61, 69], strict=True))
        comparison = compare(study(step.__getitem__, 62.0))
        assert comparison.largest_miss > 4
        assert "do not trust any extrapolation" in comparison.warning()

    def test_so_does_a_curve_that_turns_down(self):
        hump = dict(zip(SIZES, [50, 55, 60, 64, 66, 60], strict=True))
        assert compare(study(hump.__getitem__, 62.0)).largest_miss > 4

    def test_power_laws_rarely_do(self):
        misses = [
            max(
                leave_one_out("power law", cells_of(clean + noise, variance=0.05), 0)[1][-1]
                for noise in np.random.default_rng(world).normal(0, math.sqrt(0.05), (2, 6))
            )
            for world in range(60)
            for clean in [np.array([power_law(15, 20, 0.5)(n) for n in SIZES])]
        ]
        assert np.mean(np.array(misses) > 2) < 0.15  # 0.09 for two independent normals


class TestTheSwitchPoint:
    def test_figure_8_crosses_at_about_61_thousand_by_every_family(self):
        scores = [
            Score(arm, float(size), 0, pair[i])
            for size, pair in FIGURE_8.items()
            for i, arm in enumerate(("simclr", "scratch"))
        ]
        comparison = compare(scores, sd=0.5)
        models = by_name(comparison)
        assert models["log-linear"].switch == pytest.approx(61_500, abs=600)
        assert all(55_000 < model.switch < 66_000 for model in comparison.models)
        assert comparison.largest_miss < 2
        assert "n* lies between 61,000 and 65,000." in comparison.sentence()

    def test_it_is_where_noiseless_curves_of_the_family_cross(self):
        arm, base = log_linear(64, 5), log_linear(66, 2)
        truth = 4e4 * math.exp(2 / 3)
        for model in compare(study(arm, base, sd=0.01)).models:
            if model.name != "isotonic":
                assert model.switch == pytest.approx(truth, rel=0.02)

    def test_a_flat_baseline_is_the_same_constant_in_every_family(self):
        comparison = compare(study(log_linear(66, 5), 68.0, sd=0.01))
        assert comparison.sizes == (SIZES[0], SIZES[-1])
        assert by_name(comparison)["log-linear"].switch == pytest.approx(
            4e4 * math.exp(2 / 5), rel=0.01
        )

    @pytest.mark.parametrize(("gap", "ahead"), [(9.0, "everywhere"), (-9.0, "nowhere")])
    def test_without_a_crossing_there_is_none_and_the_sentence_says_who_is_ahead(self, gap, ahead):
        comparison = compare(study(log_linear(60 + gap, 5), log_linear(60, 5)))
        assert comparison.model_uncertainty is None
        assert {(model.switch, model.ahead) for model in comparison.models} == {(None, ahead)}
        assert "n* does not lie between 5,000 and 300,000" in comparison.sentence()
        assert f"SimCLR is ahead {ahead}" in comparison.sentence()

    def test_only_sizes_of_both_arms_bound_it(self):
        scores = study(log_linear(64, 5), log_linear(66, 2))
        fewer = [s for s in scores if s.arm == "simclr" or s.size < SIZES[-1]]
        assert compare(fewer).sizes == (SIZES[0], SIZES[-2])

    def test_fractions_with_their_point_give_the_same_answer_as_per_cent(self):
        scores = study(power_law(12, 20, 0.8), power_law(20, 13, 0.4))
        fractions = [Score(s.arm, s.size, s.seed, s.value / 100) for s in scores]
        for one, other in zip(
            compare(scores).models, compare(fractions, point=0.01).models, strict=True
        ):
            assert one.name == other.name
            assert one.switch == pytest.approx(other.switch, rel=1e-5)
            assert one.log_score == pytest.approx(other.log_score, abs=1e-6)

    def test_the_uncertainty_spans_the_plausible_families_only(self):
        comparison = compare(study(power_law(12, 20, 0.8), power_law(20, 13, 0.4)))
        kept = [model.switch for model in comparison.models if model.plausible]
        left = [model.switch for model in comparison.models if not model.plausible]
        assert comparison.model_uncertainty == (min(kept), max(kept))
        assert max(left) > max(kept)
        assert "log-linear" not in comparison.sentence()


class TestWhatCannotBeCompared:
    @pytest.mark.parametrize(
        ("scores", "reason"),
        [
            (
                study(log_linear(64, 5), log_linear(66, 2), sizes=(1e4, 8e4)),
                "SimCLR has 2 sizes and leaving one out takes at least 4",
            ),
            (
                study(log_linear(64, 5), 66.0, sizes=(1e4, 3e4, 8e4)),
                "SimCLR has 3 sizes and leaving one out takes at least 4",
            ),
            (
                study(log_linear(64, 5), log_linear(66, 2), seeds=1),
                "the noise between seeds is unknown",
            ),
            (
                [Score(arm, None, s, float(s)) for arm in ("simclr", "scratch") for s in (0, 1)],
                "neither arm depends on the size",
            ),
            (
                [
                    *study(log_linear(64, 5), 66.0)[:-3],
                    *(
                        Score("scratch", 1.1 * s.size, s.seed, s.value)
                        for s in study(log_linear(64, 5), 66.0)[:-3]
                    ),
                ],
                "fewer than two sizes in common",
            ),
        ],
    )
    def test_it_says_why_in_a_sentence(self, scores, reason):
        comparison = compare(scores)
        assert comparison.models == ()
        assert reason in comparison.sentence()
        assert comparison.model_uncertainty is None
        assert comparison.warning() == ""

    def test_an_unknown_arm_is_an_error_that_names_its_near_miss(self):
        with pytest.raises(ValueError, match="did you mean 'simclr'"):
            compare_models(
                study(log_linear(64, 5), log_linear(66, 2)), arm="simlcr", baseline="scratch"
            )
