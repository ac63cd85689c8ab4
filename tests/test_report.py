"""The report: everything that a study's directory holds, and nothing that it does not."""

import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysl.analysis.report import write_report
from raysl.analysis.tuning import is_log_scaled
from raysl.result import TrialResult, write_result
from raysl.study.results import TABLE_FILE, load_results, write_table

SIZES = (500, 1000, 2000, 4000, 8000)
FIGURES = ("curves", "difference", "posterior", "residuals", "models")  # of a threshold study


class StudyFolder:
    """Writes a study's directory file by file, as a run does."""

    def __init__(self, directory: Path, **changes):
        self.directory = directory
        self.order = 0
        self.study = {
            "name": "size-threshold-demo",
            "question": "From how many unlabelled images on does simclr beat scratch?",
            "data": "sklearn:digits",
            "base": {
                "dataset": "d1g1",
                "pool_size": 8000,
                "label_size": 200,
                "encoder": {"name": "convnet", "width": 64},
                "method": {"name": "simclr", "temperature": 0.2},
                "duration": {"amount": 1000.0, "unit": "steps"},
                "batch_size": 256,
            },
            "axes": {"arm": ["simclr", "scratch", "random"], "pool_size": list(SIZES)},
            "arm": "simclr",
            "baseline": "scratch",
            "size_axis": "pool_size",
            "objective": "linear_top1",
            "confirm_seeds": [0, 1, 2],
            "space": None,
            "trials": 0,
            "digest": "0123456789abcdef",
            "command": "raysl run studies/size_threshold.py data=sklearn:digits seeds=3",
        } | changes
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "study.json").write_text(json.dumps(self.study))

    def add(
        self,
        arm,
        size,
        seed,
        metrics=None,
        *,
        phase="confirm",
        number=None,
        params=None,
        status="ok",
        error=None,
        flags=(),
        provenance=None,
        finished=True,
        why=None,
        device_seconds=31.5,
        **cell,
    ):
        digest = f"{self.order:016x}"
        folder = self.directory / "trials" / digest
        folder.mkdir(parents=True)
        proposal = {
            "order": self.order,
            "digest": digest,
            "cell": {"arm": arm, "pool_size": size} | cell,
            "phase": phase,
            "seed": seed,
            "number": seed if number is None else number,
            "params": params or {},
            "attempt": 1,
        } | ({} if why is None else {"why": why})
        self.order += 1
        (folder / "proposal.json").write_text(json.dumps(proposal))
        if not finished:
            return digest
        duration = {"amount": 100.0, "unit": "epochs"} if arm == "scratch" else None
        recipe = self.study["base"] | {"pool_size": size, "seed": seed}
        result = TrialResult(
            digest=digest,
            recipe=recipe | ({"duration": duration} if duration else {}),
            status=status,
            final=phase == "confirm",
            metrics=metrics or {},
            protocols={"linear": 1, "knn": 1},
            flags=flags,
            cost={}
            if status == "failed"
            else {
                "seconds": 31.5,
                "device_seconds": device_seconds,
                "examples": 256_000.0,
                "steps": 1000.0,
            },
            provenance=provenance
            or {"commit": "abc123", "torch": "2.12.0", "device": "x86_64", "data_digest": "d1g1"},
            error=error,
            attempts=3 if status == "failed" else 1,
        )
        write_result(result, folder)
        return digest


def top1(value, noise=0.0):
    return {
        "val/linear_top1": value + 0.5,
        "test/linear_top1": value + noise,
        "test/knn_top1": value - 3 + noise,
    }


def threshold_study(directory, *, seeds=3, crossing=1800.0, **changes):
    """SimCLR over a flat scratch arm and a flat random encoder, crossing at a known size."""
    folder = StudyFolder(directory, **changes)
    rng = np.random.default_rng(5)
    for seed in range(seeds):
        for size in SIZES:
            value = 78 + 4.0 * math.log(size / crossing)
            folder.add("simclr", size, seed, top1(value, rng.normal(0, 0.6)))
        noise = rng.normal(0, 0.6)
        folder.add("scratch", None, seed, top1(78, noise) | {"test/head_top1": 78.4 + noise})
        folder.add("random", None, seed, top1(66, rng.normal(0, 0.4)))
    return folder


def search_study(directory):
    """A search over three parameters at three sizes, then two confirmations of each best."""
    folder = StudyFolder(
        directory,
        name="simclr-temperature",
        question="Which temperature suits which size?",
        baseline=None,
        axes={"arm": ["simclr"], "pool_size": [500, 2000, 8000]},
        space={"temperature": [0.03, 1.0]},
        trials=16,
    )
    rng = np.random.default_rng(7)
    best = {500: 0.5, 2000: 0.2, 8000: 0.1}
    for size, temperature in best.items():
        for number in range(16):
            params = {
                "method.temperature": float(np.exp(rng.uniform(np.log(0.03), np.log(1.0)))),
                "views.min_crop": float(rng.uniform(0.05, 0.9)),
                "optim.name": ["lars", "sgd", "adamw"][int(rng.integers(3))],
            }
            loss = 3 * math.log(params["method.temperature"] / temperature) ** 2
            value = 70 + 3 * math.log(size / 500) - loss - 5 * (params["views.min_crop"] - 0.3) ** 2
            folder.add(
                "simclr",
                size,
                1_000_000,
                top1(value + rng.normal(0, 0.5)),
                phase="search",
                number=number,
                params=params,
                status="stopped" if number == 5 else "ok",
            )
        for seed in range(2):
            value = 70 + 3 * math.log(size / 500) + rng.normal(0, 0.5)
            chosen = {"method.temperature": temperature}
            folder.add("simclr", size, seed, top1(value), params=chosen)
    shares = {"method.temperature": 0.7, "views.min_crop": 0.2, "optim.name": 0.1}
    importance = {f"arm=simclr pool_size={size}": shares for size in best}
    (directory / "importance.json").write_text(json.dumps(importance))
    return folder


class Outline(HTMLParser):
    """What a page holds: tags in order, ids, addresses; fails on tags that do not close."""

    VOID = ("meta", "br", "path", "use", "link", "img", "input")

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.addresses, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def named(self, tag):
        return [values for name, values in self.tags if name == tag]


def page_text(report):
    """The words of a page as a reader sees them, without its style."""
    page = re.sub(r"<style>.*?</style>", "", report.page.read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("threshold")
    threshold_study(directory)
    return write_report(directory)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    directory = tmp_path_factory.mktemp("search")
    search_study(directory)
    return write_report(directory)


class TestResults:
    def test_one_typed_row_a_finished_trial_in_a_fixed_order(self, tmp_path):
        folder = StudyFolder(tmp_path)
        folder.add("simclr", 2000, 0, top1(80.0), params={"method.temperature": 0.1})
        folder.add("simclr", 500, 1, top1(70.0))
        folder.add("simclr", 500, 0, {"val/knn_top1": 60.0}, phase="search", number=4)
        folder.add("scratch", None, 0, top1(75.0) | {"test/head_top1": 76.0}, flags=("collapsed",))
        folder.add("simclr", 500, 0, status="failed", error="RuntimeError: no")
        folder.add("simclr", 8000, 0, finished=False)
        table = load_results(tmp_path)
        rows = table.to_pylist()
        assert [(r["phase"], r["arm"], r["pool_size"], r["seed"]) for r in rows] == [
            ("confirm", "scratch", None, 0),
            ("confirm", "simclr", 500, 0),
            ("confirm", "simclr", 500, 1),
            ("confirm", "simclr", 2000, 0),
            ("search", "simclr", 500, 0),
        ]
        assert [str(table.schema.field(n).type) for n in ("pool_size", "label_size", "seed")] == [
            "int64"
        ] * 3
        assert str(table.schema.field("flags").type) == "list<item: string>"
        assert [r["test/head_top1"] for r in rows] == [76.0, None, None, None, None]
        assert rows[0]["flags"] == ["collapsed"]
        assert rows[0]["label_size"] == 200
        assert rows[1]["status"] == "failed"
        assert rows[1]["error"] == "RuntimeError: no"
        assert rows[1]["attempts"] == 3
        assert rows[1]["cost/seconds"] is None
        assert rows[3]["cost/device_seconds"] == 31.5
        assert json.loads(rows[3]["params"]) == {"method.temperature": 0.1}
        assert json.loads(rows[3]["provenance"])["commit"] == "abc123"
        assert rows[4]["number"] == 4
        assert not rows[4]["final"]

    def test_further_axes_are_columns_of_their_own_type(self, tmp_path):
        folder = StudyFolder(tmp_path, axes={"arm": [], "pool_size": [], "lr": [], "labels": []})
        folder.add("a", 500, 0, top1(1.0), lr=0.1, labels="all")
        folder.add("a", 500, 0, top1(1.0), lr=1, labels="all")
        table = load_results(tmp_path)
        assert table["lr"].to_pylist() == [0.1, 1.0]
        assert table["labels"].to_pylist() == ["all", "all"]

    def test_the_file_holds_the_table_and_nothing_is_left_beside_it(self, tmp_path):
        threshold_study(tmp_path)
        write_table(load_results(tmp_path), tmp_path / TABLE_FILE)
        assert pq.read_table(tmp_path / TABLE_FILE).equals(load_results(tmp_path))
        names = {file.name for file in tmp_path.iterdir()}
        assert names == {"results.parquet", "study.json", "trials"}

    def test_a_study_without_trials_is_an_empty_table(self, tmp_path):
        StudyFolder(tmp_path)
        table = load_results(tmp_path)
        assert table.num_rows == 0
        assert {"arm", "pool_size", "digest", "status"} <= set(table.column_names)

    def test_a_result_without_its_proposal_or_half_a_file_is_named(self, tmp_path):
        folder = StudyFolder(tmp_path)
        digest = folder.add("simclr", 500, 0, top1(70.0))
        trial = tmp_path / "trials" / digest
        result = (trial / "result.json").read_text()
        (trial / "result.json").write_text(result[:50])
        with pytest.raises(ValueError, match=f"{digest} cannot be read"):
            load_results(tmp_path)
        (trial / "result.json").write_text(result)
        (trial / "proposal.json").unlink()
        with pytest.raises(ValueError, match=r"no proposal.json"):
            load_results(tmp_path)

    def test_an_axis_cannot_take_the_name_of_a_column(self, tmp_path):
        StudyFolder(tmp_path, axes={"arm": ["a"], "seed": [1]})
        with pytest.raises(ValueError, match="axis of the study is called 'seed'"):
            load_results(tmp_path)


class TestThePage:
    def test_question_answer_and_command_are_in_it(self, written):
        words = page_text(written)
        assert "From how many unlabelled images on does simclr beat scratch?" in words
        assert written.answer in words
        assert written.answer.startswith("SimCLR beats scratch from about 1,")
        assert "raysl run studies/size_threshold.py data=sklearn:digits seeds=3" in words
        assert "Length of training: SimCLR 1,000 steps; scratch 100 epochs" in words

    def test_it_is_self_contained_and_well_formed(self, written, searched):
        for report in (written, searched):
            page = report.page.read_text()
            outline = Outline(page)
            assert all(address.startswith("#") for address in outline.addresses)
            assert not outline.named("script")
            assert not outline.named("link")
            assert "@import" not in page
            assert re.findall(r"url\((?!#)", page) == []
            assert len(outline.ids) == len(set(outline.ids))
            used = {address[1:] for address in outline.addresses}
            used |= set(re.findall(r"url\(#([^)]+)\)", page))
            assert used <= set(outline.ids)

    def test_it_is_readable_on_a_phone_in_both_themes_and_by_a_screen_reader(self, searched):
        page = searched.page.read_text()
        outline = Outline(page)
        assert any(values.get("name") == "viewport" for values in outline.named("meta"))
        assert outline.named("html")[0]["lang"] == "en"
        assert "prefers-color-scheme: dark" in page
        figures = outline.named("svg")
        assert len(figures) == 5
        assert all(f["role"] == "img" and len(f["aria-label"]) > 20 for f in figures)
        assert len(outline.named("figcaption")) == len(figures)
        assert all("width" not in f and "viewbox" in f for f in figures)
        for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
            colours = set(re.findall(r"(?:fill|stroke): (#\w+)", svg))
            assert colours <= {"#ffffff"}  # all else is the page's text colour or a theme colour
            assert "currentColor" in svg
            assert "var(--series-1, #0072b2)" in svg

    def test_every_cell_is_in_the_table_with_its_seeds_and_interval(self, written):
        words = page_text(written)
        for cell in written.content["cells"]:
            value = cell["metrics"]["test/linear_top1"]
            low, mean, high = (f"{value[k]:.2f}" for k in ("low", "mean", "high"))
            assert f"3 {mean} {low}–{high}" in words
        assert len(written.content["cells"]) == len(SIZES) + 2

    def test_what_comes_from_data_is_escaped(self, tmp_path):
        evil = "<script>alert('1')</script>&\"x\""
        folder = StudyFolder(tmp_path, name=evil, question=evil, command=evil)
        folder.add("simclr", 500, 0, top1(70.0), provenance={"device": evil})
        folder.add(evil, 500, 0, top1(60.0))
        folder.add("simclr", 2000, 0, status="failed", error=f"{evil}\n{evil}")
        report = write_report(tmp_path)
        outline = Outline(report.page.read_text())
        assert not outline.named("script")
        assert page_text(report).count("alert('1')") >= 6


class TestTheFiles:
    def test_a_second_report_is_the_same_to_the_byte(self, tmp_path):
        threshold_study(tmp_path)
        names = ("report.html", "report.json", "figures/curves.png", "figures/difference.png")
        write_report(tmp_path)
        first = [(tmp_path / name).read_bytes() for name in names]
        write_report(tmp_path)
        assert [(tmp_path / name).read_bytes() for name in names] == first

    def test_nothing_else_is_written_and_old_figures_go(self, tmp_path):
        threshold_study(tmp_path)
        (tmp_path / "figures").mkdir()
        (tmp_path / "figures" / "search-lr.png").write_bytes(b"of an earlier report")
        write_report(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {
            *("report.html", "report.json", "results.parquet", "figures", "study.json", "trials"),
        }
        assert {p.name for p in (tmp_path / "figures").iterdir()} == {
            f"{name}.png" for name in FIGURES
        }

    def test_pngs_are_on_white(self, written):
        for path in sorted((written.page.parent / "figures").glob("*.png")):
            with Image.open(path) as image:
                assert image.width == 1000
                assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)

    def test_drawing_leaves_matplotlib_as_it_was(self, tmp_path):
        before = dict(matplotlib.rcParams)
        threshold_study(tmp_path)
        write_report(tmp_path)
        assert dict(matplotlib.rcParams) == before

    def test_the_json_holds_the_threshold_and_the_curves(self, written):
        content = json.loads((written.page.parent / "report.json").read_text())
        threshold = content["threshold"]
        assert threshold["kind"] == "found"
        assert threshold["low"] < threshold["point"] < threshold["high"]
        assert threshold["low"] < 1800 < threshold["high"]
        assert threshold["sentence"] == content["answer"]
        assert threshold["noise"]["source"] == "measured"
        assert [len(threshold["differences"]), content["metric"]] == [5, "test/linear_top1"]
        curves = {curve["arm"]: curve["points"] for curve in content["curves"]}
        assert [point["size"] for point in curves["simclr"]] == list(SIZES)
        assert [point["size"] for point in curves["scratch"]] == [None]
        assert all(p["low"] < p["mean"] < p["high"] for p in curves["simclr"])
        assert content["figures"] == [f"figures/{name}.png" for name in FIGURES]

    def test_cost_is_summed_by_arm_and_phase(self, searched):
        search, confirm = searched.content["cost"]
        assert (search["phase"], search["num_trials"]) == ("search", 48)
        assert search["device_seconds"] == pytest.approx(48 * 31.5)
        assert (confirm["num_trials"], confirm["examples"]) == (6, 6 * 256_000)


class TestWhatWentWrong:
    def test_failed_trials_are_shown_with_their_error_and_left_out_of_the_means(self, tmp_path):
        folder = threshold_study(tmp_path)
        error = "FloatingPointError: the loss is nan at update 17\nTraceback\n  line 3"
        digest = folder.add("simclr", 500, 3, status="failed", error=error)
        report = write_report(tmp_path)
        words = page_text(report)
        assert "SimCLR, pool size 500, confirm, seed 3: FloatingPointError: the loss is" in words
        assert f"trials/{digest}, 3 attempts" in words
        assert "Failed: 1 trial (SimCLR), not in the means." in words
        assert "1 of the trials failed and have no measured cost" in words
        cell = next(c for c in report.content["cells"] if c["cell"]["pool_size"] == 500)
        assert (cell["num_ok"], cell["num_failed"]) == (3, 1)

    def test_collapsed_trials_count_and_the_answer_without_them_stands_beside(self, tmp_path):
        folder = threshold_study(tmp_path)
        digest = folder.add("simclr", 8000, 3, top1(12.0), flags=("collapsed",))
        report = write_report(tmp_path)
        words = page_text(report)
        assert "Collapsed: 1 trial, included in the means." in words
        assert "Without the collapsed trials (1): SimCLR beats scratch from about 1," in words
        assert f"(trials/{digest})" in words
        assert report.content["threshold"]["differences"][-1]["mean"] < 0

    def test_trials_that_are_not_finished_are_counted(self, tmp_path):
        folder = threshold_study(tmp_path)
        folder.add("simclr", 500, 3, finished=False)
        assert "Not finished yet: 1 trial" in page_text(write_report(tmp_path))

    def test_a_missing_or_nan_metric_is_left_out_and_named(self, tmp_path):
        folder = threshold_study(tmp_path)
        first = folder.add("simclr", 500, 3, {"val/linear_top1": 70.0})
        second = folder.add("simclr", 500, 4, {"test/linear_top1": math.nan})
        report = write_report(tmp_path)
        assert f"want of test/linear_top1: 2 trials ({first} and {second})" in page_text(report)
        assert report.content["cells"][0]["metrics"]["test/linear_top1"]["num_seeds"] == 3

    def test_differing_provenance_is_said_and_listed(self, tmp_path):
        folder = threshold_study(tmp_path)
        other = {"commit": "def456", "torch": "2.12.0", "device": "x86_64", "data_digest": "d1g1"}
        folder.add("simclr", 500, 3, top1(72.0), provenance=other)
        words = page_text(write_report(tmp_path))
        assert "The trials differ in commit; see the provenance below." in words
        assert "abc123 (in 21 of the trials) def456 (in 1 of the trials)" in words

    def test_a_clean_study_warns_of_nothing(self, written):
        assert written.content["warnings"] == []
        assert "Failed and collapsed" not in page_text(written)


class TestStudiesOfOtherShapes:
    def test_nothing_finished(self, tmp_path):
        StudyFolder(tmp_path)
        report = write_report(tmp_path)
        assert report.answer.startswith("No answer yet: no confirmation trial has finished")
        assert report.answer in page_text(report)
        assert report.content["curves"] == []

    def test_only_failures(self, tmp_path):
        folder = StudyFolder(tmp_path)
        folder.add("simclr", 500, 0, status="failed", error="RuntimeError: out of memory")
        report = write_report(tmp_path)
        assert report.answer.startswith("No answer yet")
        assert "RuntimeError: out of memory" in page_text(report)

    def test_a_baseline_that_never_finished(self, tmp_path):
        folder = StudyFolder(tmp_path)
        for size in (500, 2000):
            folder.add("simclr", size, 0, top1(70.0))
        report = write_report(tmp_path)
        assert report.answer == (
            "No threshold: no trial of scratch has finished with test/linear_top1."
        )
        assert report.content["threshold"] is None

    def test_a_single_size(self, tmp_path):
        folder = StudyFolder(tmp_path)
        for seed in (0, 1):
            folder.add("simclr", 500, seed, top1(70.0 + seed))
            folder.add("scratch", 500, seed, top1(60.0 + seed))
        report = write_report(tmp_path)
        assert report.answer.startswith("No threshold: A threshold needs at least two sizes")

    def test_a_single_arm_without_a_baseline(self, tmp_path):
        folder = StudyFolder(tmp_path, baseline=None, axes={"arm": ["simclr"], "pool_size": [500]})
        folder.add("simclr", 500, 0, top1(70.0))
        report = write_report(tmp_path)
        assert report.answer.startswith("SimCLR does best at 500 unlabelled images: 70.00 in")
        assert "No baseline was named" in report.answer

    def test_one_seed_gives_the_point_and_no_interval(self, tmp_path):
        threshold_study(tmp_path, seeds=1)
        report = write_report(tmp_path)
        assert report.answer.startswith("Undetermined, because each cell has one seed")
        assert report.content["threshold"]["low"] is None
        assert report.content["threshold"]["point"] is not None
        assert "without repetitions there is no interval" in page_text(report)

    def test_a_pool_that_is_labelled_throughout_counts_images(self, tmp_path):
        folder = StudyFolder(tmp_path)
        for size in (500, 2000, 8000):
            folder.study["base"]["label_size"] = size
            for seed in (0, 1):
                folder.add("simclr", size, seed, top1(70.0 + seed + size / 500))
                folder.add("scratch", size, seed, top1(75.0 + seed / 2))
        assert write_report(tmp_path).content["unit"] == "images"

    def test_a_further_axis_gives_a_comparison_for_each_value(self, tmp_path):
        axes = {"arm": ["simclr", "scratch"], "pool_size": [500, 2000, 8000], "labels": [50, 500]}
        folder = StudyFolder(tmp_path, axes=axes)
        rng = np.random.default_rng(0)
        for seed in range(3):
            for labels in (50, 500):
                for size in axes["pool_size"]:
                    value = 70 + 4 * math.log(size / 2000) + rng.normal(0, 0.4)
                    folder.add("simclr", size, seed, top1(value), labels=labels)
            # one scratch arm for all values of the further axis
            folder.add("scratch", None, seed, top1(70 + rng.normal(0, 0.4)), labels=None)
        report = write_report(tmp_path)
        assert [c["where"] for c in report.content["comparisons"]] == [
            {"labels": 50},
            {"labels": 500},
        ]
        assert report.answer.count("SimCLR beats scratch from about") == 2
        assert "Labels 500:" in report.answer
        names = [curve["arm"] for curve in report.content["curves"]]
        assert len(set(names)) == 4
        assert "figures/difference-2.png" in report.content["figures"]


class TestASearch:
    def test_the_best_trial_of_each_cell_is_chosen_on_val(self, searched):
        table = load_results(searched.page.parent).to_pylist()
        for cell in searched.content["search"]:
            rows = [
                row
                for row in table
                if row["phase"] == "search"
                and row["status"] == "ok"
                and row["pool_size"] == cell["cell"]["pool_size"]
            ]
            best = max(rows, key=lambda row: row["val/linear_top1"])
            assert cell["best"]["digest"] == best["digest"]
            assert (cell["num_finished"], cell["num_stopped"]) == (15, 1)

    def test_the_answer_names_the_most_important_parameter(self, searched):
        assert "The search found the best method.temperature to be" in searched.answer

    def test_each_parameter_and_the_importance_have_a_figure(self, searched):
        assert set(searched.content["figures"]) == {
            "figures/curves.png",
            "figures/search-method-temperature.png",
            "figures/search-views-min_crop.png",
            "figures/search-optim-name.png",
            "figures/importance.png",
        }
        assert searched.content["search"][0]["importance"]["method.temperature"] == 0.7

    def test_importance_may_be_given_instead_of_read(self, tmp_path):
        folder = StudyFolder(tmp_path, baseline=None)
        for number, lr in enumerate((0.1, 0.2)):
            folder.add("simclr", 500, 9, top1(lr), phase="search", number=number, params={"lr": lr})
        assert write_report(tmp_path).content["figures"] == ["figures/search-lr.png"]
        report = write_report(tmp_path, importance={"arm=simclr pool_size=500": {"lr": 1.0}})
        assert "figures/importance.png" in report.content["figures"]

    def test_a_log_axis_is_for_parameters_drawn_on_one(self):
        rng = np.random.default_rng(0)
        assert is_log_scaled(np.exp(rng.uniform(np.log(0.01), 0, size=30)).tolist())
        assert not is_log_scaled(rng.uniform(0.01, 1, size=30).tolist())
        assert not is_log_scaled([0.0, 0.1, 1.0])
