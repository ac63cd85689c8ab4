"""DeepCluster weighs clusters alike, whitens as PCA does, and restarts its classifier."""

import math

import pytest
import torch
from method_steps import NUM_EXAMPLES, batch_of, build, encoder_for
from sklearn.decomposition import PCA

from raysl.methods.deepcluster import weighted_loss, whiten
from raysl.methods.parts.kmeans import IGNORED
from raysl.methods.parts.labels import PseudoLabels
from raysl.methods.parts.sobel import filter_with_sobel


def naive_loss(logits, targets, weights):
    total = 0.0
    for row, target, weight in zip(
        logits.tolist(), targets.tolist(), weights.tolist(), strict=True
    ):
        if target != IGNORED:
            total += weight * (math.log(sum(math.exp(x) for x in row)) - row[target])
    return total / len(targets)


@pytest.mark.parametrize(("size", "count"), [(2, 3), (9, 5)])
def test_the_loss_equals_the_equation(size, count):
    draw = torch.Generator().manual_seed(size)
    logits = torch.randn(size, count, generator=draw, dtype=torch.float64)
    targets = torch.randint(0, count, (size,), generator=draw)
    targets[0] = IGNORED
    weights = torch.rand(size, generator=draw, dtype=torch.float64)
    expected = naive_loss(logits, targets, weights)
    assert float(weighted_loss(logits, targets, weights)) == pytest.approx(expected, abs=1e-6)


def test_weights_give_every_cluster_the_same_share_and_have_mean_one():
    labels = PseudoLabels(1, 12, 5)
    classes = torch.tensor([0] * 7 + [1] * 2 + [3] + [IGNORED] * 2)
    labels.replace(classes[None], 1)
    seen = classes[:10]
    weights = labels.balancing(seen)
    shares = [float(weights[seen == k].sum()) for k in (0, 1, 3)]
    assert shares == pytest.approx([10 / 3] * 3)
    assert float(weights.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("num_components", [3, 10])
def test_whitening_is_that_of_scikit_learn(num_components):
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 10, generator=draw, dtype=torch.float64)
    rows = rows @ torch.randn(10, 10, generator=draw, dtype=torch.float64) + 3
    expected = PCA(num_components, whiten=True).fit_transform(rows.numpy())
    expected = torch.nn.functional.normalize(torch.from_numpy(expected), dim=1)
    found = whiten(torch.cat([rows, torch.zeros(4, 10).double()]), num_components)
    assert torch.allclose(found[:60] @ found[:60].T, expected @ expected.T, atol=1e-9)
    assert not found[60:].any()


def test_whitening_drops_directions_without_variance():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 30, generator=draw)  # 4 directions at most
    found = whiten(rows, 30)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.norm(dim=1), torch.ones(5), atol=1e-5)
    assert int(torch.linalg.matrix_rank(found, rtol=1e-3)) == 4


def test_every_assignment_draws_the_classifier_anew():
    method = build("deepcluster")
    before = method.classifier.weight.detach().clone()
    method(batch_of("deepcluster", NUM_EXAMPLES))
    assert torch.equal(method.classifier.weight, before)
    method.before_forward(1)
    after = method.classifier.weight.detach()
    assert not torch.equal(after, before)
    assert float(after.std()) == pytest.approx(0.01, rel=0.2)
    assert not method.classifier.bias.any()


def test_clusters_are_reassigned_after_the_first_epoch_and_then_every_so_many():
    method = build("deepcluster", reassign_every=2)
    seen = []
    for epoch in range(5):
        method.before_forward(epoch)
        method(batch_of("deepcluster", NUM_EXAMPLES, seed=epoch))
        seen.append(method.labels.epoch)
    assert seen == [0, 1, 1, 3, 3]


def test_an_assignment_lasts_for_200_updates_by_default():
    method = build("deepcluster", reassign_every=None)
    assert method.reassign_every == 100  # 16 images in batches of 8


def test_rotated_copies_have_classes_of_their_own_and_upright_ones_are_clustered():
    plain, rotating = build("deepcluster").eval(), build("deepcluster", rotations=True).eval()
    assert rotating.classifier.out_features == 4 * plain.classifier.out_features
    rotating.encoder.load_state_dict(plain.encoder.state_dict())
    batch = batch_of("deepcluster", 8)
    labels = rotating.labels.classes[0, batch.index]
    with torch.no_grad():
        losses = []
        for turns in range(4):
            turned = batch.views[0].rot90(turns, (2, 3))
            logits = rotating.classifier(rotating.encoder(turned))
            losses.append(torch.nn.functional.cross_entropy(logits, labels + 4 * turns))
        assert float(rotating(batch)["loss"]) == pytest.approx(float(sum(losses)) / 4, abs=1e-5)
        for labels in (plain.labels, rotating.labels):
            labels.train()
        plain.training = rotating.training = True  # store, but leave batch norm in evaluation
        plain(batch), rotating(batch)
    assert torch.allclose(plain.bank.rows, rotating.bank.rows, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_sobel_hides_brightness_and_colour_from_the_encoder(channels):
    encoder = encoder_for("deepcluster", channels=channels).eval()
    images = torch.rand(2, channels, 16, 16)
    images[:, :, :3], images[:, :, -3:], images[:, :, :, :3], images[:, :, :, -3:] = 0, 0, 0, 0
    tint = torch.zeros(channels, 16, 16)
    if channels == 3:
        tint[0], tint[1] = 0.2, -0.2
    edge = images.clone()
    edge[:, :, 8:] = 1.0
    before = encoder(images + tint)
    filter_with_sobel(encoder)
    with torch.no_grad():
        assert not torch.allclose(encoder(images), before, atol=1e-4)
        assert torch.allclose(encoder(images + tint), encoder(images), atol=1e-5)
        assert not torch.allclose(encoder(edge), encoder(images), atol=1e-3)


def test_a_plain_encoder_refuses_the_weights_of_one_with_sobel():
    filtered = build("deepcluster", sobel=True).encoder.state_dict()
    with pytest.raises(RuntimeError, match="sobel"):
        build("deepcluster").encoder.load_state_dict(filtered)


def test_epochs_and_labels_survive_a_state_dict():
    first, second = build("deepcluster"), build("deepcluster")
    for epoch in range(3):
        first.before_forward(epoch)
        first(batch_of("deepcluster", NUM_EXAMPLES))
    second.load_state_dict(first.state_dict())
    assert second.labels.epoch == 2
    assert torch.equal(second.labels.classes, first.labels.classes)
