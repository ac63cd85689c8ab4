"""Sinkhorn-Knopp: rows exact, columns in the limit, safe at small epsilon, equal for k workers."""

import pytest
import torch
from gloo import work_together

from raysl.methods.parts.sinkhorn import sinkhorn
from raysl.methods.parts.workers import worker_rank


def naive_sinkhorn(scores, epsilon, num_iterations):
    """The papers' loop in float64: the matrix to 1, then columns to 1 / K and rows to 1 / B."""
    q = (scores.double() / epsilon).exp()
    b, k = q.shape
    q = q / q.sum()
    for _ in range(num_iterations):
        for j in range(k):
            q[:, j] = q[:, j] / q[:, j].sum() / k
        for i in range(b):
            q[i] = q[i] / q[i].sum() / b
    return q * b


def cosines(b, k, seed=0):
    draw = torch.Generator().manual_seed(seed)
    normalise = torch.nn.functional.normalize
    z, c = torch.randn(b, 8, generator=draw), torch.randn(k, 8, generator=draw)
    return normalise(z, dim=1) @ normalise(c, dim=1).T


@pytest.mark.parametrize(("b", "k"), [(7, 5), (4, 9), (2, 2), (1, 3)])
@pytest.mark.parametrize("epsilon", [0.03, 0.05, 1.0])
@pytest.mark.parametrize("num_iterations", [1, 3])
def test_sinkhorn_equals_the_papers_loop(b, k, epsilon, num_iterations):
    scores = cosines(b, k)
    found = sinkhorn(scores, epsilon=epsilon, num_iterations=num_iterations)
    expected = naive_sinkhorn(scores, epsilon, num_iterations)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_rows_sum_to_one_after_any_number_of_iterations():
    for num_iterations in (1, 2, 3, 50):
        rows = sinkhorn(cosines(32, 10), epsilon=0.05, num_iterations=num_iterations).sum(dim=1)
        assert torch.allclose(rows, torch.ones(32), atol=1e-6)


def test_columns_approach_equal_shares_with_more_iterations():
    scores = cosines(40, 10)
    errors = [
        float((sinkhorn(scores, epsilon=0.05, num_iterations=n).sum(dim=0) - 4).abs().max())
        for n in (1, 3, 10, 100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-3


def test_one_iteration_is_the_softmax_over_the_batch_made_to_rows_of_one():
    scores = cosines(6, 4)
    q = (scores / 0.1).softmax(dim=0)
    q = q / q.sum(dim=1, keepdim=True)
    assert torch.allclose(sinkhorn(scores, epsilon=0.1, num_iterations=1), q, atol=1e-6)


def test_equal_scores_give_uniform_rows_and_a_constant_in_a_column_changes_nothing():
    assert torch.allclose(
        sinkhorn(torch.ones(5, 4), epsilon=0.05, num_iterations=3), torch.full((5, 4), 0.25)
    )
    scores = cosines(6, 4)
    shifted = scores + torch.tensor([0.3, -0.2, 0.0, 0.1])
    pair = [sinkhorn(s, epsilon=0.1, num_iterations=3) for s in (scores, shifted)]
    assert torch.allclose(*pair, atol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-6])
def test_no_row_vanishes_and_nothing_overflows_however_small_epsilon_is(epsilon):
    scores = cosines(16, 6)
    scores[0] -= 1.0  # exp of it is 0 in float32 beside the highest score
    scores[1] += 100.0
    found = sinkhorn(scores, epsilon=epsilon, num_iterations=3)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.sum(dim=1), torch.ones(16), atol=1e-5)


def test_images_of_two_clear_groups_get_their_own_prototype():
    scores = torch.tensor([[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3)
    found = sinkhorn(scores, epsilon=0.05, num_iterations=3)
    assert torch.equal(found.argmax(dim=1), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert float(found.max(dim=1).values.min()) > 0.999


def test_a_prototype_that_all_images_prefer_does_not_get_them_all():
    scores = cosines(64, 4) * 0.1 + torch.tensor([1.0, 0.0, 0.0, 0.0])
    found = sinkhorn(scores, epsilon=0.05, num_iterations=3)
    assert float((found.argmax(dim=1) == 0).float().mean()) < 0.5


SPLITS = {  # of 12 images over two workers
    "unequal": (slice(0, 5), slice(5, 12)),
    "one has none": (slice(0, 12), slice(12, 12)),
}


def codes_of_parts():
    """This worker's, by split and epsilon."""
    rank = worker_rank()
    return {
        (name, epsilon): sinkhorn(cosines(12, 4)[parts[rank]], epsilon=epsilon, num_iterations=3)
        for name, parts in SPLITS.items()
        for epsilon in (0.05, 0.001)
    }


@pytest.mark.slow
def test_two_workers_with_any_parts_of_the_batch_give_what_one_gives(tmp_path):
    first, second = work_together(codes_of_parts, 2, tmp_path)
    for name in SPLITS:
        for epsilon in (0.05, 0.001):
            alone = sinkhorn(cosines(12, 4), epsilon=epsilon, num_iterations=3)
            joined = torch.cat([first[name, epsilon], second[name, epsilon]])
            assert torch.allclose(joined, alone, atol=1e-5), name
