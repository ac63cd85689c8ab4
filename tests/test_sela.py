"""SeLa's labels solve the transport problem and share the classes equally."""

import math

import pytest
import torch
from method_steps import NUM_EXAMPLES, batch_of, build
from scipy.optimize import linear_sum_assignment

from raysl.methods.parts.kmeans import IGNORED
from raysl.methods.sela import labelling_loss, transport


def naive_loss(logits, labels):
    num_heads, size = labels.shape
    count = logits.shape[1] // num_heads
    terms = []
    for h in range(num_heads):
        for i in range(size):
            row = logits[i, h * count : (h + 1) * count].tolist()
            label = int(labels[h, i])
            if label == IGNORED:
                terms.append(0.0)
            else:
                terms.append(math.log(sum(math.exp(x) for x in row)) - row[label])
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("size", "num_heads", "count"), [(4, 1, 3), (5, 3, 6)])
def test_the_loss_equals_the_equation(size, num_heads, count):
    draw = torch.Generator().manual_seed(size)
    logits = torch.randn(size, num_heads * count, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, count, (num_heads, size), generator=draw)
    labels[0, 0] = IGNORED
    expected = naive_loss(logits, labels)
    assert float(labelling_loss(logits, labels)) == pytest.approx(expected, abs=1e-6)


def naive_transport(logits, sharpness, num_iterations):
    """Scaling vectors in float64, as the paper's equation 6."""
    p = logits.double().softmax(dim=1) ** sharpness
    beta = torch.ones(len(p), dtype=torch.float64)
    for _ in range(num_iterations):
        alpha = 1 / (beta @ p)
        beta = 1 / (p @ alpha)
    return (beta[:, None] * p * alpha).argmax(dim=1)


@pytest.mark.parametrize(("sharpness", "num_iterations"), [(2.0, 5), (25.0, 50)])
def test_labels_are_those_of_the_papers_iteration(sharpness, num_iterations):
    logits = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    found = transport(logits, sharpness=sharpness, num_iterations=num_iterations)
    assert torch.equal(found, naive_transport(logits, sharpness, num_iterations))


def test_sharp_labels_are_the_best_assignment_of_equal_classes():
    logits = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    log_p = logits.log_softmax(dim=1)
    cost = -log_p.repeat_interleave(10, dim=1)  # ten places in each class
    _, places = linear_sum_assignment(cost.numpy())
    best = torch.from_numpy(places) // 10
    found = transport(logits, sharpness=50.0, num_iterations=2000)
    assert float((found == best).float().mean()) >= 0.95
    assert float(log_p.gather(1, found[:, None]).mean()) == pytest.approx(
        float(log_p.gather(1, best[:, None]).mean()), abs=0.02
    )


@pytest.mark.parametrize(("num_iterations", "most"), [(50, 100), (1000, 63)])
def test_classes_stay_near_equal_where_every_image_prefers_one(num_iterations, most):
    logits = torch.randn(600, 10, generator=torch.Generator().manual_seed(2))
    logits[:, 0] += 8.0
    found = transport(logits, sharpness=25.0, num_iterations=num_iterations)
    sizes = found.bincount(minlength=10)
    assert logits.argmax(dim=1).bincount(minlength=10)[0] > 590
    assert sizes.min() > 50
    assert sizes.max() < most


def test_each_head_labels_what_the_epoch_before_stored():
    method = build("sela")
    method(batch_of("sela", 10))
    method.before_forward(1)
    assert method.labels.epoch == 1
    assert set(method.labels.classes[:, 10:].flatten().tolist()) == {IGNORED}
    assert (method.labels.sizes.sum(dim=1) == 10).all()
    assert method.labels.sizes.max() <= 4  # 10 images, 4 classes


def test_the_first_epochs_classes_are_of_equal_size_and_differ_between_heads():
    labels = build("sela").labels
    assert set(labels.sizes.flatten().tolist()) == {NUM_EXAMPLES / 4}
    assert not torch.equal(labels.classes[0], labels.classes[1])


def test_evaluation_stores_nothing():
    method = build("sela").eval()
    method(batch_of("sela", 8))
    assert not method.bank.rows.any()
