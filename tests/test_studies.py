"""Every study file's small variant runs to its report."""

import json
import sys
from pathlib import Path

import pytest

from raysl import cli

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_small_variant_ends_in_a_report_without_failed_trials(path, tmp_path, monkeypatch):
    arguments = ["raysl", "run", str(path), "duration=6 steps", "--small", "--local"]
    arguments += ["--set", "encoder.width=8", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    (page,) = tmp_path.glob("*/report.html")
    report = json.loads((page.parent / "report.json").read_text())
    assert report["answer"]
    assert report["failed"] == []
    if report["study"]["space"] is not None:
        assert report["importance"]
        sizes = {cell["cell"]["pool_size"] for cell in report["search"]}
        known = set(report["study"]["axes"]["pool_size"])
        assert sizes - {None} == known  # a baseline's search may not depend on the size
        assert len(list(page.parent.glob("figures/*.png"))) >= 3
