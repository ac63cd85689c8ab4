"""DeepCluster-v2 predicts clusters of the previous epoch's projections, as the equation says."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from method_steps import NUM_EXAMPLES, batch_of, build

from raysl.methods import Batch
from raysl.methods.deepclusterv2 import prediction_loss
from raysl.methods.parts.kmeans import IGNORED, nearest


def naive_loss(z, centroids, labels, temperature):
    """Cross entropy of every view with every clustering's label, term by term in float64."""
    size = labels.shape[1]
    terms = []
    for h, classes in enumerate(labels.tolist()):
        for i, row in enumerate(z.double()):
            label = classes[i % size]
            if label == IGNORED:
                terms.append(0.0)
                continue
            scores = [float(row @ c) / temperature for c in centroids[h].double()]
            terms.append(math.log(sum(math.exp(s) for s in scores)) - scores[label])
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(("num_views", "size", "heads", "count"), [(2, 4, 1, 3), (5, 3, 3, 7)])
def test_the_loss_equals_the_equation(temperature, num_views, size, heads, count):
    draw = torch.Generator().manual_seed(size)
    z = F.normalize(torch.randn(num_views * size, 6, generator=draw, dtype=torch.float64), dim=1)
    centroids = torch.randn(heads, count, 6, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, count, (heads, size), generator=draw)
    labels[0, 1] = IGNORED
    loss = prediction_loss(z, centroids, labels, temperature)
    expected = naive_loss(z, centroids, labels, temperature)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_projections_at_their_centroids_cost_nothing_at_low_temperature():
    z = torch.eye(4).repeat(2, 1)
    loss = prediction_loss(z, torch.eye(4)[None], torch.arange(4)[None], 0.01)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_clusters_are_those_of_what_the_epoch_before_stored():
    method = build("deepclusterv2", num_clusterings=3)
    stored = {}
    handle = method.projector.register_forward_hook(lambda *io: stored.update(z=io[2].detach()))
    batch = batch_of("deepclusterv2", NUM_EXAMPLES)
    method(batch)
    handle.remove()
    views = F.normalize(stored["z"], dim=1).chunk(len(batch.views))[:2]
    method.before_forward(1)
    for h, (centroids, labels) in enumerate(
        zip(method.centroids, method.labels.classes, strict=True)
    ):
        rows = views[h % 2]  # the two banks in turn
        assert torch.equal(nearest(rows, centroids), labels)
        for k, centroid in enumerate(centroids):
            members = rows[labels == k]
            if len(members):
                mean = F.normalize(members.sum(dim=0), dim=0)
                assert float(mean @ centroid) > 0.9  # the same but for the last reassignment


def test_labels_change_with_the_epoch_only_and_not_in_evaluation():
    method = build("deepclusterv2")
    seen = []
    for epoch, training in ((0, True), (0, True), (1, False), (1, True), (1, True), (2, True)):
        method.train(training)
        method.before_forward(epoch)
        method(batch_of("deepclusterv2", NUM_EXAMPLES, seed=epoch))
        seen.append(method.labels.classes.clone())
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert changed == [False, False, True, False, True]


def test_evaluation_stores_nothing():
    method = build("deepclusterv2").eval()
    method(batch_of("deepclusterv2", 8))
    assert not method.bank.rows.any()


def test_images_that_no_pass_has_seen_have_no_part_in_the_loss():
    method = build("deepclusterv2")
    method(batch_of("deepclusterv2", 6))
    batch = batch_of("deepclusterv2", 8)
    late = Batch([view[6:] for view in batch.views], batch.index[6:], None, 0.0, batch.generator)
    method.before_forward(1)
    outputs = method(late)
    assert float(outputs["loss"].detach()) == 0.0
    assert set(method.labels.classes[:, 6:].flatten().tolist()) == {IGNORED}


def test_the_first_epochs_classes_are_of_equal_size():
    method = build("deepclusterv2")
    assert set(method.labels.sizes.flatten().tolist()) == {NUM_EXAMPLES / 4}


def test_other_numbers_of_full_views_get_a_sentence():
    batch = batch_of("deepclusterv2", 4)
    one = Batch(batch.views[:1], batch.index, None, 0.0, batch.generator)
    with pytest.raises(ValueError, match="num_views=2"):
        build("deepclusterv2")(one)
