"""The figures of a threshold and the log of a search: what they show follows from the values."""

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.patches import Rectangle
from PIL import Image
from test_report import FIGURES, Outline, StudyFolder, page_text, threshold_study, top1

from raysl.analysis.analyse import analyse
from raysl.analysis.compare import compare_tables
from raysl.analysis.decisions import read_search
from raysl.analysis.drawings import draw_all
from raysl.analysis.levels import make_curves
from raysl.analysis.models import compare_models
from raysl.analysis.plots import DASHES, draw_curves, draw_difference
from raysl.analysis.report import write_report
from raysl.analysis.scores import Score
from raysl.analysis.search_drawings import draw_steps
from raysl.analysis.search_plots import draw_purchases, draw_spending
from raysl.analysis.threshold import find_threshold
from raysl.analysis.threshold_drawings import draw_comparison
from raysl.analysis.threshold_plots import (
    draw_models,
    draw_places,
    draw_residuals,
    normal_quantile,
    residual_counts,
)
from raysl.result import write_atomically
from raysl.study.ledger import STOP_FILE
from raysl.study.results import TABLE_FILE, load_results, stop_reason, write_table

SIZES = (500, 1000, 2000, 4000, 8000)
METRIC = "test/linear_top1"


def make_scores(*, crossing=1800.0, slope=4.0, seeds=3, sd=0.6):
    """SimCLR over scratch, which is better below the crossing."""
    rng = np.random.default_rng(11)
    return [
        Score(arm, size, seed, 70 + steep * math.log(size / crossing) + rng.normal(0, sd))
        for seed in range(seeds)
        for size in SIZES
        for arm, steep in (("simclr", slope + 2), ("scratch", 2.0))
    ]


@pytest.fixture(scope="module")
def scores():
    return make_scores()


@pytest.fixture(scope="module")
def threshold(scores):
    return find_threshold(scores, arm="simclr", baseline="scratch")


def verdict(low, high, *, point=2000.0, inside=0.97):
    values = {"arm": "simclr", "kind": "undetermined", "point": point}
    return values | {"low": low, "high": high, "inside": inside}


STEPS = [  # arm, size, seed, reason, gain, verdicts
    ("scratch", 500, 0, "start: every arm at three sizes", None, []),
    ("simclr", 500, 0, "start: every arm at three sizes", None, []),
    ("scratch", 2000, 0, "start: every arm at three sizes", None, []),
    ("simclr", 2000, 0, "start: every arm at three sizes", None, []),
    ("scratch", 8000, 0, "start: every arm at three sizes", None, []),
    ("simclr", 8000, 0, "start: every arm at three sizes", None, []),
    ("simclr", 2000, 1, "largest expected gain for its cost", 0.31, [verdict(500, 8000)]),
    ("scratch", 2000, 1, "completes a pair", math.nan, [verdict(900, 3600)]),
]


def search_folder(directory, *, stop="Enough is known.", steps=STEPS):
    """A search whose trials cost 10 s and 0.01 s an image more, twice that for SimCLR."""
    folder = StudyFolder(
        directory,
        axes={"arm": ["scratch", "simclr"], "pool_size": list(SIZES)},
        planner="threshold",
        methods=["simclr"],
        design={"target_ratio": 1.5, "margin": 0.0, "sd": 0.6, "sd_spread": 0.6, "grid_seeds": 3},
    )
    rng = np.random.default_rng(2)
    for arm, size, seed, reason, gain, verdicts in steps:
        steep, rate = (6.0, 0.02) if arm == "simclr" else (2.0, 0.01)
        value = 70 + steep * math.log(size / 1800) + rng.normal(0, 0.5)
        why = {"reason": reason, "gain": gain, "sd": 0.4, "verdicts": verdicts}
        metrics = top1(value)
        folder.add(arm, size, seed, metrics, why=why, device_seconds=10 + rate * size)
    write_atomically(directory / STOP_FILE, json.dumps({"reason": stop}))
    return folder


def search_of(folder):
    table = load_results(folder.directory)
    return read_search(folder.study, table, metric=METRIC)


def lines(axes, *, dashed):
    return [line for line in axes.lines if (line._unscaled_dash_pattern == DASHES) == dashed]


class TestWhichFigures:
    def test_a_threshold_has_five_and_each_caption_begins_with_what_it_supports(self, tmp_path):
        threshold_study(tmp_path)
        study = json.loads((tmp_path / "study.json").read_text())
        analysis = analyse(study, load_results(tmp_path))
        captions = {drawing.name: drawing.caption for drawing in draw_all(analysis)}
        (comparison,) = analysis.comparisons
        assert tuple(captions) == FIGURES
        assert captions["curves"].startswith(comparison.threshold.sentence())
        assert captions["difference"].startswith("With 90 % for all sizes together, SimCLR is")
        assert captions["posterior"].startswith("n* lies between 500 and 8,000 with probability")
        assert re.match(r"\d of 18 trials lies? more than 2 noise sds", captions["residuals"])
        assert captions["models"].startswith(comparison.models.sentence())
        assert "so it is no interval" in captions["models"]

    def test_without_noise_there_are_the_means_alone(self):
        one = make_scores(seeds=1)
        (comparison,) = compare_tables(
            one, arms=["simclr"], baseline="scratch", confidence=0.9, point=1.0
        )
        drawings = draw_comparison(
            comparison, order=("simclr", "scratch"), metric="metric", unit="images"
        )
        assert [drawing.name for drawing in drawings] == ["curves", "difference"]
        assert "without repetitions there is no interval" in drawings[0].caption

    def test_too_few_sizes_say_why_families_are_not_compared(self, tmp_path):
        folder = StudyFolder(tmp_path)
        for size in (500, 2000, 8000):
            for seed in (0, 1):
                folder.add("simclr", size, seed, top1(70 + 3 * math.log(size / 2000) + seed / 3))
                folder.add("scratch", size, seed, top1(70 - seed / 3))
        report = write_report(tmp_path)
        assert "figures/models.png" not in report.content["figures"]
        assert "Curve families are not compared, because SimCLR has 3 sizes" in page_text(report)

    def test_a_table_of_results_gets_them_as_files(self, scores, tmp_path):
        from rich.console import Console

        from raysl.threshold_table import show_threshold

        path, folder = tmp_path / "scores.csv", tmp_path / "new" / "figures"
        with path.open("w") as file:
            rows = csv.writer(file)
            rows.writerow(["arm", "size", "seed", "metric"])
            rows.writerows([s.arm, s.size, s.seed, -s.value] for s in scores)
        show_threshold(
            path,
            arm="simclr",
            baseline="scratch",
            assume_sd=None,
            margin=0.0,
            confidence=0.9,
            metric="metric",
            size="size",
            point=1.0,
            lower_is_better=True,
            figures=folder,
            console=Console(quiet=True),
        )
        assert {file.name for file in folder.iterdir()} == {f"{name}.png" for name in FIGURES}
        for file in folder.iterdir():
            with Image.open(file) as image:
                assert image.width == 1000


class TestTheFigures:
    def test_curves_are_dashed_where_not_both_arms_were_measured(self, scores, threshold):
        wider = find_threshold(scores, arm="simclr", baseline="scratch", asked=(500.0, 32_000.0))
        curves = make_curves(scores)
        order, chosen = ("simclr", "scratch"), {"metric": "metric", "unit": "images"}
        (axes,) = draw_curves(curves, order=order, threshold=wider, **chosen).axes
        assert [min(line.get_xdata()) for line in lines(axes, dashed=True)] == [8000.0] * 2
        assert [max(line.get_xdata()) for line in lines(axes, dashed=True)] == [32_000.0] * 2
        (axes,) = draw_curves(curves, order=order, threshold=threshold, **chosen).axes
        assert lines(axes, dashed=True) == []

    def test_extrapolated_bands_do_not_press_the_points_flat(self, scores):
        wide = find_threshold(scores, arm="simclr", baseline="scratch", asked=(100.0, 1e6))
        curves = make_curves(scores)
        order, values = ("simclr", "scratch"), [score.value for score in scores]
        figure = draw_curves(curves, order=order, threshold=wide, metric="metric", unit="images")
        low, high = figure.axes[0].get_ylim()
        medians = [value for fit in wide.curves for value in fit.quantiles[2]]
        height = max(*values, *medians) - min(*values, *medians)
        assert high - low < 1.8 * height

    def test_the_difference_shows_the_margin(self, scores):
        found = find_threshold(scores, arm="simclr", baseline="scratch", margin=1.25)
        (axes,) = draw_difference(found).axes
        assert 1.25 in [line.get_ydata()[0] for line in axes.lines]

    def test_bars_of_the_posterior_add_up_to_one_with_both_ends(self):
        low = make_scores(crossing=620.0, slope=1.0, sd=1.0)
        found = find_threshold(low, arm="simclr", baseline="scratch")
        (axes,) = draw_places(found).axes
        heights = [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]
        assert found.masses.below > 0.05
        assert sum(heights) == pytest.approx(1.0)
        assert heights[-2:] == [found.masses.below, found.masses.above]
        words = [text.get_text() for text in axes.texts]
        assert words[0].startswith("below\n500\n0.")
        assert words[1].startswith("above\n8,000\n")

    def test_residuals_leave_out_what_is_not_a_number(self, threshold):
        broken = replace(threshold.residuals[0], z=math.nan)
        odd = replace(threshold, residuals=(broken, *threshold.residuals[1:]))
        assert residual_counts(odd)[0] == residual_counts(threshold)[0] - 1
        left, right = draw_residuals(odd).axes
        assert sum(len(dots.get_offsets()) for dots in left.collections) == 29
        assert sum(len(dots.get_offsets()) for dots in right.collections) == 29

    def test_normal_quantiles_are_those_of_the_normal(self):
        quantiles = [normal_quantile(rank, 19) for rank in range(1, 20)]
        assert quantiles[9] == pytest.approx(0.0)
        assert quantiles == pytest.approx([-q for q in reversed(quantiles)])
        assert normal_quantile(39, 39) == pytest.approx(2.2316, abs=1e-3)

    def test_a_family_without_a_switch_is_a_triangle_at_its_end(self):
        ahead = make_scores(crossing=40.0)
        found = find_threshold(ahead, arm="simclr", baseline="scratch")
        models = compare_models(ahead, arm="simclr", baseline="scratch")
        (axes,) = draw_models(models, found).axes
        markers = [line.get_marker() for line in axes.lines if line.get_marker() != "None"]
        assert markers == ["<"] * 5
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == [*(model.name for model in models.models), "answer, with noise"]


class TestTheSearch:
    def test_trials_come_in_order_with_what_they_cost_and_the_grid_beside(self, tmp_path):
        search = search_of(search_folder(tmp_path))
        assert [(d.arm, d.size, d.seed) for d in search.decisions] == [s[:3] for s in STEPS]
        scratch, simclr = (
            [10 + rate * size for size in (500, 2000, 8000, 2000)] for rate in (0.01, 0.02)
        )
        assert search.cost == pytest.approx(sum(scratch) + sum(simclr))
        assert search.decisions[1].cost_so_far == pytest.approx(scratch[0] + simclr[0])
        # the costs lie on a line, so those of sizes that were not bought are known exactly
        grid = 3 * sum(10 + rate * size for rate in (0.01, 0.02) for size in SIZES)
        assert search.grid_cost == pytest.approx(grid, rel=1e-6)
        assert (search.grid_seeds, search.target_ratio) == (3, 1.5)

    def test_the_step_line_goes_from_the_first_interval_to_the_answers(self, tmp_path, threshold):
        search = search_of(search_folder(tmp_path))
        (axes,) = draw_spending(search, [threshold], order=("simclr", "scratch")).axes
        (steps, target, grid) = axes.lines
        assert steps.get_ydata()[:2] == pytest.approx([16.0, 4.0])
        assert steps.get_ydata()[-1] == pytest.approx(threshold.high / threshold.low)
        assert target.get_ydata()[0] == 1.5
        assert grid.get_xdata()[0] / steps.get_xdata()[-1] == pytest.approx(
            search.grid_cost / search.cost
        )

    def test_the_map_counts_every_trial_in_its_cell(self, tmp_path):
        search = search_of(search_folder(tmp_path))
        figure = draw_purchases(search, order=("simclr", "scratch"), unit="images")
        numbers = [t.get_text() for t in figure.axes[0].texts if t.get_text().isdigit()]
        assert sorted(numbers) == ["1"] * 4 + ["2"] * 2

    def test_its_figures_are_drawn_after_the_answers(self, tmp_path):
        folder = search_folder(tmp_path)
        analysis = analyse(folder.study, load_results(tmp_path))
        drawings = {d.name: d for d in draw_all(analysis, search_of(folder))}
        assert tuple(drawings) == (*FIGURES[:-1], "compute", "design")
        assert "of what the full grid is expected to take" in drawings["compute"].caption
        for drawing in drawings.values():
            outline = Outline(drawing.svg)
            assert not outline.named("image")  # the page's policy lets none in
            assert all(address.startswith("#") for address in outline.addresses)

    def test_before_the_first_interval_only_the_map_is_drawn(self, tmp_path):
        search = search_of(search_folder(tmp_path, steps=STEPS[:4], stop=None))
        drawings = draw_steps(search, [], order=("simclr", "scratch"), unit="images")
        assert [drawing.name for drawing in drawings] == ["design"]

    def test_failed_trials_and_odd_numbers_are_survived(self, tmp_path):
        folder = search_folder(tmp_path, stop=None)
        why = {"reason": "largest", "gain": math.inf, "sd": None}
        odd = [verdict(math.nan, 3600)]
        folder.add("simclr", 4000, 0, why=why | {"verdicts": odd}, status="failed", error="X: y")
        search = search_of(folder)
        last = search.decisions[-1]
        assert (last.value, last.cost, last.beliefs) == (None, None, ())
        assert last.cost_so_far == search.decisions[-2].cost_so_far
        report = write_report(tmp_path)
        assert report.content["decisions"][-1]["gain"] is None
        assert "largest – – failed" in page_text(report)


class TestItsLog:
    def test_every_step_is_on_the_page_with_why_and_what_was_known(self, tmp_path):
        search_folder(tmp_path)
        report = write_report(tmp_path)
        words = page_text(report)
        assert "Why it ended: Enough is known." in words
        assert "7 SimCLR 2,000 1 largest expected gain for its cost 31 % below 500 to" in words
        assert "8 scratch 2,000 1 completes a pair – 900 to 3,600 (0.97)" in words
        content = json.loads((tmp_path / "report.json").read_text())
        assert content["stop_reason"] == "Enough is known."
        assert len(content["decisions"]) == len(STEPS)
        assert content["decisions"][6]["beliefs"][0]["high"] == 8000
        assert content["spending"]["cost_name"] == "device_seconds"

    def test_a_long_log_is_folded_up_and_an_open_search_says_so(self, tmp_path):
        more = [("simclr", 4000, seed, "largest", 0.1, [verdict(900, 3600)]) for seed in range(6)]
        search_folder(tmp_path, steps=STEPS + more, stop=None)
        report = write_report(tmp_path)
        assert "<summary>All 14 steps</summary>" in report.page.read_text()
        assert "The search has not ended." in page_text(report)

    def test_a_grid_has_no_log(self, tmp_path):
        folder = threshold_study(tmp_path)
        assert search_of(folder) is None
        report = write_report(tmp_path)
        assert report.content["decisions"] == []
        assert "step by step" not in page_text(report)

    def test_the_results_table_carries_order_reasons_and_the_end(self, tmp_path):
        search_folder(tmp_path)
        write_table(load_results(tmp_path), tmp_path / TABLE_FILE)
        table = pq.read_table(tmp_path / TABLE_FILE)
        assert table.equals(load_results(tmp_path))
        assert stop_reason(table) == "Enough is known."
        rows = sorted(table.to_pylist(), key=lambda row: row["order"])
        assert [row["order"] for row in rows] == list(range(len(STEPS)))
        assert json.loads(rows[6]["why"])["verdicts"] == [verdict(500, 8000)]
