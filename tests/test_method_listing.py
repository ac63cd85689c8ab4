"""`raysl methods` shows every method whole: in a table by family, and one by one."""

import dataclasses
import io
from typing import get_args

import pytest
from rich.console import Console

from raysl.commands import show_methods
from raysl.methods import METHODS
from raysl.methods.method import Family


def listing(name=None, *, width=100, terminal=False) -> str:
    file = io.StringIO()
    show_methods(Console(file=file, width=width, force_terminal=terminal), name)
    return file.getvalue()


def test_every_method_has_one_line_with_its_encoders_parameters_and_source():
    lines = listing().splitlines()
    for name, method in METHODS.items():
        (line,) = (line for line in lines if line.split(" ")[0] == name)
        assert method.encoders in line
        assert method.paper in line
        for field in dataclasses.fields(method.Config):
            assert f" {field.name}=" in line, field.name
    assert " temperature=0.5 projector=512,128 " in next(x for x in lines if x.startswith("simclr"))


def test_every_scaling_rule_is_listed_once_with_the_methods_that_follow_it():
    found = [line.strip().split("  ") for line in listing().splitlines() if line.startswith("  ")]
    for name, method in METHODS.items():
        for field, rule in method.scaling.items():
            followers = [names for names, text in found if text == f"{field}: {rule}"]
            assert sum(name in names.split(", ") for names in followers) == 1
    assert len({(names, text) for names, text in found}) == len(found)
    assert ["moco", "queue_size: a twentieth of the pool"] in [
        [names, text.split(",")[0]] for names, text in found
    ]


def test_methods_stand_under_their_family():
    lines = listing().splitlines()
    headings = [line for line in lines if line in get_args(Family)]
    assert len(headings) == len(set(headings))
    family = None
    for line in lines:
        family = line if line in headings else family
        name = line.split(" ")[0]
        if name in METHODS:
            assert METHODS[name].family == family


def test_a_terminal_gets_lines_that_fit_it():
    assert max(map(len, listing(terminal=False).splitlines())) > 100
    assert "\x1b[1m" in listing(terminal=True)
    assert "\x1b" not in listing(terminal=False)


@pytest.mark.parametrize("name", METHODS)
def test_one_method_tells_its_equation_defaults_rules_and_source(name):
    text, method = listing(name), METHODS[name]
    assert method.paper in text
    assert method.family in text
    assert method.optim.name in text
    for field in dataclasses.fields(method.Config):
        (line,) = (x for x in text.splitlines() if x.startswith(f"method.{field.name} = "))
        if field.name in method.scaling:
            assert line.endswith(f"({method.scaling[field.name]})")


def test_one_method_shows_what_a_user_types():
    text = listing("simclr")
    assert "method.temperature = 0.5\n" in text
    assert "method.projector = 512,128\n" in text
    assert "method.projector_norm = false\n" in text
    assert "loss = mean over the 2B views" in text
    assert "ViT" in listing("mae")
    assert "trains on: another labelled data set" in listing("supervised_source")


def test_an_unknown_method_gets_its_near_miss():
    with pytest.raises(ValueError, match="did you mean 'simclr'"):
        listing("simcrl")
