"""DINOv2: iBOT's masked loss, KoLeo and the masks are those of the papers."""

import math

import numpy as np
import pytest
import torch
from method_steps import batch_of, build

from raysl.encoder import EncoderConfig
from raysl.methods.dinov2 import DINOv2Config
from raysl.methods.parts.dino_losses import across_views, koleo_loss, masked_loss
from raysl.methods.parts.dino_masks import Hidden, hidden_counts, ibot_masks, tokens_of


def naive_masked(scores, targets, hidden, temperature):
    """iBOT's equation 2 with the mean over an image's hidden patches, then over all images."""
    total, row = 0.0, 0
    for image in hidden.tolist():
        of_image = []
        for is_hidden in image:
            if is_hidden:
                exps = [math.exp(v / temperature) for v in scores[row].tolist()]
                p = [v / sum(exps) for v in exps]
                q = targets[row].tolist()
                of_image.append(-sum(a * math.log(b) for a, b in zip(q, p, strict=True)))
                row += 1
        if of_image:
            total += sum(of_image) / len(of_image)
    return total / len(hidden)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("k", [2, 5])
def test_the_masked_loss_equals_the_equation(temperature, k):
    draw = torch.Generator().manual_seed(k)
    hidden = torch.tensor([[True, False, True], [False] * 3, [True] * 3, [False, True, False]])
    scores = torch.rand(6, k, generator=draw, dtype=torch.float64)
    targets = torch.rand(6, k, generator=draw, dtype=torch.float64).softmax(dim=1)
    expected = naive_masked(scores, targets, hidden, temperature)
    weights = torch.tensor([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1]) / 4  # hidden patches, images
    found = masked_loss(scores, targets, weights, temperature)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_no_hidden_patch_at_all_loses_nothing_and_keeps_the_gradient_whole():
    scores = torch.zeros(0, 4, requires_grad=True)
    loss = masked_loss(scores, torch.zeros(0, 4), torch.zeros(0), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert scores.grad.shape == (0, 4)


def naive_koleo(z):
    z = [row / row.norm() for row in z.double()]
    nearest = [min(float((a - b).norm()) for b in z if b is not a) for a in z]
    return -sum(map(math.log, nearest)) / len(nearest)


@pytest.mark.parametrize(("b", "d"), [(2, 3), (9, 4)])
def test_koleo_equals_the_equation(b, d):
    z = torch.randn(b, d, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
    assert float(koleo_loss(z[None])) == pytest.approx(naive_koleo(z), abs=1e-6)
    views = torch.stack([z, z.flip(1) + 1])
    expected = naive_koleo(views[0]) + naive_koleo(views[1])
    assert float(koleo_loss(views)) == pytest.approx(expected, abs=1e-6)


def test_koleo_of_orthogonal_and_of_opposite_rows_has_its_known_value():
    orthogonal, opposite = torch.eye(4) * 3, torch.tensor([[1.0], [-2.0]])
    for z, distance in ((orthogonal, math.sqrt(2)), (opposite, 2)):
        assert float(koleo_loss(z[None])) == pytest.approx(-math.log(distance), abs=1e-6)


def test_koleo_pushes_the_nearest_apart_and_is_finite_for_equal_rows():
    z = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]], requires_grad=True)
    koleo_loss(z[None]).backward()
    assert z.grad[0, 1] < 0 < z.grad[1, 1]
    same = torch.ones(3, 4, requires_grad=True)
    loss = koleo_loss(same[None])
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(same.grad).all()


def as_map(hidden, num_images, num_patches):
    """bool [2B, N], true where a patch is hidden."""
    none = torch.zeros(num_images, num_patches, dtype=torch.bool)
    return none.index_put((hidden.image, hidden.patch), torch.tensor(True))


def masks(probability=0.5, ratio=(0.1, 0.5)):
    draw = torch.Generator().manual_seed(0)
    hidden = ibot_masks(draw, 400, side=8, num_prefix=1, probability=probability, ratio=ratio)
    return as_map(hidden, 800, 64)


def test_half_of_the_global_views_are_masked_by_a_tenth_to_a_half():
    hidden = masks()
    counts = hidden.sum(dim=1)
    masked = counts[counts > 0]
    assert hidden.shape == (800, 64)
    assert len(masked) == 400
    assert int(masked.min()) == 6
    assert int(masked.max()) == 31
    assert float(masked.float().mean()) == pytest.approx(0.3 * 64, abs=0.51)  # rounded down


def test_probability_and_ratio_of_the_masks_are_the_fields():
    assert (masks(probability=1.0, ratio=(0.25, 0.25)).sum(dim=1) == 16).all()


def test_masks_are_blocks_and_not_scattered_patches():
    """Hidden patches have more hidden neighbours than at random, where a share has (0.3 here)."""
    hidden = masks(probability=1.0, ratio=(0.3, 0.3)).view(-1, 8, 8)
    beside = hidden[:, :, 1:][hidden[:, :, :-1]].float().mean()
    assert float(beside) > 0.55


@pytest.mark.parametrize("num_prefix", [1, 5])
def test_a_hidden_patch_knows_its_token_and_its_share_of_the_loss(num_prefix):
    hidden = ibot_masks(
        torch.Generator().manual_seed(0),
        10,
        side=4,
        num_prefix=num_prefix,
        probability=0.7,
        ratio=(0.1, 0.5),
    )
    counts = as_map(hidden, 20, 16).sum(dim=1)
    assert counts.sum() == len(hidden.patch) == len(hidden.weight)  # none twice
    tokens = torch.arange(20 * (num_prefix + 16)).view(20, -1)[:, num_prefix:]
    assert torch.equal(hidden.token, tokens[hidden.image, hidden.patch])
    assert torch.allclose(hidden.weight, 1 / (20 * counts[hidden.image]))


def test_masks_change_with_the_step():
    first, other = (
        ibot_masks(
            torch.Generator().manual_seed(seed),
            50,
            side=4,
            num_prefix=1,
            probability=0.5,
            ratio=(0.1, 0.5),
        )
        for seed in (0, 1)
    )
    first, other = as_map(first, 100, 16), as_map(other, 100, 16)
    assert torch.equal(first.sum(dim=1), other.sum(dim=1))  # as many at each place in the batch
    assert not torch.equal(first, other)


def test_masked_views_are_mixed_over_the_batch_and_over_both_views():
    counts = hidden_counts(2000, 64, 0.5, (0.1, 0.5)).reshape(1000, 2)
    assert (counts > 0).mean(axis=0) == pytest.approx(0.5, abs=0.05)
    together = ((counts > 0).sum(axis=1) == 2).mean()
    assert together == pytest.approx(0.25, abs=0.05)  # an image's views, like by two coins
    assert abs(np.corrcoef(np.arange(2000), counts.flatten())[0, 1]) < 0.1


@torch.no_grad()
def test_ibot_is_the_masked_loss_of_what_student_and_teacher_say_of_hidden_patches():
    method = build("dinov2").double()
    method.mask_token.normal_()
    batch = batch_of("dinov2", 5)
    batch.views[:] = [view.double() for view in batch.views]
    vit = method.encoder.body
    hidden = ibot_masks(
        batch_of("dinov2", 5).generator,
        5,
        side=method.side,
        num_prefix=1,
        probability=method.config.mask_probability,
        ratio=method.config.mask_ratio,
    )
    where = as_map(hidden, 10, method.side**2)
    whole = torch.cat(batch.views[:2])
    taught = tokens_of(method.teacher, whole)[:, 1:][where]
    targets = method.patch_targets(method.teacher_heads[-1](taught), 0.04)
    patches = vit.patch_embed(whole).flatten(1, 2)
    patches[where] = method.mask_token
    x = torch.cat([vit.cls_token.expand(10, -1, -1), patches], dim=1) + vit.pos_embed
    scores = method.heads[-1](vit.norm(vit.blocks(x))[:, 1:][where])
    expected = naive_masked(scores, targets, where, method.config.student_temperature)
    assert expected > 0
    assert float(method(batch)["ibot"]) == pytest.approx(expected, abs=1e-6)


def test_the_student_cannot_see_hidden_patches_and_the_teacher_can():
    method = build("dinov2").eval()
    images = batch_of("dinov2", 2).views[0]
    size = int(method.encoder.body.patch_embed.patch_size[0])
    first, both = torch.zeros(2, dtype=torch.int64), torch.arange(2)
    hidden = Hidden(image=both, patch=first, token=first, weight=first)
    changed = images.clone()
    changed[:, :, :size, :size] += 1.0  # the pixels of patch 0
    masked = [tokens_of(method.encoder, x, hidden, method.mask_token) for x in (images, changed)]
    whole = [tokens_of(method.teacher, x) for x in (images, changed)]
    assert torch.equal(*masked)
    assert not torch.allclose(*whole)


def test_unmasked_tokens_are_the_encoders_features():
    method = build("dinov2").eval()
    images = batch_of("dinov2", 2).views[0]
    tokens = tokens_of(method.encoder, images)
    assert torch.allclose(tokens[:, 0], method.encoder(images), atol=1e-6)


@pytest.mark.parametrize("separate_head", [True, False])
def test_the_loss_is_the_sum_of_its_weighted_terms(separate_head):
    method = build("dinov2", ibot_weight=0.5, koleo_weight=0.2, separate_head=separate_head)
    out = method(batch_of("dinov2", 8))
    expected = out["dino"] + 0.5 * out["ibot"] + 0.2 * out["koleo"]
    assert torch.allclose(out["loss"], expected)
    assert len(method.heads) == 1 + separate_head


def test_the_class_tokens_loss_is_dinos_on_the_masked_student():
    method = build("dinov2", mask_probability=1e-9).double().eval()
    batch = batch_of("dinov2", 6)
    batch.views[:] = [view.double() for view in batch.views]
    with torch.no_grad():
        scores = torch.stack([method.heads[0](method.encoder(view)) for view in batch.views])
        taught = torch.cat([method.teacher_heads[0](method.teacher(v)) for v in batch.views[:2]])
        targets = method.class_targets(taught, 0.04).unflatten(0, (2, -1))
        expected = across_views(scores, targets, 0.1)
        found = method(batch)
    assert torch.allclose(found["dino"], expected, atol=1e-9)
    assert float(found["ibot"]) == 0.0


def test_a_pool_of_patches_gets_a_sentence():
    with pytest.raises(ValueError, match=r"DINOv2 needs encoder.pool=token, not avg"):
        build("dinov2", encoder=EncoderConfig(name="vit", width=8, patch_size=4, pool="avg"))


@pytest.mark.parametrize(
    "changes", [{"mask_probability": 0.0}, {"mask_ratio": (0.5, 0.1)}, {"koleo_weight": -1.0}]
)
def test_impossible_fields_get_a_sentence(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"method.{name} must .*, not"):
        DINOv2Config(**changes)
