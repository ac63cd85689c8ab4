"""The signs of collapse have their known values at the extremes."""

import math

import pytest
import torch

from raysl.methods.parts.signs import embedding_signs, target_signs
from raysl.methods.parts.unit import unit_rows


def one_hot(classes, k):
    return torch.nn.functional.one_hot(torch.tensor(classes), k).float()


def signs(targets):
    return {name: float(value) for name, value in target_signs(targets).items()}


def spread(z):
    return float(embedding_signs(unit_rows(z))["embedding_std"])


def test_one_embedding_for_all_images_has_no_spread():
    assert spread(torch.randn(1, 16).expand(8, 16)) == pytest.approx(0, abs=1e-6)


def test_embeddings_all_over_the_sphere_spread_by_one_whatever_their_length():
    z = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert spread(z) == pytest.approx(1, abs=0.02)
    assert spread(z * 1000) == pytest.approx(spread(z), rel=1e-5)


def test_two_opposite_embeddings_spread_by_one():
    z = torch.ones(2, 4) * torch.tensor([[1.0], [-1.0]])
    assert spread(z) == pytest.approx(1)


def test_uniform_targets_have_entropy_and_usage_one():
    assert signs(torch.full((6, 8), 1 / 8)) == pytest.approx(
        {"target_entropy": 1.0, "target_usage": 1.0}
    )


def test_sharp_targets_of_all_classes_have_entropy_zero_and_usage_one():
    assert signs(one_hot([0, 1, 2, 3] * 2, 4)) == pytest.approx(
        {"target_entropy": 0.0, "target_usage": 1.0}, abs=1e-6
    )


def test_one_class_for_all_has_entropy_and_usage_zero():
    assert signs(one_hot([2] * 5, 4)) == pytest.approx(
        {"target_entropy": 0.0, "target_usage": 0.0}, abs=1e-6
    )


def test_two_of_eight_classes_are_a_third_of_log_k():
    assert signs(one_hot([0, 5], 8))["target_usage"] == pytest.approx(math.log(2) / math.log(8))


def test_usage_is_never_below_entropy_and_equal_only_where_all_rows_are_one():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(10, 6, generator=draw).softmax(dim=1)
    found = signs(rows)
    assert found["target_usage"] > found["target_entropy"] + 0.01
    same = signs(rows[:1].expand(10, 6))
    assert same["target_usage"] == pytest.approx(same["target_entropy"], abs=1e-6)


def test_signs_of_half_precision_and_of_a_single_class_are_finite():
    for targets in (torch.full((3, 4), 0.25, dtype=torch.bfloat16), torch.ones(3, 1)):
        assert all(math.isfinite(value) for value in signs(targets).values())
    assert math.isfinite(spread(torch.zeros(3, 4)))
