"""Durations become steps in one place; schedules start and end where they say."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from raysl.optim import Duration, OptimConfig, build_optimizer, lr_factor, peak_lr, set_step


@pytest.mark.parametrize(
    ("text", "steps"),
    [("200 steps", 200), ("10 epochs", 39), ("1e4 examples", 39), ("1examples", 1), ("0 steps", 0)],
)
def test_a_duration_in_any_unit_becomes_steps(text, steps):
    assert Duration.parse(text).to_steps(num_examples=1000, batch_size=256) == steps


@pytest.mark.parametrize("text", ["200", "steps", "-1 steps", "1.5 steps", "2 hours"])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


def test_the_schedule_warms_up_linearly_and_ends_at_final_lr_in_the_last_step():
    config = OptimConfig(warmup=0.1, final_lr=0.01)
    factors = [lr_factor(config, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == pytest.approx(1.0)
    assert factors[99] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(factors[10:]))


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_very_short_schedules_stay_in_range(num_steps):
    factors = [lr_factor(OptimConfig(), step, num_steps) for step in range(num_steps)]
    assert all(0 <= f <= 1 for f in factors)
    assert factors[0] > 0


def test_the_learning_rate_scales_with_the_batch_only_where_asked():
    assert peak_lr(OptimConfig(lr=0.1), 512) == 0.1
    assert peak_lr(OptimConfig(lr=0.1, lr_scaling="linear"), 512) == pytest.approx(0.2)
    assert peak_lr(OptimConfig(lr=0.1, lr_scaling="sqrt"), 1024) == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_and_norms_are_not_decayed_and_groups_keep_their_own_rate(name):
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    config = OptimConfig(name=name, lr=0.1, weight_decay=0.5)
    optimizer = build_optimizer(config, module, batch_size=256)
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays[id(module[0].weight)] == 0.5
    assert {decays[id(p)] for p in (module[0].bias, module[1].weight, module[1].bias)} == {0.0}
    set_step(optimizer, OptimConfig(lr=0.1, warmup=0.5), 1, 8)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.05])


def test_the_weight_decay_goes_along_a_cosine_where_a_last_value_is_given():
    module = nn.Linear(4, 4)
    config = OptimConfig(weight_decay=0.04, final_weight_decay=0.4, warmup=0.0)
    optimizer = build_optimizer(config, module, batch_size=256)
    found = []
    for step in range(101):
        set_step(optimizer, config, step, 101)
        found.append([group["weight_decay"] for group in optimizer.param_groups])
    decays, none = zip(*found, strict=True)
    assert decays[0] == pytest.approx(0.04)
    assert decays[50] == pytest.approx(0.22)
    assert decays[100] == pytest.approx(0.4)
    assert set(none) == {0.0}
    set_step(optimizer, OptimConfig(weight_decay=0.3), 7, 101)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


def test_lars_adapts_weights_by_their_trust_ratio_and_leaves_biases_to_plain_sgd():
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    config = OptimConfig(name="lars", lr=1.0, weight_decay=0.1, momentum=0.0)
    optimizer = build_optimizer(config, module, batch_size=256)
    module(torch.ones(1, 3)).sum().backward()
    grad = module.weight.grad.clone()
    optimizer.step()
    # You, Gitman, Ginsburg 2017: trust 0.001 |w| / (|g| + decay |w|).
    trust = 0.001 * weight.norm() / (grad.norm() + 0.1 * weight.norm())
    assert torch.allclose(module.weight, weight - trust * (grad + 0.1 * weight), atol=1e-7)
    assert torch.allclose(module.bias, bias - module.bias.grad)
