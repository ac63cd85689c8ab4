"""The bank keeps a row for each image, the queue the last rows in their order."""

import pytest
import torch
import torch.nn.functional as F

from raysl.methods.parts.bank import FeatureBank, FeatureQueue


def rows(count, width=3, seed=1):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kept", [FeatureBank, FeatureQueue])
def test_rows_are_random_and_normalised_at_first(kept):
    torch.manual_seed(0)
    store = kept(50, 8)
    assert torch.allclose(store.rows.norm(dim=1), torch.ones(50))
    assert store.rows.std() > 0.1
    assert not list(store.parameters())


def test_storing_overwrites_these_rows_only():
    bank = FeatureBank(6, 3)
    before = bank.rows.clone()
    bank.store(torch.tensor([4, 1]), rows(2))
    assert torch.equal(bank.rows[[4, 1]], rows(2))
    assert torch.equal(bank.rows[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_mixing_is_a_normalised_moving_average(momentum):
    bank = FeatureBank(6, 3)
    before = bank.rows.clone()
    features = F.normalize(rows(2), dim=1)
    bank.mix(torch.tensor([4, 1]), features, momentum)
    for place, row in ((4, 0), (1, 1)):
        expected = momentum * before[place] + (1 - momentum) * features[row]
        assert torch.allclose(bank.rows[place], expected / expected.norm())
    assert torch.equal(bank.rows[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


@pytest.mark.parametrize("batches", [(2, 2, 2), (3, 4), (5, 1, 4, 2), (1, 9)])
def test_the_queue_holds_the_last_rows_whatever_the_batches(batches):
    """Rows with a serial number; the queue of 5 holds the last of them, none twice."""
    queue = FeatureQueue(5, 1)
    untouched = queue.rows.clone()
    pushed = torch.arange(100, 100 + sum(batches), dtype=torch.float32)[:, None]
    for batch in pushed.split(batches):
        queue.push(batch)
    last = pushed[-5:]
    assert set(last.flatten().tolist()) <= set(queue.rows.flatten().tolist())
    assert int(queue.num_stored) == sum(min(5, size) for size in batches)
    missing = 5 - min(5, len(pushed))
    assert len(set(untouched.flatten().tolist()) & set(queue.rows.flatten().tolist())) == missing


def test_the_queue_replaces_its_oldest_row_first():
    queue = FeatureQueue(3, 1)
    queue.push(torch.tensor([[1.0], [2.0], [3.0]]))
    queue.push(torch.tensor([[4.0]]))
    assert queue.rows.flatten().tolist() == [4.0, 2.0, 3.0]
    queue.push(torch.tensor([[5.0], [6.0], [7.0]]))
    assert sorted(queue.rows.flatten().tolist()) == [5.0, 6.0, 7.0]


def test_what_is_kept_has_no_gradient_and_the_type_of_the_rows():
    features = rows(2).double().requires_grad_()
    bank, queue = FeatureBank(4, 3), FeatureQueue(4, 3)
    bank.mix(torch.tensor([0, 1]), features, 0.5)
    bank.store(torch.tensor([2, 3]), features)
    queue.push(features)
    assert not any(kept.rows.requires_grad for kept in (bank, queue))
    assert bank.rows.dtype == queue.rows.dtype == torch.float32


def test_a_state_dict_continues_exactly():
    first, second = FeatureQueue(4, 3), FeatureQueue(4, 3)
    first.push(rows(3))
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.push(rows(2, seed=2))
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
