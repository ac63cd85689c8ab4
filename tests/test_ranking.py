"""Rankings: what seeds share cancels, ties are told from orders, probabilities are calibrated."""

import numpy as np
import pytest

from raysl.analysis.ranking import rank_arms, ranking_sizes
from raysl.analysis.scores import Score

ARMS = ("moco", "byol", "simclr", "scratch")


def table(levels, *, sizes=(500.0, 2000.0), seeds=3, own=0.3, shared=1.0, flat=(), rng=0):
    """Scores of arms at 80 + their level; `shared` moves all trials of a seed together."""
    rng = np.random.default_rng(rng)
    common = rng.normal(0, shared, size=seeds)
    return [
        Score(arm, size, seed, 80 + level + common[seed] + rng.normal(0, own))
        for arm, level in zip(ARMS, levels, strict=False)
        for size in ([None] if arm in flat else sizes)
        for seed in range(seeds)
    ]


def standing(ranking, arm):
    return next(s for s in ranking.standings if s.arm == arm)


class TestARanking:
    def test_probabilities_of_ranks_are_a_doubly_stochastic_matrix_that_favours_the_better(self):
        ranking = rank_arms(table([1, 0, -1]), size=2000.0)
        matrix = np.array([s.p_rank for s in ranking.standings])
        np.testing.assert_allclose(matrix.sum(axis=0), 1)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        assert [s.arm for s in ranking.standings] == ["moco", "byol", "simclr"]
        assert standing(ranking, "moco").p_best == matrix[0, 0] > 0.9
        assert standing(ranking, "moco").expected_rank == pytest.approx(matrix[0] @ [1, 2, 3])

    def test_within_the_margin_counts_more_than_strictly_best(self):
        ranking = rank_arms(table([0.1, 0, -4], own=0.15), size=2000.0)
        for arm in ("moco", "byol"):
            assert standing(ranking, arm).p_within_margin > standing(ranking, arm).p_best
        assert standing(ranking, "byol").p_within_margin > 0.8
        assert standing(ranking, "simclr").p_within_margin < 0.01

    def test_the_same_seed_gives_the_same_ranking(self):
        scores = table([1, 0, -1])
        assert rank_arms(scores, size=500.0, seed=3) == rank_arms(scores, size=500.0, seed=3)

    def test_balanced_means_are_the_means_of_the_cells(self):
        scores = table([1, 0, -1])
        for found in rank_arms(scores, size=500.0).standings:
            values = [s.value for s in scores if s.arm == found.arm and s.size == 500.0]
            assert found.mean == pytest.approx(np.mean(values))
            assert found.num_seeds == 3

    def test_a_flat_arm_counts_at_every_size_and_alone_without_a_size(self):
        scores = table([2, 1, 0, 1], flat=("scratch", "simclr"))
        for size in (500.0, 2000.0):
            assert {s.arm for s in rank_arms(scores, size=size).standings} == set(ARMS)
        alone = rank_arms(scores, size=None)
        assert [s.arm for s in alone.standings] == ["scratch", "simclr"]
        assert alone.sentence().startswith("scratch is ahead of SimCLR")

    def test_repetitions_at_other_sizes_narrow_what_two_seeds_say(self):
        widths = np.zeros(2)
        for rng in range(20):
            scores = table([1, 0], sizes=(250.0, 500.0, 1000.0, 2000.0), seeds=2, rng=rng)
            here = [s for s in scores if s.size == 2000.0]
            for k, chosen in enumerate((here, scores)):
                widths[k] += np.ptp(rank_arms(chosen, size=2000.0).standings[1].behind_interval)
        assert widths[1] < 0.8 * widths[0]

    def test_one_seed_at_the_size_borrows_the_noise_of_the_others(self):
        scores = [s for s in table([3, 0], seeds=4) if s.size == 500.0 or s.seed == 0]
        ranking = rank_arms(scores, size=2000.0)
        assert [s.num_seeds for s in ranking.standings] == [1, 1]
        assert ranking.groups == (("moco",), ("byol",))


class TestWhatSeedsShare:
    def test_it_cancels_in_differences_but_not_in_the_means(self):
        calm, moved = (
            rank_arms(table([1, 0], shared=shared, seeds=4), size=2000.0) for shared in (0, 20)
        )
        for key, factor in (("behind_interval", 1.5), ("interval", None)):
            low, high = (np.ptp(getattr(r.standings[1], key)) for r in (calm, moved))
            assert high > 10 * low if factor is None else high < factor * low
        assert moved.groups == (("moco",), ("byol",))
        assert moved.shared_sd > 5 > 1 > moved.noise.sd

    def test_an_arm_that_only_ran_on_the_easy_seeds_is_not_taken_for_better(self):
        scores = [
            s
            for s in table([0, 0, 0], shared=0, own=0.1, seeds=6)
            if s.arm != "byol" or s.seed >= 3
        ]
        moved = [Score(s.arm, s.size, s.seed, s.value + (10 if s.seed >= 3 else 0)) for s in scores]
        raw = [s.value for s in moved if s.arm == "byol" and s.size == 2000.0]
        ranking = rank_arms(moved, size=2000.0)
        assert np.mean(raw) > 89
        assert standing(ranking, "byol").mean == pytest.approx(85, abs=0.3)
        assert ranking.groups == (tuple(s.arm for s in ranking.standings),)

    def test_arms_without_a_common_seed_are_ranked_with_all_of_the_noise(self):
        paired = table([1, 0], shared=1.0, seeds=4)
        apart = [
            Score(s.arm, s.size, s.seed + 10 * (s.arm == "byol"), s.value, s.where) for s in paired
        ]
        widths = [
            np.ptp(rank_arms(s, size=2000.0).standings[1].behind_interval) for s in (paired, apart)
        ]
        assert widths[1] > 2 * widths[0]


class TestTies:
    def test_arms_that_cannot_be_told_apart_are_one_group_ahead_of_the_worse(self):
        ranking = rank_arms(table([2.1, 2, -3]), size=2000.0)
        assert [set(group) for group in ranking.groups] == [{"moco", "byol"}, {"simclr"}]
        assert set(ranking.ahead) == {("moco", "simclr"), ("byol", "simclr")}
        text = ranking.sentence()
        assert text.startswith("At 2,000 images ")
        assert " cannot be told apart by more than 0.5 points and are ahead of SimCLR " in text
        assert "leads SimCLR by 5." in text

    def test_many_seeds_show_that_arms_are_equal_within_the_margin(self):
        few, many = (rank_arms(table([0, 0], seeds=n, own=0.4), size=500.0) for n in (2, 40))
        assert few.groups == (("moco", "byol"),) or few.groups == (("byol", "moco"),)
        assert not few.equal
        assert set(many.equal) == {("moco", "byol"), ("byol", "moco")}
        assert "are within 0.5 points of each other." in many.sentence()
        assert "cannot be told apart by more than 0.5 points." in few.sentence()

    def test_a_clear_difference_below_the_margin_is_a_tie(self):
        scores = table([0.3, 0], own=0.02, seeds=4)
        assert len(rank_arms(scores, size=500.0, margin=0.5).groups) == 1
        assert len(rank_arms(scores, size=500.0, margin=0.0).groups) == 2

    def test_the_sentence_claims_of_ties_only_what_each_pair_shows(self):
        # The first is ahead of the third, the second is not.
        scores = table([1.6, 0.8, 0], own=0.25, seeds=4, rng=3)
        ranking = rank_arms(scores, size=500.0, margin=0.5)
        assert ranking.groups == (("moco", "byol"), ("simclr",))
        assert ("byol", "simclr") not in ranking.ahead
        assert "MoCo and BYOL cannot be told apart " in ranking.sentence()
        assert ", and MoCo is ahead of SimCLR by more than that; " in ranking.sentence()

    def test_arms_that_do_not_differ_are_rarely_told_apart(self):
        # 4 arms; separating each pair at 95 % by itself would err in about a third of the studies.
        wrong = sum(
            bool(rank_arms(table([0] * 4, rng=1000 + i), size=500.0, margin=0.0, draws=1000).ahead)
            for i in range(300)
        )
        assert wrong / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


class TestCalibration:
    @pytest.mark.parametrize(
        ("seeds", "flat"), [(3, ()), (3, ("scratch",)), (2, ())], ids=["3", "flat", "2"]
    )
    def test_the_best_arm_is_the_best_as_often_as_claimed(self, seeds, flat):
        claimed, right, covered = [], [], []
        for i in range(300):
            rng = np.random.default_rng(50_000 + i)
            levels = rng.normal(0, 0.7, size=4)
            scores = table(levels, own=0.5, seeds=seeds, flat=flat, rng=rng)
            ranking = rank_arms(scores, size=500.0, draws=1000, seed=i)
            truth = dict(zip(ARMS, levels, strict=True))
            first = ranking.standings[0].arm
            for found in ranking.standings:
                claimed.append(found.p_best)
                right.append(truth[found.arm] == levels.max())
                if found.arm != first:
                    low, high = found.behind_interval
                    covered.append(low <= truth[first] - truth[found.arm] <= high)
        claimed, right = np.array(claimed), np.array(right)
        for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
            chosen = (claimed >= low) & (claimed < high)
            expected = claimed[chosen].mean()
            slack = 3 * np.sqrt(expected * (1 - expected) / chosen.sum())
            assert abs(right[chosen].mean() - expected) < slack, (low, high)
        assert 0.84 < np.mean(covered) < 0.96


class TestWhereToRank:
    def test_at_the_largest_common_size_and_the_one_nearest_to_the_threshold(self):
        scores = table([0, 0, 0], sizes=(500.0, 1000.0, 2000.0), flat=("simclr",))
        scores = [s for s in scores if (s.arm, s.size) != ("byol", 2000.0)]
        assert ranking_sizes(scores) == [1000.0]
        assert ranking_sizes(scores, near=650.0) == [500.0, 1000.0]
        assert ranking_sizes(scores, near=900.0) == [1000.0]

    def test_nowhere_without_a_common_size_and_without_sizes_at_none(self):
        scores = table([0, 0])
        apart = [s for s in scores if (s.arm == "moco") == (s.size == 500.0)]
        assert ranking_sizes(apart, near=500.0) == []
        assert ranking_sizes(table([0, 0], flat=("moco", "byol"))) == [None]


class TestAnAssumedSd:
    def test_it_ranks_single_seeds_and_is_named(self):
        scores = table([3, 0], seeds=1, own=0)
        ranking = rank_arms(scores, size=500.0, assume_sd=0.5)
        low, high = ranking.standings[1].behind_interval
        assert (low, high) == pytest.approx(
            3 + 1.645 * 0.5 * np.sqrt(2) * np.array([-1, 1]), abs=0.1
        )
        assert ranking.sentence().endswith(", assuming a seed sd of 0.5 points.")
        assert (ranking.noise.source, ranking.noise.df) == ("assumed", 0)


class TestBadInput:
    def test_one_seed_without_an_assumed_sd_says_what_to_do(self):
        with pytest.raises(ValueError, match=r"more seeds, or give an assumed sd \(--assume-sd\)"):
            rank_arms(table([1, 0], seeds=1), size=500.0)

    def test_constant_metrics_have_no_noise(self):
        scores = [Score(arm, 500.0, seed, 90.0) for arm in "ab" for seed in range(3)]
        with pytest.raises(ValueError, match="cannot be measured"):
            rank_arms(scores, size=500.0)

    def test_an_unknown_size_names_the_sizes(self):
        with pytest.raises(ValueError, match="No arm has the size 700; choose 500 or 2,000"):
            rank_arms(table([1, 0]), size=700.0)
        flat = table([1, 0], flat=("moco", "byol"))
        with pytest.raises(ValueError, match="leave the size out"):
            rank_arms(flat, size=700.0)

    def test_one_arm_is_no_ranking(self):
        with pytest.raises(ValueError, match="two arms, and at size 500 there is MoCo"):
            rank_arms(table([1]), size=500.0)
        with pytest.raises(ValueError, match="without a size there is none"):
            rank_arms(table([1, 0]), size=None)

    @pytest.mark.parametrize("wrong", [{"margin": -1.0}, {"margin": np.nan}, {"assume_sd": 0.0}])
    def test_margin_and_sd_must_be_sizes_of_a_difference(self, wrong):
        with pytest.raises(ValueError, match="must be a number"):
            rank_arms(table([1, 0]), size=500.0, **wrong)
