"""I-JEPA's loss is that of the paper, block by block."""

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.ijepa import IJEPAConfig, distance


def features(vit, image, kept):
    """Of one image and some of its patches, by timm's own parts: [patches, D]."""
    patches = vit.patch_embed(image[None])[0].flatten(0, 1)  # [N, D]
    tokens = torch.cat([vit.cls_token[0], patches]) + vit.pos_embed[0]
    tokens = tokens[[0, *(1 + number for number in kept)]]
    for block in vit.blocks:
        tokens = block(tokens[None])[0]
    return vit.fc_norm(vit.norm(tokens))[1:]


def naive_loss(method, images, context, targets, loss):
    """Image by image, block by block, patch by patch."""
    terms = []
    for image, kept, blocks in zip(images, context.tolist(), targets.tolist(), strict=True):
        whole = features(method.teacher.body, image, range(16))
        seen = features(method.encoder.body, image, kept)
        for block in blocks:
            predicted = method.predictor(seen[None], torch.tensor([kept]), torch.tensor([block]))[0]
            for number, p in zip(block, predicted, strict=True):
                t = whole[number]
                t = (t - t.mean()) / (t.var(correction=0) + 1e-5).sqrt()
                error = (p - t).abs()
                if loss == "mse":
                    terms.append(error.square().mean())
                else:
                    small = error < 1
                    terms.append(torch.where(small, error.square() / 2, error - 0.5).mean())
    return float(sum(terms) / len(terms))


@pytest.mark.parametrize("loss", ["mse", "smooth_l1"])
@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_the_loss_equals_the_equation(loss, seed):
    method = build("ijepa", loss=loss).double()
    for parameter in method.parameters():  # so that student and teacher differ
        parameter.add_(0.05 * torch.randn_like(parameter))
    batch = batch_of("ijepa", 3, seed=seed)
    images = batch.views[0] = batch.views[0].double()
    context, targets = method.blocks_of(batch)
    expected = naive_loss(method, images, context, targets, loss)
    assert float(method(batch)["loss"]) == pytest.approx(expected, abs=1e-6)


def test_smooth_l1_is_half_the_squared_error_of_small_errors():
    x = torch.rand(4, 5, dtype=torch.float64)
    y = torch.rand(4, 5, dtype=torch.float64)
    assert float(distance(x, y, "smooth_l1")) == pytest.approx(float(distance(x, y, "mse")) / 2)


@torch.no_grad()
def test_the_teachers_momentum_rises_linearly_to_one():
    method = build("ijepa", momentum=0.996)
    student, teacher = (e.body.cls_token for e in (method.encoder, method.teacher))
    student.copy_(torch.ones_like(student))
    teacher.zero_()
    method.after_update(0.5)  # 0.998
    assert torch.allclose(teacher, torch.full_like(teacher, 0.002), atol=1e-6)
    before = teacher.clone()
    method.after_update(1.0)
    assert torch.equal(teacher, before)
    assert method.evaluated is method.teacher


def test_blocks_change_with_the_step_and_not_with_the_number_of_calls():
    method = build("ijepa")
    batch = batch_of("ijepa", 8)
    first, again = (method.blocks_of(batch) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    batch.generator.manual_seed(1)
    other = method.blocks_of(batch)
    assert any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, other, strict=True)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_targets", 0),
        ("target_scale", (0.2, 0.1)),
        ("target_scale", (0.2, 1.1)),
        ("target_aspect", (0.0, 1.0)),
        ("context_scale", (0.0, 1.0)),
        ("momentum", 1.1),
        ("predictor_width", 33),
        ("predictor_depth", 0),
    ],
)
def test_wrong_parameters_get_a_sentence(field, value):
    with pytest.raises(ValueError, match=f"method.{field} must"):
        IJEPAConfig(**{field: value})
