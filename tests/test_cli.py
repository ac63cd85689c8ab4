"""The command line: what it prints, and that a mistake is one sentence and exit code 2."""

import sys
from pathlib import Path

import pytest

from raysl import cli
from raysl.study.load import arguments, load_module

STUDIES = Path(__file__).parents[1] / "studies"
THRESHOLD = str(STUDIES / "size_threshold.py")


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
        (("run", THRESHOLD, "--small", "--tracking-uri", "htp://x"), ["htp://x"]),
        (("run", "studies/sizethreshold.py"), ["no study file"]),
        (("report", "unknown"), ["no study", "unknown"]),
        (("threshold", "nowhere.csv"), ["nowhere.csv"]),
        (("data", "import", "nowhere", "store", "--size", "8"), ["nowhere"]),
        (("data", "info", "nowhere"), ["nowhere"]),
        (("sync", "unknown"), ["unknown"]),
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


def test_debug_shows_the_traceback(raysl):
    code, _, err = raysl("run", THRESHOLD, "data=nowhere", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_a_study_with_the_same_name_and_other_content_is_refused(raysl):
    small = ("run", THRESHOLD, "--small", "--local", "seeds=1")
    assert raysl(*small)[0] == 0
    code, _, err = raysl(*small, "--set", "method.temperature=0.2")
    assert code == 2
    assert "different content (base)" in err


def test_a_whole_study_ends_in_table_sentence_report_and_the_way_to_mlflow(raysl, tmp_path):
    code, out, _ = raysl("run", THRESHOLD, "--small", "--local")
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


def test_plan_prints_cells_trials_and_cost_and_runs_nothing(raysl, tmp_path):
    code, out, _ = raysl("plan", THRESHOLD, "--small")
    assert code == 0
    assert "simclr 256" in out
    assert "8 trials" in out
    assert not (tmp_path / "runs").exists()


def test_threshold_reads_any_table(raysl, tmp_path):
    # Konstantakos et al. 2024, figure 8: top-5 on ImageNet-100, ResNet-50.
    rows = "arm,size,seed,metric\n" + "".join(
        f"simclr,{n},0,{a}\nscratch,{n},0,{b}\n"
        for n, a, b in [
            (50000, 63.9, 64.8), (65000, 67.7, 67.4), (80000, 70.2, 69.4), (100000, 73.5, 70.6),
        ]
    )  # fmt: skip
    (tmp_path / "figure8.csv").write_text(rows)
    code, out, _ = raysl("threshold", "figure8.csv", "--assume-sd", "0.5")
    assert code == 0
    assert "assuming a seed sd of 0.5 points" in out
    code, out, _ = raysl("threshold", "figure8.csv")
    assert "one seed" in out.lower() or "seed" in out


def test_methods_lists_parameters_defaults_and_sources(raysl):
    code, out, _ = raysl("methods")
    assert code == 0
    assert "method.temperature = 0.5" in out
    assert "arXiv 2002.05709" in out


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
