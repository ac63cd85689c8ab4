"""The live display shows what a person waits for; without a terminal there is a line a trial."""

import io

from rich.console import Console
from test_study import result_of, study_of

from raysl.progress import ProgressDisplay, duration
from raysl.study.planners import build_planner
from raysl.trial import failed


def shown(display) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(display._render())
    return console.file.getvalue()


def test_the_display_counts_trials_and_shows_loss_speed_time_and_the_best(splits):
    study = study_of(splits)
    planner = build_planner(study)
    display = ProgressDisplay(study, planner, Console(file=io.StringIO(), force_terminal=True))
    first, second, third = planner.ask(), planner.ask(), planner.ask()
    for proposal in (first, second, third):
        display.started(proposal)
    display.finished(first, result_of(first, **{"val/linear_top1": 61.25}))
    display.finished(second, failed(second.recipe, ValueError("broken"), final=True))
    display.progress(third, 2, {"train/loss": 1.2345, "images_per_second": 4321.0, "progress": 0.5})
    text = shown(display)
    for words in (
        "2 of 8 trials done", "1 running", "1 failed", "elapsed", "left about",
        "loss 1.234", "4,321 images/s", "50%", "best so far: 61.2 % on val, simclr 8 seed 0",
    ):  # fmt: skip
        assert words in text
    assert any(line.startswith("scratch seed 0") for line in text.splitlines())


def test_a_trial_that_is_tried_again_says_so_and_counts_once(splits):
    study = study_of(splits)
    planner = build_planner(study)
    display = ProgressDisplay(study, planner, Console(file=io.StringIO()))
    proposal = planner.ask()
    display.started(proposal)
    display.started(proposal)
    assert shown(display).count("simclr 8 seed 0") == 1


def test_without_a_terminal_each_finished_trial_is_one_line_with_its_outcome(splits):
    study = study_of(splits)
    planner = build_planner(study)
    console = Console(file=io.StringIO(), width=40)
    with ProgressDisplay(study, planner, console) as display:
        first, second = planner.ask(), planner.ask()
        display.finished(first, result_of(first, **{"val/linear_top1": 61.25}))
        display.finished(second, failed(second.recipe, ValueError("broken"), final=True))
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "[1/8]  simclr 8 seed 0: 61.2 % on val"
    assert lines[1] == "[2/8]  simclr 24 seed 0: failed: ValueError: broken"


def test_durations_read_as_people_say_them():
    assert [duration(s) for s in (4, 75, 3 * 3600 + 60)] == ["4 s", "1 min 15 s", "3 h 01 min"]
