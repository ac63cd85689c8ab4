"""DINO's loss, targets, head and schedules are those of the paper."""

import dataclasses
import math

import pytest
import torch
from method_steps import batch_of, build
from timm.layers import DropPath
from torch import nn

from raysl.encoder import EncoderConfig
from raysl.methods.dino import DINOConfig
from raysl.methods.parts.dino_head import (
    DinoHead,
    Targets,
    default_num_outputs,
    still_teacher_of,
    warmed_up,
)
from raysl.methods.parts.dino_losses import across_views
from raysl.methods.parts.sinkhorn import sinkhorn


def softmax(row, temperature):
    exps = [math.exp(v / temperature) for v in row]
    return [v / sum(exps) for v in exps]


def naive_dino(student, teacher, centre, student_temperature, teacher_temperature):
    """Equations 1 to 3 term by term: H(P_t(x), P_s(x')) for every x global and x' other than x."""
    total, terms = 0.0, 0
    for t, taught in enumerate(teacher):
        for s, view in enumerate(student):
            if s == t:
                continue
            for row_t, row_s in zip(taught.tolist(), view.tolist(), strict=True):
                centred = [v - c for v, c in zip(row_t, centre.tolist(), strict=True)]
                p_t = softmax(centred, teacher_temperature)
                p_s = softmax(row_s, student_temperature)
                total -= sum(a * math.log(b) for a, b in zip(p_t, p_s, strict=True))
                terms += 1
    return total / terms


def random_scores(num_views, b, k, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(num_views, b, k, generator=draw, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("num_views", [2, 3, 6])
@pytest.mark.parametrize(("b", "k"), [(1, 2), (4, 7)])
@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
def test_the_loss_equals_the_equation(num_views, b, k, temperature):
    student = random_scores(num_views, b, k, seed=k)
    teacher = random_scores(2, b, k, seed=k + 1)
    targets = Targets(k, balance="centring", momentum=0.9).double()
    targets.centre.copy_(torch.linspace(-0.3, 0.3, k))
    expected = naive_dino(student, teacher, targets.centre.clone(), 0.1, temperature)
    taught = targets(teacher.flatten(0, 1), temperature).unflatten(0, (2, b))
    found = across_views(student, taught, 0.1)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_uniform_targets_and_outputs_lose_log_k():
    scores = torch.zeros(4, 3, 16)
    targets = torch.full((2, 3, 16), 1 / 16)
    assert float(across_views(scores, targets, 0.1)) == pytest.approx(math.log(16))


def test_a_student_that_agrees_with_sharp_targets_loses_nothing():
    sharp = torch.eye(5)
    student, taught = (100 * sharp).expand(3, 5, 5), sharp.expand(2, 5, 5)
    assert float(across_views(student, taught, 0.1)) == pytest.approx(0, abs=1e-6)


def test_a_view_is_not_compared_with_its_own_target():
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 4, generator=draw, requires_grad=True)
    target = torch.softmax(torch.randn(3, 4, generator=draw), dim=1)
    across_views(scores, torch.stack([target, torch.zeros(3, 4)]), 0.1).backward()
    assert torch.equal(scores.grad[0], torch.zeros(3, 4))
    assert scores.grad[1].abs().sum() > 0


def test_the_centre_is_subtracted_and_follows_the_mean_after_it_was_used():
    targets = Targets(3, balance="centring", momentum=0.9)
    scores = torch.tensor([[0.5, 0.1, 0.0], [0.7, 0.1, -0.2]])
    first = targets(scores, 0.1)
    assert torch.allclose(first, (scores / 0.1).softmax(dim=1))
    assert torch.allclose(targets.centre, 0.1 * scores.mean(dim=0))
    second = targets(scores, 0.1)
    assert torch.allclose(second, ((scores - 0.1 * scores.mean(dim=0)) / 0.1).softmax(dim=1))


def test_evaluation_leaves_the_centre_alone():
    targets = Targets(3, balance="centring", momentum=0.9).eval()
    targets(torch.ones(2, 3), 0.1)
    assert torch.equal(targets.centre, torch.zeros(3))


@pytest.mark.parametrize(("balance", "num_iterations"), [("sinkhorn", 3), ("batch-softmax", 1)])
def test_other_balances_are_sinkhorn_at_the_teachers_temperature(balance, num_iterations):
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found = Targets(4, balance=balance, momentum=0.9)(scores, 0.3)
    expected = sinkhorn(scores, epsilon=0.3, num_iterations=num_iterations)
    assert torch.equal(found, expected)


def test_the_heads_outputs_are_cosines_whatever_the_scale_of_its_weights():
    torch.manual_seed(0)
    head = DinoHead(6, 20, hidden=16, bottleneck=8, depth=3)
    features = torch.randn(5, 6)
    scores = head(features)
    assert scores.shape == (5, 20)
    assert float(scores.detach().abs().max()) <= 1 + 1e-6
    head.prototypes.weight.data *= 7
    head.mlp[-1].weight.data *= 7
    assert torch.allclose(head(features), scores, atol=1e-5)


def test_the_head_has_so_many_linear_layers_with_gelu_between_them():
    for depth in (1, 2, 3):
        head = DinoHead(6, 20, hidden=16, bottleneck=8, depth=depth)
        assert sum(isinstance(m, nn.Linear) for m in head.mlp) == depth
        assert isinstance(head.mlp[-1], nn.Linear)
        assert sum(isinstance(m, nn.GELU) for m in head.mlp) == depth - 1


def test_hidden_layers_and_outputs_are_the_papers_at_its_sizes():
    for width, hidden in ((384, 2048), (768, 2048), (2048, 2048), (128, 768)):
        assert DinoHead(width, 8, hidden=None, bottleneck=8, depth=2).mlp[0].out_features == hidden
    for pool, outputs in ((1_281_167, 65536), (10_000_000, 65536), (60_000, 4096), (500, 256)):
        assert default_num_outputs(pool) == outputs


def test_the_temperature_rises_in_a_line_and_stays():
    at = [warmed_up(p, 0.04, 0.07, 0.1) for p in (0, 0.05, 0.1, 0.5, 1)]
    assert at == pytest.approx([0.04, 0.055, 0.07, 0.07, 0.07])
    assert warmed_up(0, 0.04, 0.07, 0) == 0.07


def moved(method, progress):
    """By how much of the way the teacher goes to the student after an update that ends here."""
    parameter = next(method.encoder.parameters())
    follower = next(method.teacher.parameters())
    before = follower.clone()
    parameter.data.add_(1.0)
    method.after_update(progress)
    way = (follower - before) / (parameter - before)
    return float(way.detach().mean())


def test_the_teacher_follows_by_the_schedule_from_start_to_a_stop():
    assert moved(build("dino", momentum=0.9), 0.0) == pytest.approx(0.1, rel=1e-3)
    assert moved(build("dino", momentum=0.9), 0.5) == pytest.approx(0.05, rel=1e-3)
    assert moved(build("dino", momentum=0.9), 1.0) == pytest.approx(0.0, abs=1e-6)
    assert moved(build("dino", ema=False), 0.5) == pytest.approx(1.0)


def test_the_last_layer_rests_at_first():
    for progress, rests in ((0.0, True), (0.009, True), (0.01, False)):
        method = build("dino")
        method(batch_of("dino", 8))["loss"].backward()
        method.before_update(progress)
        assert (method.projector.prototypes.weight.grad is None) == rests
        assert method.projector.mlp[0].weight.grad is not None


def test_the_teacher_sees_the_two_global_views_only():
    method = build("dino", ema=False).eval()
    seen = []
    method.teacher.register_forward_hook(lambda module, images, out: seen.append(images[0].shape))
    batch = batch_of("dino", 8)
    method(batch)
    assert seen == [torch.cat(batch.views[:2]).shape]
    with pytest.raises(ValueError, match=r"DINO needs views.num_views=2, not 1"):
        method(dataclasses.replace(batch, views=batch.views[:1]))


def test_the_teacher_has_no_stochastic_depth():
    method = build("dino", encoder=EncoderConfig(name="vit", width=8, patch_size=4, drop_path=0.5))

    def deepest(encoder):
        return max(m.drop_prob for m in encoder.modules() if isinstance(m, DropPath))

    assert deepest(method.encoder) == 0.5
    assert deepest(method.teacher) == 0.0
    assert isinstance(still_teacher_of(nn.Linear(2, 2)), nn.Linear)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_outputs": 0},
        {"hidden": 0},
        {"student_temperature": 0.0},
        {"teacher_temperature": -1.0},
        {"momentum": 1.5},
        {"warmup": -0.1},
    ],
)
def test_impossible_fields_get_a_sentence(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"method.{name} must .*, not"):
        DINOConfig(**changes)
