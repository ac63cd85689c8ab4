"""Which test images a trial got right is kept, and says what another test set would change."""

import dataclasses
import threading

import numpy as np
import pytest
from simulated import flat, line, study

from raysl.analysis import test_set
from raysl.analysis.scores import Score
from raysl.analysis.threshold import find_threshold
from raysl.recipe import Recipe
from raysl.result import CORRECT_FILE, RESULT_FILE, stored_correct, write_correct
from raysl.signals import Interrupted
from raysl.trial import run_trial

SIZES = (500.0, 2000.0, 8000.0)


def recipe_of(splits, method="simclr", **changes):
    sizes = {"label_size": 16} | ({"pool_size": 24} if method == "simclr" else {})
    recipe = Recipe.create(method, dataset=splits.digest, batch_size=8, **sizes)
    return recipe.with_overrides({"encoder.width": 8, "duration": "6 steps", **changes})


# What a trial keeps.


@pytest.mark.parametrize("method", ["simclr", "scratch"])
def test_a_final_trial_keeps_what_its_accuracies_are_the_means_of(splits, tmp_path, method):
    result = run_trial(recipe_of(splits, method), splits, directory=tmp_path, final=True)
    kept = stored_correct(tmp_path)
    expected = {"linear_top1", "knn_top1"} | ({"head_top1"} if method == "scratch" else set())
    assert kept.keys() == expected
    for name, right in kept.items():
        assert right.shape == (len(splits.test),)
        assert right.dtype == bool
        assert right.mean() * 100 == result.metrics[f"test/{name}"]
    written = [(tmp_path / name).stat().st_mtime_ns for name in (CORRECT_FILE, RESULT_FILE)]
    assert written == sorted(written)


def test_a_search_trial_keeps_nothing_until_it_is_made_final(splits, tmp_path):
    run_trial(recipe_of(splits, num_evaluations=2), splits, directory=tmp_path, final=False)
    assert not (tmp_path / CORRECT_FILE).exists()
    assert stored_correct(tmp_path) == {}
    run_trial(recipe_of(splits, num_evaluations=2), splits, directory=tmp_path, final=True)
    assert stored_correct(tmp_path)["linear_top1"].shape == (len(splits.test),)


def test_a_trial_found_complete_is_not_evaluated_again(splits, tmp_path):
    class Shut(type(splits.test)):
        def read(self, indices):
            raise AssertionError("the test split was read again")

    run_trial(recipe_of(splits), splits, directory=tmp_path, final=True)
    written = (tmp_path / CORRECT_FILE).stat().st_mtime_ns
    fields = {f.name: getattr(splits.test, f.name) for f in dataclasses.fields(splits.test)}
    shut = dataclasses.replace(splits, test=Shut(**fields))
    run_trial(recipe_of(splits), shut, directory=tmp_path, final=True)
    assert (tmp_path / CORRECT_FILE).stat().st_mtime_ns == written


def test_an_interrupted_trial_keeps_the_same_images_in_the_end(splits, tmp_path):
    recipe = recipe_of(splits)
    run_trial(recipe, splits, directory=tmp_path / "whole", final=True)
    interrupt = threading.Event()
    arguments = {"directory": tmp_path / "cut", "final": True}
    with pytest.raises(Interrupted):
        run_trial(
            recipe, splits, report=lambda *_: interrupt.set(), interrupt=interrupt, **arguments
        )
    assert not (tmp_path / "cut" / CORRECT_FILE).exists()
    run_trial(recipe, splits, **arguments)
    whole, cut = (stored_correct(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)


def test_ten_thousand_images_take_a_few_kilobytes_and_come_back_bit_by_bit(tmp_path):
    rng = np.random.default_rng(0)
    correct = {name: rng.random(10_000) < 0.8 for name in ("linear_top1", "knn_top1", "head_top1")}
    write_correct(correct, tmp_path)
    assert (tmp_path / CORRECT_FILE).stat().st_size < 6_000
    kept = stored_correct(tmp_path)
    assert all(np.array_equal(kept[name], correct[name]) for name in correct)
    odd = {"linear_top1": np.array([True, False, True])}  # not a whole byte
    write_correct(odd, tmp_path)
    assert stored_correct(tmp_path)["linear_top1"].tolist() == [True, False, True]


def test_metrics_without_a_top1_leave_no_file(tmp_path):
    write_correct({}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_trials_that_kept_no_record_are_absent(tmp_path):
    for digest in ("new", "old"):
        (tmp_path / "trials" / digest).mkdir(parents=True)
    write_correct({"linear_top1": np.array([True, False])}, tmp_path / "trials" / "new")
    read = test_set.read_correct(tmp_path, ["new", "old"], "test/linear_top1")
    assert {digest: right.tolist() for digest, right in read.items()} == {"new": [True, False]}
    assert test_set.read_correct(tmp_path, ["new", "old"], "test/finetune_top1") == {}


# What it says.

EFFECTS = {"simclr": 0.8, "scratch": 0.6}  # sd over the images, in logits


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


class World:
    """Images whose difficulty the arms share, with effects of each arm's own that persist.

    seed_sd: of what a seed does to an image in both arms, as its labelled images do; run_sd: of
    what a trial does to all images. persistence: correlation of an arm's effects between sizes.
    """

    def __init__(self, *, effects=EFFECTS, seed_sd=0.5, run_sd=0.1, persistence=1.0):
        self.effects, self.seed_sd, self.run_sd = effects, seed_sd, run_sd
        self.persistence = persistence

    def logits(self, rng, num_images):
        """Of each arm and size on images drawn from the population [M]."""
        difficulty = rng.normal(1.2, 1.5, num_images)
        found = {}
        for arm, sd in self.effects.items():
            lasting = rng.normal(0, sd, num_images)
            for i, size in enumerate(SIZES):
                own = rng.normal(0, sd, num_images)
                p = self.persistence
                level = 0.3 * i if arm == "simclr" else 0.25
                found[arm, size] = difficulty + level + np.sqrt(p) * lasting + np.sqrt(1 - p) * own
        return found

    def sd(self, num_images, *, num_population=40_000):
        """The true sd in points that the test images add, pooled over the sizes."""
        rng = np.random.default_rng(1)
        logits = self.logits(rng, num_population)
        noise = np.hypot(self.seed_sd, self.run_sd) * rng.normal(size=(100, 1))

        def chance(arm, size):  # of being right, over all seeds
            return sigmoid(logits[arm, size] + noise).mean(axis=0)

        variances = [np.var(chance("simclr", n) - chance("scratch", n)) for n in SIZES]
        return 100 * np.sqrt(np.mean(variances) / num_images)

    def study(self, rng, *, num_images, seeds, other_seeds=None, flat=False):
        """Scores and which images were right; a flat baseline is that of the first size."""
        logits = self.logits(rng, num_images)
        shared = rng.normal(0, self.seed_sd, (100, num_images))
        scores, correct = [], {}
        for (arm, size), base in logits.items():
            if flat and arm == "scratch":
                if size != SIZES[0]:
                    continue
                size = None
            for seed in other_seeds if other_seeds and arm == "scratch" else seeds:
                chance = sigmoid(base + shared[seed] + rng.normal(0, self.run_sd))
                right = rng.random(num_images) < chance
                score = Score(arm, size, seed, 100 * right.mean(), f"trial {len(scores)}")
                scores.append(score)
                correct[score.where] = right
        return scores, correct


def found(scores, correct):
    return test_set.test_set_sd(scores, correct, arm="simclr", baseline="scratch")


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("design", [{}, {"flat": True}, {"other_seeds": (50, 51, 52)}])
def test_the_sd_of_the_population_is_recovered_however_many_seeds_were_run(seeds, design):
    world, num_images = World(), 2000
    estimates = []
    for number in range(10):
        study = world.study(
            np.random.default_rng(number), num_images=num_images, seeds=seeds, **design
        )
        estimates.append(found(*study).sd)
    assert np.mean(estimates) == pytest.approx(world.sd(num_images), rel=0.15)


def test_four_times_the_images_halve_it():
    world = World()
    few, many = (
        np.mean([found(*world.study(np.random.default_rng(i), num_images=m, seeds=(0, 1, 2))).sd
                 for i in range(10)])
        for m in (1000, 4000)
    )  # fmt: skip
    assert many / few == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed_sd", [0.0, 1.5])
def test_arms_that_differ_by_the_noise_of_seeds_only_owe_next_to_nothing_to_the_images(seed_sd):
    world = World(effects={"simclr": 0.0, "scratch": 0.0}, seed_sd=seed_sd, run_sd=0.2)
    world.logits = lambda rng, m: dict.fromkeys(
        ((arm, size) for arm in EFFECTS for size in SIZES), rng.normal(1.2, 1.5, m)
    )
    spreads = [
        found(*world.study(np.random.default_rng(i), num_images=4000, seeds=(0, 1, 2)))
        for i in range(10)
    ]
    truth = World(seed_sd=seed_sd).sd(4000)
    assert np.mean([spread.sd for spread in spreads]) < 0.2 * truth
    assert all(spread.at_most < 0.5 * truth for spread in spreads)
    assert sum(spread.correlation is not None for spread in spreads) <= 2
    naive = []  # what the variance over the images says without taking the seeds' part away
    for i in range(10):
        scores, correct = world.study(np.random.default_rng(i), num_images=4000, seeds=(0, 1, 2))
        means = [
            np.mean(
                [correct[s.where] for s in scores if (s.arm, s.size) == (arm, SIZES[0])], axis=0
            )
            for arm in ("simclr", "scratch")
        ]
        naive.append(100 * np.std(means[0] - means[1]) / np.sqrt(4000))
    assert np.mean(naive) > 0.7 * truth


def test_the_limit_is_exceeded_about_one_time_in_twenty():
    world, num_images = World(), 1000
    truth = world.sd(num_images)
    spreads = [
        found(*world.study(np.random.default_rng(i), num_images=num_images, seeds=(0, 1)))
        for i in range(60)
    ]
    assert np.mean([spread.at_most >= truth for spread in spreads]) >= 0.88
    assert all(spread.at_most > spread.sd for spread in spreads)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("persistence", "expected"), [(1.0, 0.97), (0.5, 0.5), (0.0, 0.0)])
def test_the_correlation_between_sizes_is_that_of_the_persistent_effects(
    persistence, expected, flat
):
    world = World(persistence=persistence)
    study = world.study(np.random.default_rng(0), num_images=20_000, seeds=(0, 1, 2), flat=flat)
    spread = found(*study)
    if flat:  # the baseline's part is the same at every size, whatever the arm's is
        expected += (1 - expected) * EFFECTS["scratch"] ** 2 / sum(v**2 for v in EFFECTS.values())
    assert spread.correlation == pytest.approx(expected, abs=0.08)
    assert ("move the sizes differently" in spread.sentence()) == (spread.correlation < 0.5)


def test_a_size_is_left_out_where_an_arm_has_one_seed():
    scores, correct = World().study(np.random.default_rng(0), num_images=500, seeds=(0, 1))
    fewer = [s for s in scores if (s.arm, s.size, s.seed) != ("simclr", SIZES[1], 1)]
    assert [size for size, _ in found(fewer, correct).sds] == [SIZES[0], SIZES[2]]
    assert [size for size, _ in found(scores, correct).sds] == list(SIZES)


def test_other_arms_and_trials_without_a_record_change_nothing():
    scores, correct = World().study(np.random.default_rng(0), num_images=500, seeds=(0, 1))
    more = [*scores, Score("random", 500.0, 0, 50.0, "a"), Score("simclr", 500.0, 9, 50.0, "b")]
    assert found(more, correct | {"a": np.ones(7, bool)}) == found(scores, correct)


def test_what_cannot_be_told_is_said_in_a_sentence():
    scores, correct = World().study(np.random.default_rng(0), num_images=500, seeds=(0, 1))
    once = [s for s in scores if s.seed == 0]
    for few, kept in ((once, correct), (scores, {}), ([], {})):
        with pytest.raises(ValueError, match="cannot be told without two seeds of scratch and of"):
            found(few, kept)
    shorter = correct | {scores[0].where: correct[scores[0].where][:-1]}
    with pytest.raises(ValueError, match="tested on 499 and 500 images; compare trials of one"):
        found(scores, shorter)
    with pytest.raises(ValueError, match="tested on 1 images"):
        found(scores, {where: right[:1] for where, right in correct.items()})


def test_the_sentence_gives_the_sd_and_what_would_help_or_its_limit():
    spread = test_set.ImageSpread(
        arm="simclr",
        baseline="scratch",
        num_images=10_000,
        sds=((500.0, 0.35),),
        sd=0.35,
        at_most=0.4,
        correlation=0.9,
    )
    assert spread.sentence() == (
        "On another test set of 10,000 images the difference would vary by a further sd of 0.35 "
        "points, which more seeds do not take away; four times as many test images would halve it."
    )
    nothing = dataclasses.replace(spread, sd=0.0, at_most=0.04, correlation=None)
    assert nothing.sentence().endswith("a further sd of at most 0.04 points.")


def test_draws_for_the_population_are_wider_by_a_shift_of_the_whole_curve():
    rng = np.random.default_rng(0)
    lead = rng.normal([-1.0, 0.0, 2.0], 0.3, (20_000, 3))  # [J, K]
    wider = test_set.for_population(lead, 0.4, rng)
    assert wider.std(axis=0) == pytest.approx(0.5, rel=0.03)
    assert wider.mean(axis=0) == pytest.approx(lead.mean(axis=0), abs=0.02)
    assert np.allclose(np.diff(wider, axis=1), np.diff(lead, axis=1))
    assert np.array_equal(test_set.for_population(lead, 0.0, rng), lead)


def test_the_probe_of_real_trials_says_what_their_test_images_add(splits, tmp_path):
    scores, kept = [], {}
    for arm in ("simclr", "scratch"):
        for seed in (0, 1):
            recipe = recipe_of(splits, arm, seed=seed, subset_seed=seed)
            directory = tmp_path / "trials" / recipe.digest()
            result = run_trial(recipe, splits, directory=directory, final=True)
            size = 24.0 if arm == "simclr" else None
            value = result.metrics["test/linear_top1"]
            scores.append(Score(arm, size, seed, value, f"trial {recipe.digest()}"))
            read = test_set.read_correct(tmp_path, [recipe.digest()], "test/linear_top1")
            kept[scores[-1].where] = read[recipe.digest()]
    spread = found(scores, kept)
    assert spread.num_images == len(splits.test)
    assert [size for size, _ in spread.sds] == [24.0]
    first, second = (kept[s.where].astype(float) for s in scores[:2])
    third, fourth = (kept[s.where].astype(float) for s in scores[2:])
    variance = np.cov(first - third, second - fourth)[0, 1]  # of two seeds' differences
    assert spread.sd == pytest.approx(100 * np.sqrt(max(variance, 0) / len(splits.test)))


def test_a_threshold_holds_less_surely_for_other_test_images():
    scores = study(line(80, through=1500, slope=3), flat(80.0), seeds=4, sd=0.3)
    here = find_threshold(scores)
    general = find_threshold(scores, test_set_sd=1.0)
    assert (here.low, here.high, here.kind) == (general.low, general.high, general.kind)
    assert general.notes[:-1] == here.notes
    assert general.notes[-1].startswith("For test images in general, not these alone: ")
    assert here.sentence() not in general.notes[-1]
    exact = find_threshold(scores, test_set_sd=0.0)
    assert exact.notes[-1].endswith(here.sentence())
