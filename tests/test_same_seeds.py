"""Trials with the same seed: what they share cancels between the arms, what an arm has does not."""

import functools
import math

import numpy as np
import pytest
from simulated import RISING, SIZED, flat, study, with_other_seeds, with_seed_effects

from raysl.analysis.scores import Score
from raysl.analysis.threshold import find_threshold

find = functools.partial(find_threshold, draws=1500)


def width(threshold):
    """Of the interval, in e-folds."""
    return math.log(threshold.high / threshold.low)


@pytest.mark.parametrize("base", [flat(80), SIZED], ids=["flat baseline", "baseline with sizes"])
def test_what_all_trials_of_a_seed_share_cancels(base):
    quiet = study(RISING, base, seeds=4)
    loud = with_seed_effects(quiet, sd=3.0)
    before, after = find(quiet), find(loud)
    assert after.correlation > 0.9
    assert before.correlation < 0.1
    assert after.point == pytest.approx(before.point, rel=0.03)
    assert width(after) < 1.2 * width(before)
    assert width(after) < 0.6 * width(find(with_other_seeds(loud, "scratch")))


def test_it_is_said_beside_the_answer():
    notes = find(with_seed_effects(study(RISING, flat(80), seeds=4), sd=3.0)).notes
    assert "that all trials of a seed share, which cancels between arms" in notes[0]


def test_a_flat_baseline_is_one_level_and_not_evidence_at_every_size():
    """Its error moves the whole difference: by 1 point, the threshold by a third of an e-fold."""
    scores = study(RISING, flat(80), sd=0.3)
    moved = [Score(s.arm, s.size, s.seed, s.value + (s.size is None)) for s in scores]
    apart = find(moved).point / find(scores).point
    assert math.log(apart) == pytest.approx(1 / 3, abs=0.03)
    one_trial = [s for s in scores if s.size is not None or s.seed == 0]
    assert width(find(one_trial)) > 1.3 * width(find(scores))


def test_pairs_of_one_seed_and_size_lose_nothing_where_they_have_noise_in_common():
    for number in range(4):
        scores = study(RISING, SIZED, shared=0.9, sd=1.0, rng=number)
        apart = find(with_other_seeds(scores, "simclr"))
        assert width(find(scores)) < 1.1 * width(apart)


def test_an_arm_with_more_noise_widens_the_interval_and_a_quiet_one_does_not():
    rng = np.random.default_rng(0)
    unit = [
        (arm, float(size), seed, mean(size), rng.normal())
        for arm, mean in (("scratch", SIZED), ("simclr", RISING))
        for size in (500, 1000, 2000, 4000, 8000)
        for seed in range(4)
    ]

    def found(**sds):
        return find([Score(a, n, s, m + sds[a] * e) for a, n, s, m, e in unit])

    quiet, loud = found(scratch=0.3, simclr=0.3), found(scratch=0.3, simclr=1.0)
    assert 1.5 * width(quiet) < width(loud) < width(found(scratch=1.0, simclr=1.0))
    assert not any("far from the curves" in note for note in loud.notes)
