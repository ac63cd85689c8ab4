"""The command line: what it prints, and that a mistake is one sentence and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysl import cli, plan
from raysl.study.load import arguments, build_study, load_module

STUDIES = Path(__file__).parents[1] / "studies"
THRESHOLD = str(STUDIES / "size_threshold.py")
SMALL = ("run", THRESHOLD, "--small", "--local", "--set", "encoder.width=8")


@pytest.fixture
def raysl(monkeypatch, capsys, tmp_path):
    """Run a command; (exit code, stdout, stderr). Studies write below tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["raysl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


def test_help_lists_the_arguments_of_a_study_with_types_and_defaults(raysl):
    code, out, _ = raysl("run", THRESHOLD, "--help")
    assert code == 0
    for argument in arguments(load_module(STUDIES / "size_threshold.py")):
        assert f"{argument.name}=..." in out
        assert argument.text, f"{argument.name} has no description"
    assert "a whole number,...; default 500,2000,8000" in out


def test_every_study_file_has_a_small_variant_of_its_own_arguments():
    for path in STUDIES.glob("*.py"):
        module = load_module(path)
        known = {argument.name for argument in arguments(module)}
        assert set(module.small()) <= known, path.name


@pytest.mark.parametrize(
    ("precision", "device", "native", "said"),
    [
        ("bfloat16", "cpu", False, True),
        ("bfloat16", "cpu", True, False),
        ("bfloat16", "cuda", False, False),
        ("float32", "cpu", False, False),
    ],
)
def test_a_processor_that_emulates_bfloat16_is_said(precision, device, native, said, monkeypatch):
    study = build_study(load_module(Path(THRESHOLD)), [], {"precision": precision}, small=True)
    monkeypatch.setattr(plan, "multiplies_bfloat16", lambda: native)
    text = plan.precision_text(study, device)
    assert ("--set precision=float32" in (text or "")) == said


def test_numpy_gets_one_thread_for_the_tiny_matrices_of_an_analysis():
    code = (
        "import sys, raysl.cli; sys.argv = ['raysl', '--help']\n"
        "try: raysl.cli.main()\n"
        "except SystemExit: pass\n"
        "import numpy, threadpoolctl\n"
        "print([p['num_threads'] for p in threadpoolctl.threadpool_info()])"
    )
    told = {n: v for n, v in os.environ.items() if not n.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[1]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", THRESHOLD, "dat=x"), ["study argument 'dat'", "did you mean 'data'"]),
        (("run", THRESHOLD), ["needs data=text", "store made by"]),
        (("run", THRESHOLD, "data=nowhere"), ["nowhere", "raysl data import"]),
        (("run", THRESHOLD, "data=sklearn:digits", "sizes=a,b"), ["sizes", "whole number"]),
        (("run", THRESHOLD, "data=sklearn:digits", "sizes=64,99999"), ["99999", "sizes up to"]),
        (("run", THRESHOLD, "data=sklearn:digits", "sizes=64,128", "labels=5"), ["5", "classes"]),
        (("run", THRESHOLD, "data=sklearn:digits", "sizes=64,128", "method=simcrl"), ["simclr"]),
        (("run", THRESHOLD, "--small", "encoder=resnet_18"), ["resnet18"]),
        (("run", THRESHOLD, "--small", "--set", "method.temprature=1"), ["method.temperature"]),
        (("run", THRESHOLD, "--small", "--set", "pool_size=9"), ["set by the study"]),
        (("run", THRESHOLD, "--small", "--set", "batch_size=100"), ["batch_size", "64 images"]),
        (("run", THRESHOLD, "--small", "workers=3"), ["3 workers", "--set batch_size=63"]),
        (("run", THRESHOLD, "--small", "workers=0"), ["workers", "at least 1, not 0"]),
        (("plan", THRESHOLD, "--small", "workers=0"), ["workers", "at least 1, not 0"]),
        (("plan", THRESHOLD, "--small", "cpus_per_worker=0"), ["cpus_per_worker", "at least 1"]),
        (("plan", THRESHOLD, "--small", "gpus_per_worker=-1"), ["gpus_per_worker", "not -1"]),
        (("run", THRESHOLD, "--small", "baseline=simclr"), ["baseline simclr", "baseline=scratch"]),
        (
            ("run", THRESHOLD, "--small", "method=simclr,vicreg", "baseline=vicreg"),
            ["baseline vicreg", "baseline=scratch"],
        ),
        (
            ("run", THRESHOLD, "--small", "planner=threshold", "baseline=simclr"),
            ["baseline simclr", "baseline=scratch"],
        ),
        (("run", THRESHOLD, "--small", "name=../x"), ["'../x'", "name=..."]),
        (("run", THRESHOLD, "--small", "sizes=0,3"), ["sizes must be at least 2 images, not 0"]),
        (("run", THRESHOLD, "--small", "sizes=-4"), ["sizes must be at least 2 images, not -4"]),
        (("run", THRESHOLD, "--small", "--tracking-uri", "htp://x"), ["htp://x"]),
        (("run", THRESHOLD, "--small", "--budget", "trails=4"), ["did you mean 'trials'"]),
        (("run", THRESHOLD, "--small", "--budget", "trials=0"), ["trials", "at least 1"]),
        (("run", THRESHOLD, "--small", "--budget", "device-hours=x"), ["device-hours", "'x'"]),
        (
            ("run", THRESHOLD, "--small", "--budget", "trials=4", "--budget", "trials=5"),
            ["trials", "twice"],
        ),
        (
            ("run", THRESHOLD, "--small", "--local", "--budget", "device-hours=1e-6"),
            ["no room for the first trial", "simclr 64 seed 0", "give it more"],
        ),
        (("plan", THRESHOLD, "--small", "--budget", "hours=4"), ["hours", "device-hours"]),
        (("plan", THRESHOLD, "--small", "--price-per-hour", "0"), ["--price-per-hour", "above 0"]),
        (("plan", THRESHOLD, "--small", "--price-per-hour", "nan"), ["--price-per-hour"]),
        (("plan", THRESHOLD, "--small", "--assume-sd", "0"), ["--assume-sd", "above 0"]),
        (("plan", THRESHOLD, "--small", "--slope", "nan"), ["slope", "finite"]),
        (("run", "studies/sizethreshold.py"), ["no study file"]),
        (("run", "nofile.py"), ["no study file nofile.py. Check the path."]),
        (("report", "unknown"), ["no study", "unknown"]),
        (("threshold", "nowhere.csv"), ["nowhere.csv"]),
        (("data", "import", "nowhere", "store", "--size", "8"), ["nowhere"]),
        (("data", "info", "nowhere"), ["nowhere"]),
        (
            ("data", "info", "sklearn:digits", "--contact-sheet", "none/x.png"),
            ["none/x.png", "No such file", "--contact-sheet"],
        ),
        (("ui", "--host", "no host"), ["no host", "--host 127.0.0.1"]),
        (("ui", "--host", "192.0.2.1"), ["192.0.2.1", "--host 127.0.0.1"]),
        (("sync", "unknown"), ["unknown"]),
        (("run", THRESHOLD, "--small", "--runs", "/dev/null/runs"), ["/dev/null/runs", "--runs"]),
    ],
)
def test_a_mistake_is_one_sentence_with_exit_code_2_and_leaves_nothing(
    arguments, words, raysl, tmp_path
):
    code, _, err = raysl(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert not list(tmp_path.rglob("*.json"))


def test_a_file_that_cannot_be_written_is_named_in_a_sentence(raysl, tmp_path):
    rows = [
        f"{arm},{size},{seed},{size**0.5 + seed}"
        for arm in "ab"
        for size in (50, 200, 800)
        for seed in (0, 1)
    ]
    (tmp_path / "scores.csv").write_text("\n".join(["arm,size,seed,metric", *rows]))
    command = ("threshold", "scores.csv", "--baseline", "a", "--figures", "figures")
    assert raysl(*command)[0] == 0
    drawn = next((tmp_path / "figures").iterdir())
    drawn.unlink()
    drawn.mkdir()  # in the way, as a folder without the right to write would be
    code, _, err = raysl(*command)
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert f"Cannot use figures/{drawn.name} (Is a directory); mend it" in err


def test_compiling_without_a_compiler_is_refused_before_any_trial(raysl, monkeypatch, tmp_path):
    monkeypatch.setattr("raysl.compiled.shutil.which", lambda name: None)
    code, _, err = raysl("run", THRESHOLD, "--small", "--set", "compile=true")
    assert code == 2
    assert "install g++, or set compile=false" in err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", THRESHOLD, "--small", "--cpus", "0"),
        ("run", THRESHOLD, "--small", "--cpus", "-1"),
        ("run", THRESHOLD, "--small", "--concurrent", "0"),
        ("run", THRESHOLD, "--small", "--concurrent", "-1"),
        ("plan", THRESHOLD, "--small", "--cpus", "0"),
        ("ui", "--port", "0"),
        ("ui", "--port", "70000"),
    ],
)
def test_an_option_out_of_its_range_is_named_and_nothing_starts(arguments, raysl, tmp_path):
    code, out, err = raysl(*arguments)
    assert code == 2
    assert out == ""
    assert f"Invalid value for '{arguments[-2]}'" in err
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback_and_stands_in_the_help(raysl):
    assert "--debug" in raysl("--help")[1]
    code, _, err = raysl("run", THRESHOLD, "data=nowhere", "--debug")
    assert code == 2
    assert "Traceback" in err


@pytest.mark.slow
def test_a_study_with_the_same_name_and_other_content_is_refused(raysl):
    small = (*SMALL, "seeds=1")
    assert raysl(*small)[0] == 0
    code, _, err = raysl(*small, "--set", "method.temperature=0.2")
    assert code == 2
    assert "different content (base)" in err


@pytest.mark.slow
def test_a_whole_study_ends_in_table_sentence_report_and_the_way_to_mlflow(raysl, tmp_path):
    code, out, _ = raysl(*SMALL)
    assert code == 0
    assert "scratch" in out
    assert "test/linear_top1" in out
    assert "report.html" in out
    assert "raysl ui --runs runs" in out
    assert "raysl sync" not in out  # MLflow has everything
    study = tmp_path / "runs" / "size-threshold-small"
    assert {"report.html", "report.json", "results.parquet", "study.json"} <= {
        path.name for path in study.iterdir()
    }
    before = (study / "report.json").read_text()
    assert raysl("report", "size-threshold-small")[0] == 0
    assert (study / "report.json").read_text() == before
    code, out, _ = raysl("sync", "size-threshold-small")
    assert code == 0
    assert "MLflow is up to date; runs created: 0, updated: 0, unchanged: 16." in out


def test_plan_prints_cells_trials_and_cost_and_runs_nothing(raysl, tmp_path):
    code, out, _ = raysl("plan", THRESHOLD, "--small")
    assert code == 0
    assert "simclr 256" in out
    assert "8 trials" in out
    assert not (tmp_path / "runs").exists()


def test_plan_ends_in_cost_money_budget_and_a_forecast_that_says_what_it_assumes(raysl):
    options = ("--price-per-hour", "2.5", "--budget", "trials=3")
    code, out, _ = raysl("plan", THRESHOLD, "--small", "--local", *options)
    assert code == 0
    for words in (
        "8 trials, 13,120 images trained on, about 0.0", "device-hours", "at 2.50 per device-hour",
        "1 at a time", "ends the study after 3 of the 8 trials",
        "With seed noise 0.6 points and a slope of 2 points per doubling, expect about 12 more "
        "runs for a ratio of 1.5",
        "The seed noise (--assume-sd) and the slope (--slope) are assumed.",
        "The plan holds 4 runs of SimCLR near a crossing",
    ):  # fmt: skip
        assert words in out
    options = ("--assume-sd", "1.2", "--slope", "0", "--budget", "device-hours=9")
    code, out, _ = raysl("plan", THRESHOLD, "--small", "--local", *options)
    assert code == 0
    assert "no number of runs would give a ratio of 1.5" in out
    assert "assumed" not in out
    assert "money" not in out
    assert "covers the whole plan" in out


def test_plan_has_no_forecast_of_a_threshold_where_there_is_one_size(raysl):
    code, out, _ = raysl("plan", THRESHOLD, "--small", "--local", "sizes=64")
    assert code == 0
    assert "trials" in out
    assert "for a ratio of" not in out
    assert "slope" not in out


@pytest.mark.slow
def test_a_capped_run_says_why_it_stopped_reports_and_goes_on_with_a_larger_budget(raysl, tmp_path):
    trials = tmp_path / "runs" / "size-threshold-small" / "trials"
    code, out, _ = raysl(*SMALL, "--budget", "trials=3")
    assert code == 0
    assert "The budget of 3 trials is used up: 3 run, 5 of the plan left." in out
    assert len(list(trials.glob("*/result.json"))) == 3
    assert (trials.parent / "report.html").exists()
    code, out, _ = raysl(*SMALL, "--budget", "trials=5", "--budget", "device-hours=9")
    assert code == 0
    assert len(list(trials.glob("*/result.json"))) == 5
    code, out, _ = raysl(*SMALL)
    assert code == 0
    assert "budget" not in out
    assert len(list(trials.glob("*/result.json"))) == 8


# Konstantakos et al. 2024, figure 8: top-5 on ImageNet-100, ResNet-50.
FIGURE8 = [(50000, 63.9, 64.8), (65000, 67.7, 67.4), (80000, 70.2, 69.4), (100000, 73.5, 70.6)]


def table(path, value=float, *, size="size", metric="metric"):
    """FIGURE8 as a CSV file, its accuracies turned by `value`."""
    rows = [f"arm,{size},seed,{metric}"]
    for n, arm, baseline in FIGURE8:
        rows += [f"simclr,{n},0,{value(arm):.6g}", f"scratch,{n},0,{value(baseline):.6g}"]
    path.write_text("\n".join(rows) + "\n")
    return path


def answer(out) -> str:
    """The bold sentence of `raysl threshold`: all after the table."""
    return " ".join(out.split()).partition("SimCLR")[2]


def test_threshold_reads_any_table(raysl, tmp_path):
    table(tmp_path / "figure8.csv")
    code, out, _ = raysl("threshold", "figure8.csv", "--assume-sd", "0.5")
    assert code == 0
    assert "assuming a seed sd of 0.5 points" in out
    code, out, _ = raysl("threshold", "figure8.csv")
    assert "one seed" in out.lower() or "seed" in out


def test_threshold_takes_other_columns_and_other_arms(raysl, tmp_path):
    table(tmp_path / "plain.csv")
    table(tmp_path / "named.csv", size="images", metric="top5")
    options = ("--assume-sd", "0.1")
    _, plain, _ = raysl("threshold", "plain.csv", *options)
    columns = ("--size", "images", "--metric", "top5", "--arm", "simclr", "--baseline", "scratch")
    code, named, _ = raysl("threshold", "named.csv", *options, *columns)
    assert code == 0
    assert named == plain


def test_threshold_of_a_metric_where_lower_is_better_is_that_of_its_mirror_image(raysl, tmp_path):
    table(tmp_path / "accuracy.csv")
    table(tmp_path / "error.csv", lambda accuracy: 100 - accuracy)
    options = ("--assume-sd", "0.1")
    _, accuracy, _ = raysl("threshold", "accuracy.csv", *options)
    code, error, _ = raysl("threshold", "error.csv", *options, "--lower-is-better")
    assert code == 0
    assert answer(error) == answer(accuracy)
    # The difference of the errors that the user gave: 29.4 - 26.5 at 100,000.
    assert "scratch - simclr" in error
    assert "+2.90" in next(line for line in error.splitlines() if "100,000" in line)
    assert "a difference above 0 is how far simclr is below scratch" in error
    _, wrong, _ = raysl("threshold", "error.csv", *options)
    assert answer(wrong) != answer(accuracy)


def test_a_margin_moves_the_threshold_up_and_the_confidence_names_the_interval(raysl, tmp_path):
    table(tmp_path / "figure8.csv")
    options = ("--assume-sd", "0.1")
    code, out, _ = raysl("threshold", "figure8.csv", *options, "--margin", "2")
    assert code == 0
    assert "2 points" in out
    assert answer(out) != answer(raysl("threshold", "figure8.csv", *options)[1])
    code, out, _ = raysl("threshold", "figure8.csv", *options, "--confidence", "0.8")
    assert code == 0
    assert "80 % interval" in out
    assert "90 %" not in out


def test_a_table_of_fractions_with_its_point_gives_the_answer_of_percent(raysl, tmp_path):
    table(tmp_path / "percent.csv")
    table(tmp_path / "fractions.csv", lambda accuracy: accuracy / 100)
    _, percent, _ = raysl("threshold", "percent.csv", "--assume-sd", "0.1", "--margin", "0.2")
    options = ("--point", "0.01", "--assume-sd", "0.001", "--margin", "0.002")
    code, fractions, _ = raysl("threshold", "fractions.csv", *options)
    assert code == 0
    interval = answer(percent).partition(", assuming")[0].partition(" from about ")[2]
    assert interval
    assert interval in answer(fractions)
    assert "+0.0290" in next(line for line in fractions.splitlines() if "100,000" in line)


def test_errors_given_as_fractions_are_refused_like_accuracies(raysl, tmp_path):
    table(tmp_path / "error.csv", lambda accuracy: 1 - accuracy / 100)
    code, _, err = raysl("threshold", "error.csv", "--assume-sd", "0.001", "--lower-is-better")
    assert code == 2
    assert "--point 0.01" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--arm", "simcrl"), ["did you mean 'simclr'"]),
        (("--arm", "simclr", "--baseline", "simclr"), ["both 'simclr'"]),
        (("--metric", "metrik"), ["metrik", "metric"]),
        (("--size", "images"), ["images", "size"]),
        (("--assume-sd", "0"), ["above 0"]),
        (("--margin", "-1"), ["margin"]),
        (("--confidence", "90"), ["confidence"]),
        (("--point", "0"), ["point", "above 0"]),
        (("--assume-sd", "-1"), ["above 0"]),
        (("--lower-is-better", "--point", "nan"), ["point", "above 0"]),
    ],
)
def test_a_mistaken_option_of_threshold_gets_a_sentence(options, words, raysl, tmp_path):
    table(tmp_path / "figure8.csv")
    code, out, err = raysl("threshold", "figure8.csv", *options)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_figures_that_cannot_be_written_are_told_before_anything_is_printed(raysl, tmp_path):
    table(tmp_path / "figure8.csv")
    before = (tmp_path / "figure8.csv").read_text()
    options = ("--assume-sd", "0.5", "--figures", "figure8.csv")
    code, out, err = raysl("threshold", "figure8.csv", *options)
    assert (code, out) == (2, "")
    assert err.startswith("raysl: The folder figure8.csv for the figures cannot be made (")
    assert "choose another with --figures." in err
    assert (tmp_path / "figure8.csv").read_text() == before


@pytest.mark.slow
def test_doctor_names_versions_devices_threads_and_disk(raysl):
    code, out, _ = raysl("doctor")
    assert code == 0
    for word in ("torch", "ray", "mlflow", "cores", "GiB free"):
        assert word in out


def test_data_import_and_info_work_end_to_end(raysl, tmp_path):
    code, _, _ = raysl("data", "import", "sklearn:digits", "digits", "--size", "8")
    assert code == 0
    code, out, _ = raysl("data", "info", "digits", "--verify")
    assert code == 0
    assert "digest" in out
    assert (tmp_path / "digits" / "contact_sheet.png").exists()
