"""Spherical k-means is scikit-learn's on the sphere, alone and on two workers."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from gloo import work_together
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score

from raysl.methods.parts.kmeans import IGNORED, ROWS, kmeans, nearest
from raysl.methods.parts.labels import normalised_mutual_information, num_clusters


def unit_rows(number, width, *, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(number, width, generator=draw, dtype=torch.float64), dim=1)


def run(rows, number, *, seed=0, **options):
    return kmeans(rows, number, generator=torch.Generator().manual_seed(seed), **options)


def scikit_learn_on_the_sphere(rows, initial, num_iterations):
    """An iteration of KMeans at a time, its means normalised after each."""
    centroids = initial
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(num_iterations):
            step = KMeans(len(initial), init=centroids, n_init=1, max_iter=1).fit(rows)
            centroids = step.cluster_centers_
            centroids = centroids / (centroids**2).sum(axis=1, keepdims=True) ** 0.5
    return centroids, ((rows[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)


@pytest.mark.parametrize(("number", "width", "num_clusters"), [(300, 4, 7), (500, 16, 20)])
def test_centroids_and_labels_are_those_of_scikit_learn(number, width, num_clusters):
    rows = unit_rows(number, width)
    initial = rows[:num_clusters]
    centroids, labels = run(rows, num_clusters, initial=initial)
    expected, expected_labels = scikit_learn_on_the_sphere(rows.numpy(), initial.numpy(), 10)
    assert torch.allclose(centroids, torch.from_numpy(expected), atol=1e-9)
    assert (labels.numpy() == expected_labels).all()


def test_more_iterations_never_fit_worse():
    rows = unit_rows(400, 8)
    fits = []
    for num_iterations in range(8):
        centroids, labels = run(rows, 10, initial=rows[:10].clone(), num_iterations=num_iterations)
        fits.append(float((rows * centroids[labels]).sum()))
    assert fits == sorted(fits)
    assert fits[-1] > fits[0]


def test_the_first_centroids_are_different_rows_and_follow_the_generator():
    rows = unit_rows(50, 8)
    first, _ = run(rows, 20, num_iterations=0)
    chosen = (first @ rows.T).argmax(dim=1)
    assert torch.allclose(rows[chosen], first)
    assert len(chosen.unique()) == 20
    again, others = run(rows, 20, num_iterations=0)[0], run(rows, 20, num_iterations=0, seed=1)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, others)


def test_an_empty_cluster_takes_rows_from_another_one():
    rows = unit_rows(60, 6)
    initial = rows[[0, 0, 1]]  # the second centroid is never the first of the nearest
    assert set(nearest(rows, initial).tolist()) == {0, 2}
    centroids, labels = run(rows, 3, initial=initial, num_iterations=3)
    assert set(labels.tolist()) == {0, 1, 2}
    assert torch.allclose(centroids.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_more_clusters_than_rows_leave_each_row_its_own():
    rows = torch.eye(3, dtype=torch.float64)
    centroids, labels = run(rows, 5)
    assert len(labels.unique()) == 3
    assert torch.allclose((rows * centroids[labels]).sum(dim=1), torch.ones(3).double(), atol=1e-3)


def test_rows_of_zeros_belong_to_no_cluster_and_move_none():
    rows = unit_rows(80, 5)
    gaps = torch.cat([rows[:30], torch.zeros(9, 5).double(), rows[30:]])
    initial = rows[:6]
    centroids, labels = run(rows, 6, initial=initial)
    with_gaps, labels_with_gaps = run(gaps, 6, initial=initial)
    assert torch.allclose(centroids, with_gaps)
    assert set(labels_with_gaps[30:39].tolist()) == {IGNORED}
    assert torch.equal(labels, torch.cat([labels_with_gaps[:30], labels_with_gaps[39:]]))


def test_assignments_in_parts_are_those_at_once():
    rows, centroids = unit_rows(2 * ROWS + 1, 8), unit_rows(20, 8, seed=1)
    assert torch.equal(nearest(rows, centroids), (rows @ centroids.T).argmax(dim=1))


def clusters_of_301():
    return run(unit_rows(301, 8), 12)


@pytest.mark.slow
def test_two_workers_find_what_one_finds(tmp_path):
    first, second = work_together(clusters_of_301, 2, tmp_path)
    centroids, labels = clusters_of_301()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.allclose(centroids, first[0], atol=1e-12)
    assert torch.equal(labels, first[1])


def test_mutual_information_is_that_of_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 7, (2, 200), generator=draw)
    b[:120] = a[:120]
    expected = normalized_mutual_info_score(a, b, average_method="geometric")
    assert float(normalised_mutual_information(a, b)) == pytest.approx(expected, abs=1e-6)
    renamed = torch.randperm(7, generator=draw)[a]
    assert float(normalised_mutual_information(a, renamed)) == pytest.approx(1.0)
    unseen = torch.full((50,), IGNORED)
    more = normalised_mutual_information(torch.cat([a, unseen]), torch.cat([b, unseen]))
    assert float(more) == pytest.approx(expected, abs=1e-6)


def test_the_number_of_clusters_follows_the_number_of_images_within_bounds():
    found = [num_clusters(n, images_each=50, most=3000) for n in (20, 500, 5_000, 300_000)]
    assert found == [10, 10, 100, 3000]
