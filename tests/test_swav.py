"""SwAV's loss is the equation of the paper, its queue only balances, high epsilons collapse it."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_steps import batch_of, build

from raysl.methods import Batch
from raysl.methods.collapse import collapse_signs
from raysl.methods.swav import queue_for, swapped_prediction


def naive_codes(scores, epsilon, num_iterations):
    """Equations 3 to 5: scaled to equal prototypes, then to equal images, in float64."""
    q = [[math.exp(s / epsilon) for s in row] for row in scores.tolist()]
    for _ in range(num_iterations):
        sums = [sum(column) for column in zip(*q, strict=True)]
        q = [[x / total for x, total in zip(row, sums, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return q


def naive_loss(scores, codes, temperature):
    """Equation 2 for every pair of a global view and another one, term by term."""
    terms = []
    for t, code in enumerate(codes):
        for v, view in enumerate(scores):
            if v == t:
                continue
            for q, row in zip(code, view.tolist(), strict=True):
                total = sum(math.exp(s / temperature) for s in row)
                terms.append(
                    -sum(
                        a * math.log(math.exp(s / temperature) / total)
                        for a, s in zip(q, row, strict=True)
                    )
                )
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(("num_views", "size", "count"), [(2, 4, 5), (5, 3, 8)])
def test_the_loss_equals_the_equation(temperature, num_views, size, count):
    draw = torch.Generator().manual_seed(size)
    scores = torch.rand(num_views, size, count, generator=draw, dtype=torch.float64) * 2 - 1
    codes = torch.rand(2, size, count, generator=draw, dtype=torch.float64).softmax(dim=2)
    loss = swapped_prediction(tuple(scores), list(codes), temperature)
    expected = naive_loss(scores, codes.tolist(), temperature)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_a_step_is_the_equation_of_its_projections_and_prototypes():
    method = build("swav", queue_size=0).eval()
    batch = batch_of("swav", 6)
    z = torch.cat([F.normalize(method.projector(method.encoder(v)), dim=1) for v in batch.views])
    scores = (z @ method.prototypes.T).double().chunk(len(batch.views))
    codes = [naive_codes(s, 0.03, 3) for s in scores[:2]]
    assert method(batch)["loss"].item() == pytest.approx(naive_loss(scores, codes, 0.1), abs=1e-5)


def test_uniform_predictions_cost_log_k_and_certain_right_ones_nothing():
    code = torch.eye(4)
    uniform = swapped_prediction((torch.zeros(4, 4),) * 2, [code, code], 0.1)
    certain = swapped_prediction((torch.eye(4) * 100,) * 2, [code, code], 0.1)
    assert float(uniform) == pytest.approx(math.log(4))
    assert float(certain) == pytest.approx(0.0, abs=1e-6)


def test_a_queue_balances_once_it_is_full_and_never_before():
    plain, queued = build("swav", queue_size=0), build("swav", queue_size=12)
    queued.load_state_dict(plain.state_dict(), strict=False)
    losses = []
    for step in range(3):
        batch = batch_of("swav", 6, seed=step)
        losses.append([method(batch)["loss"].item() for method in (plain, queued)])
    assert losses[0][0] == losses[0][1]
    assert losses[1][0] == losses[1][1]  # 6 of 12 rows
    assert losses[2][0] != losses[2][1]


def test_evaluation_stores_nothing_in_the_queue():
    method = build("swav", queue_size=12).eval()
    before = method.queue.rows.clone()
    method(batch_of("swav", 6))
    assert torch.equal(method.queue.rows, before)


def test_prototypes_are_of_length_one_and_wait_for_their_start():
    method = build("swav", freeze=0.5)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.5)
    for progress, moves in ((0.4, False), (0.5, True)):
        before = method.prototypes.detach().clone()
        method(batch_of("swav", 6, progress=progress))["loss"].backward()
        method.before_update(progress)
        optimizer.step()
        optimizer.zero_grad()
        method.after_update(progress)
        assert torch.allclose(method.prototypes, before, atol=1e-6) != moves
        assert torch.allclose(method.prototypes.norm(dim=1), torch.ones(12))


def test_the_queue_is_the_papers_at_its_sizes():
    assert queue_for(3000, 256) == 3840
    assert queue_for(3000, 4096) == 0


def test_one_view_gets_a_sentence():
    batch = batch_of("swav", 4)
    one = Batch(batch.views[:1], batch.index, None, 0.0, batch.generator)
    with pytest.raises(ValueError, match="num_views=2"):
        build("swav")(one)


def trained(epsilon, *, num_steps=60):
    """What a short training on 64 images of smooth noise logs at its end."""
    method = build("swav", epsilon=epsilon, num_prototypes=16, queue_size=0)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randn(64, 3, 4, 4, generator=draw)
    for step in range(num_steps):
        sizes = [16, 16, 8, 8]
        views = [F.interpolate(coarse, size=s, mode="bilinear") for s in sizes]
        views = [v + 0.3 * torch.randn(v.shape, generator=draw) for v in views]
        outputs = method(Batch(views, torch.arange(64), None, step / num_steps, draw))
        optimizer.zero_grad()
        outputs["loss"].backward()
        method.before_update(step / num_steps)
        optimizer.step()
        method.after_update((step + 1) / num_steps)
    return {name: float(value.detach()) for name, value in outputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.03, 0.05])
def test_a_high_epsilon_makes_all_codes_uniform_and_the_default_and_the_papers_do_not(epsilon):
    collapsed, healthy = trained(1.0), trained(epsilon)
    assert collapsed["target_entropy"] > 0.99
    assert collapsed["loss"] > 0.95 * math.log(16)
    assert len(collapse_signs(collapsed)) == 1
    assert collapse_signs(healthy) == ()
    assert healthy["target_entropy"] < 0.3
    assert healthy["target_usage"] > 0.9
    assert healthy["loss"] < 0.3 * math.log(16)
