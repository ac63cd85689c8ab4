"""Claims against a baseline: rarely wrong together, found where true, with their honest df."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from raysl.analysis.claims import beats_baseline, claims_sentence
from raysl.analysis.scores import Score

ARMS = ("scratch", "moco", "byol", "simclr")
SIZES = (250.0, 500.0, 1000.0, 2000.0)


def table(levels, *, sizes=SIZES, seeds=3, own=0.5, shared=1.0, flat=(), rng=0):
    """Scores of arms at 80 + their level; `shared` moves all trials of a seed together."""
    rng = np.random.default_rng(rng)
    common = rng.normal(0, shared, size=seeds)
    return [
        Score(arm, size, seed, 80 + level + common[seed] + rng.normal(0, own))
        for arm, level in zip(ARMS, levels, strict=False)
        for size in ([None] if arm in flat else sizes)
        for seed in range(seeds)
    ]


@pytest.fixture
def cheap_collection():
    """multipletests collects garbage at every call: 50 ms each with all that is imported here."""
    beats_baseline(table([0, 1]), baseline="scratch")  # imports statsmodels
    gc.freeze()
    yield
    gc.unfreeze()


def ragged(scores):
    """Without the first seed of every second arm: no side's seeds are all the other's."""
    kept = [s for s in scores if not (s.arm in ("moco", "simclr") and s.seed == 0)]
    return [s for s in kept if not (s.arm == "scratch" and s.seed == 3)]


class TestFamilyWiseError:
    @pytest.mark.parametrize(
        ("options", "change"),
        [
            ({}, list),
            ({"flat": ("scratch",)}, list),
            ({"seeds": 2, "flat": ("scratch",)}, list),
            ({"seeds": 4}, ragged),
            ({"shared": 0.0}, list),
        ],
        ids=["paired", "flat baseline", "two seeds", "seeds that differ", "nothing shared"],
    )
    def test_arms_that_do_not_differ_are_rarely_claimed(self, options, change, cheap_collection):
        studies = 300
        wrong = alone = 0
        for i in range(studies):
            claims = beats_baseline(
                change(table([0] * 4, rng=7000 + i, **options)), baseline="scratch"
            )
            assert len(claims) == 12
            wrong += any(claim.holds for claim in claims)
            alone += any(claim.p < 0.05 for claim in claims)
        assert wrong / studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
        assert alone / studies > 0.15  # without Holm

    def test_true_differences_are_found(self, cheap_collection):
        found = [
            claim.holds
            for i in range(50)
            for claim in beats_baseline(table([0, 3, 3, 3], rng=100 + i), baseline="scratch")
        ]
        assert np.mean(found) > 0.9


class TestAClaim:
    def test_one_size_is_the_paired_t_test(self):
        scores = table([0, 1], sizes=(500.0,), seeds=5)
        (claim,) = beats_baseline(scores, baseline="scratch", margin=0.2)
        values = {arm: [s.value for s in scores if s.arm == arm] for arm in ARMS[:2]}
        test = stats.ttest_rel(
            values["moco"], np.array(values["scratch"]) + 0.2, alternative="greater"
        )
        assert (claim.paired, claim.df) == (True, 4)
        assert claim.p == claim.p_adjusted == pytest.approx(test.pvalue)

    def test_other_seeds_are_compared_by_welch(self):
        scores = [
            replace(s, seed=s.seed + 10 * (s.arm == "moco"))
            for s in table([0, 1], sizes=(500.0,), seeds=5)
        ]
        (claim,) = beats_baseline(scores, baseline="scratch")
        mine, other = ([s.value for s in scores if s.arm == a] for a in ("moco", "scratch"))
        test = stats.ttest_ind(mine, other, equal_var=False, alternative="greater")
        assert not claim.paired
        assert claim.p == pytest.approx(test.pvalue)

    def test_what_seeds_share_cancels(self):
        calm, moved = (
            beats_baseline(table([0, 1, 1], shared=shared), baseline="scratch")
            for shared in (0.0, 30.0)
        )
        assert [c.difference for c in moved] == pytest.approx([c.difference for c in calm])
        assert [c.error for c in moved] == pytest.approx([c.error for c in calm])

    def test_sizes_add_df_except_for_what_a_flat_baseline_brings_to_all_of_them(
        self, cheap_collection
    ):
        df = {"sized": [], "flat": []}
        for rng in range(30):
            for name, flat in (("sized", ()), ("flat", ("scratch",))):
                claims = beats_baseline(table([0, 1], flat=flat, rng=rng), baseline="scratch")
                df[name].append(claims[0].df)
        assert 6.5 < np.mean(df["sized"]) <= 8  # 4 sizes, 2 df each
        assert 2 <= np.mean(df["flat"]) < np.mean(df["sized"]) - 1

    def test_a_flat_pair_is_one_claim_and_a_flat_baseline_one_for_each_size(self):
        both = beats_baseline(table([0, 1], flat=ARMS), baseline="scratch")
        assert [claim.size for claim in both] == [None]
        claims = beats_baseline(table([0, 1], flat=("scratch",)), baseline="scratch")
        assert [claim.size for claim in claims] == list(SIZES)

    def test_arms_and_sizes_choose_what_is_claimed_and_so_what_it_costs(self):
        scores = table([0, 1, 1, 1])
        every = beats_baseline(scores, baseline="scratch")
        one = beats_baseline(scores, baseline="scratch", arms=["byol"], sizes=[500])
        assert len(every) == 12
        (claim,) = one
        same = next(c for c in every if (c.arm, c.size) == ("byol", 500.0))
        assert claim.p == same.p == claim.p_adjusted < same.p_adjusted

    def test_an_arm_with_one_seed_takes_the_noise_of_the_others(self):
        scores = [s for s in table([0, 5, 0], seeds=4) if s.arm != "moco" or s.seed == 0]
        claims = beats_baseline(scores, baseline="scratch", arms=["moco"])
        assert all(claim.df > 2 and claim.difference > 2 for claim in claims)

    def test_an_assumed_sd_gives_normal_tests_of_single_trials(self):
        scores = table([0, 2], seeds=1, sizes=(500.0,))
        (claim,) = beats_baseline(scores, baseline="scratch", assume_sd=0.5)
        assert claim.df is None
        assert claim.error == pytest.approx(0.5 * np.sqrt(2))
        assert claim.p == pytest.approx(stats.norm.sf(claim.difference / claim.error))


class TestTheSentence:
    def test_it_lists_what_holds_and_for_how_many(self):
        claims = beats_baseline(table([0, 5, 0]), baseline="scratch", margin=0.5)
        assert claims_sentence(claims) == (
            "Shown to beat scratch by more than 0.5 points (8 claims, Holm, 5 % for any error): "
            "MoCo at 250, 500, 1,000 and 2,000."
        )

    def test_it_says_when_none_holds(self):
        claims = beats_baseline(table([0, -5]), baseline="scratch")
        assert claims_sentence(claims).endswith("for any error): no arm at any size.")


class TestBadInput:
    @pytest.mark.parametrize("wrong", [{"baseline": "scrtch"}, {"arms": ["scrtch"]}])
    def test_an_unknown_arm_names_the_nearest(self, wrong):
        with pytest.raises(ValueError, match="scratch"):
            beats_baseline(table([0, 1]), **{"baseline": "scratch"} | wrong)

    def test_an_unknown_size_names_the_sizes(self):
        with pytest.raises(ValueError, match=r"size 300; choose 250, 500, 1,000 or 2,000"):
            beats_baseline(table([0, 1]), baseline="scratch", sizes=[300])

    def test_a_baseline_alone_has_nothing_to_claim(self):
        with pytest.raises(ValueError, match="nothing to claim"):
            beats_baseline(table([0]), baseline="scratch")

    def test_one_seed_everywhere_says_what_to_do(self):
        with pytest.raises(ValueError, match=r"give an assumed sd \(--assume-sd\)"):
            beats_baseline(table([0, 1], seeds=1), baseline="scratch")

    def test_a_negative_margin_is_refused(self):
        with pytest.raises(ValueError, match="margin"):
            beats_baseline(table([0, 1]), baseline="scratch", margin=-0.5)
