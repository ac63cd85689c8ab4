"""MoCo v3's loss is algorithm 1 of the paper."""

import math

import pytest
import torch
from method_cases.case import CONVNET, VIT
from method_steps import batch_of, build
from torch import nn

from raysl.methods import METHODS
from raysl.methods.mocov3 import contrast


def naive_contrast(queries, keys, temperature):
    """ctr of algorithm 1, term by term in float64."""
    queries = [q / q.norm() for q in queries.double()]
    keys = [k / k.norm() for k in keys.double()]
    total = 0.0
    for i, q in enumerate(queries):
        terms = [math.exp(float(q @ k) / temperature) for k in keys]
        total -= math.log(terms[i] / sum(terms))
    return 2 * temperature * total / len(queries)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_contrast_equals_the_equation(temperature, size):
    draw = torch.Generator().manual_seed(size)
    q, k = torch.randn(2, size, 5, generator=draw, dtype=torch.float64)
    loss, _ = contrast(q[None], k[None], temperature)
    assert float(loss) == pytest.approx(naive_contrast(q, k, temperature), abs=1e-6)


def test_equal_projections_give_the_log_of_the_batch_and_orthogonal_ones_their_known_value():
    same = torch.ones(6, 4)
    assert float(contrast(same[None], same[None], 0.5)[0]) == pytest.approx(math.log(6), abs=1e-6)
    loss, accuracy = contrast(torch.eye(4)[None], 2 * torch.eye(4)[None], 0.5)
    assert float(loss) == pytest.approx(-2 + math.log(math.exp(2) + 3), abs=1e-6)
    assert float(accuracy) == 100.0


def test_the_loss_is_the_sum_over_both_orders_of_the_views():
    method = build("mocov3", encoder=CONVNET)
    batch = batch_of("mocov3", 6)
    for module in method.modules():  # so that a pass does not change the next
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        q = [method.predictor(method.projector(method.encoder(view))) for view in batch.views]
        k = [method.teacher(view) for view in batch.views]
        expected = naive_contrast(q[0], k[1], 1.0) + naive_contrast(q[1], k[0], 1.0)
        assert float(method(batch)["loss"]) == pytest.approx(expected, abs=1e-5)


def test_temperature_and_depth_follow_the_kind_of_encoder():
    vit, convnet = (build("mocov3", encoder=encoder) for encoder in (VIT, CONVNET))
    linear = [sum(isinstance(m, nn.Linear) for m in x.projector) for x in (vit, convnet)]
    assert (vit.temperature, convnet.temperature) == (0.2, 1.0)
    assert linear == [3, 2]


def test_a_vit_keeps_its_random_patch_projection_if_asked():
    for random_patches in (True, False):
        method = build("mocov3", encoder=VIT, random_patches=random_patches)
        method(batch_of("mocov3", 6))["loss"].backward()
        moved = {n for n, p in method.encoder.named_parameters() if p.grad is not None}
        fixed = {n for n, _ in method.encoder.named_parameters()} - moved
        patches = {"body.patch_embed.proj.weight", "body.patch_embed.proj.bias"}
        assert fixed == (patches if random_patches else set())


def test_the_teachers_momentum_rises_to_one():
    method = build("mocov3", momentum=0.5)
    start = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(1.0)
    method.after_update(1.0)
    assert all(torch.equal(p, q) for p, q in zip(method.teacher.parameters(), start, strict=True))
    method.after_update(0.0)
    first = next(method.encoder.parameters())
    assert torch.allclose(next(method.teacher.parameters()), first - 0.5)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"momentum": -0.1}, {"layers": 0}, {"hidden": 0}, {"width": 0}]
)
def test_wrong_parameters_get_a_sentence(wrong):
    with pytest.raises(ValueError, match=f"method\\.{next(iter(wrong))} must"):
        METHODS["mocov3"].Config(**wrong)
