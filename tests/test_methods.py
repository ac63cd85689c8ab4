"""Every method keeps the contract; `method_cases` says what is particular to each."""

import dataclasses
import functools
import math
from dataclasses import fields
from typing import get_args, get_origin, get_type_hints

import pytest
import torch
from method_cases import CASES
from method_steps import batch_of, build, encoder_for, trajectory

from raysl.encoder import EncoderConfig
from raysl.methods import METHODS, MethodConfig
from raysl.views import VIEWS

TRAINED = [name for name, method in METHODS.items() if method.trains_on != "nothing"]
PAIRS = [
    pytest.param(name, encoder, id=f"{name}-{encoder.name}")
    for name in TRAINED
    for encoder in CASES[name].encoders
]


def test_every_method_has_a_case_and_a_config_of_its_own():
    assert set(CASES) == set(METHODS)
    kinds = [method.Config for method in METHODS.values()]
    assert len(set(kinds)) == len(kinds)
    assert all(issubclass(kind, MethodConfig) for kind in kinds)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_where_it_comes_from_and_how_it_scales(name):
    method = METHODS[name]
    assert all((method.__doc__, method.paper, method.family))
    config = method.Config()
    scaled = {f.name for f in fields(config) if getattr(config, f.name) is None}
    assert set(method.scaling) >= scaled
    assert set(method.scaling) <= {f.name for f in fields(config)}


@pytest.mark.parametrize(("name", "encoder"), PAIRS)
def test_the_loss_is_finite_and_its_gradient_reaches_the_encoder(name, encoder):
    for channels in CASES[name].channels:
        method = build(name, encoder=encoder, channels=channels)
        outputs = method(batch_of(name, 8, channels=channels))
        outputs["loss"].backward()
        assert torch.isfinite(outputs["loss"])
        assert all(value.ndim == 0 for value in outputs.values())
        missing = [n for n, p in method.encoder.named_parameters() if p.grad is None]
        assert not missing
        assert any(p.grad.abs().sum() > 0 for p in method.encoder.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_parameter_gets_a_gradient(name):
    """DDP waits for all of them."""
    method = build(name)
    method(batch_of(name, 8))["loss"].backward()
    missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls_within_30_steps_on_16_images(name):
    method = build(name, **CASES[name].falls_with)
    losses, _ = trajectory(method, name, 30, rate=CASES[name].rate, progress=0.5)
    losses = losses[CASES[name].settles :]
    assert losses[-1] < losses[0] - CASES[name].falls * abs(losses[0])


@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_of_two_works_or_says_why_not(name):
    method = build(name)
    if CASES[name].small_batch is None:
        assert torch.isfinite(method(batch_of(name, 2))["loss"])
    else:
        with pytest.raises(ValueError, match=CASES[name].small_batch):
            method(batch_of(name, 2))


@pytest.mark.parametrize("name", TRAINED)
def test_a_state_dict_round_trip_gives_the_same_next_loss(name):
    first, second = build(name), build(name)
    for parameter in second.parameters():
        parameter.data.add_(0.1)
    trajectory(first, name, 3)  # moves batch statistics and whatever state the method has
    second.load_state_dict(first.state_dict())
    again = [method(batch_of(name, 8, seed=1))["loss"] for method in (first, second)]
    assert again[0] == again[1]


@pytest.mark.parametrize("name", TRAINED)
def test_a_teacher_gets_no_gradient_and_moves_only_after_the_update(name):
    method = build(name)
    frozen = {n: p for n, p in method.named_parameters() if not p.requires_grad}
    before = {n: p.detach().clone() for n, p in frozen.items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    method(batch_of(name, 8))["loss"].backward()
    method.before_update(0.0)
    optimizer.step()
    assert all(p.grad is None for p in frozen.values())
    assert all(torch.equal(p, before[n]) for n, p in frozen.items())
    method.after_update(0.1)
    if method.evaluated is not method.encoder:
        moved = [n for n, p in frozen.items() if not torch.equal(p, before[n])]
        assert moved


@pytest.mark.slow  # half a minute in all: two short trainings for each field
@pytest.mark.parametrize("name", METHODS)
def test_every_field_of_a_config_changes_something(name):
    shown = {*CASES[name].changes, *CASES[name].shown_elsewhere}
    assert shown == {field.name for field in fields(METHODS[name].Config)}

    @functools.cache
    def outcome(**config):
        return trajectory(build(name, **config), name, 4)

    for field, change in CASES[name].changes.items():
        change = change if isinstance(change, dict) else {field: change}
        others = {key: value for key, value in change.items() if key != field}
        assert outcome(**others) != outcome(**change), field


@pytest.mark.parametrize("name", [name for name in METHODS if CASES[name].refuses])
def test_an_encoder_that_does_not_fit_gets_a_sentence(name):
    with pytest.raises(ValueError, match=r"needs .*, not "):
        build(name, encoder=CASES[name].refuses)
    assert METHODS[name].encoders != "any"


@pytest.mark.parametrize("name", [name for name in METHODS if CASES[name].refuses_channels])
def test_images_that_do_not_fit_get_a_sentence(name):
    for channels in CASES[name].refuses_channels:
        with pytest.raises(ValueError, match="channel"):
            build(name, channels=channels)


@pytest.mark.parametrize("name", [n for n in TRAINED if METHODS[n].views.num_local_views])
@pytest.mark.parametrize("num_local_views", [0, 2])
def test_multi_crop_methods_take_any_number_of_local_views(name, num_local_views):
    views = dataclasses.replace(METHODS[name].views, num_local_views=num_local_views)
    loss = build(name)(batch_of(name, 8, views=views))["loss"]
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", METHODS)
def test_a_number_that_cannot_be_gets_a_sentence_that_names_it(name):
    kind = METHODS[name].Config
    for field, hint in get_type_hints(kind).items():
        types = {hint, *get_args(hint)} if get_origin(hint) is not tuple else set()
        wrong = [math.nan, math.inf, -math.inf] if float in types else []
        for value in [*wrong, -1] if types & {int, float} else []:
            with pytest.raises(ValueError, match=rf"^method\.{field} must .*{value}"):
                kind(**{field: value})


def test_two_view_methods_name_the_views_they_need():
    with pytest.raises(ValueError, match="num_views=2"):
        build("simclr")(batch_of("simclr", 8, views=VIEWS["dino_small"]))


def test_the_conformance_encoders_are_small():
    for encoder in (EncoderConfig(width=8), *{e for case in CASES.values() for e in case.encoders}):
        built = encoder_for("simclr", encoder, channels=3)
        assert sum(p.numel() for p in built.parameters()) < 6_000_000
