"""The frontier: the pool size from which an arm pays, label size by label size."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
from cores import on_all_cores

from raysl.analysis.figure import to_png, to_svg
from raysl.analysis.frontier import find_frontier, scores_by_label_size
from raysl.analysis.frontier_plot import draw_frontier
from raysl.analysis.scores import Score
from raysl.analysis.switch import switch_points

POOLS, LABELS = (500, 1500, 4500, 13_500), (100, 300, 900, 2700)
ARMS = {"arm": "simclr", "baseline": "scratch"}


def plane(pool: float, label: float) -> float:
    """A difference whose frontier is pool = 10 * label."""
    return 3 * math.log(pool / (10 * label))


def grid_of(difference=plane, *, sd=0.3, label_sd=0.0, seeds=3, pools=POOLS, labels=LABELS, seed=0):
    """Rows of a simulated study: label size -> scores; label_sd moves both arms of a seed."""
    rng = np.random.default_rng(seed)
    rows = {}
    for label in labels:
        rows[float(label)] = row = []
        for s in range(seeds):
            level = 60 + 5 * math.log(label / 100) + label_sd * rng.normal()
            row.append(Score("scratch", None, s, level + sd * rng.normal()))
            for pool in pools:
                value = level + difference(pool, label) + sd * rng.normal()
                row.append(Score("simclr", float(pool), s, value))
    return rows


def world(number: int):
    """Power laws in both sizes whose frontier crosses the grid; rows, true log switch points."""
    rng = np.random.default_rng([number, 77])
    x = np.linspace(math.log(POOLS[0]), math.log(POOLS[-1]), 400)
    while True:
        base, gap = rng.uniform(5, 15), rng.uniform(0, 4)
        (a, b), (c, d) = (rng.uniform((30, 0.3), (60, 0.8)) for _ in range(2))
        e, f, g = rng.uniform((4, 0.2, -0.2), (20, 0.9, 0.3))
        c *= 0.5

        def scratch(label, base=base, a=a, b=b):
            return 100 - base - a * (label / 100) ** -b

        def simclr(pool, label, low=base + gap, c=c, d=d, e=e, f=f, g=g):
            far = e * (pool / 500) ** -f * (label / 100) ** -g
            return 100 - low - c * (label / 100) ** -d - far

        true = [simclr(np.exp(x), label) - scratch(label) for label in LABELS]
        switches = switch_points(x, np.stack(true))
        if np.sum((switches > x[20]) & (switches < x[-20])) >= 2:
            break
    own, shared, pretraining = np.exp(rng.normal(np.log([0.8, 1.0, 0.5]), [0.4, 0.5, 0.5]))
    fall = rng.uniform(0, 0.35)  # fewer labels, more noise
    luck = rng.normal(size=(3, len(POOLS)))
    rows = {}
    for label in LABELS:
        rows[float(label)] = row = []
        scale = (label / 500) ** -fall
        for s in range(3):
            drawn = shared * rng.normal()
            row.append(
                Score("scratch", None, s, scratch(label) + scale * (drawn + own * rng.normal()))
            )
            for i, pool in enumerate(POOLS):
                noise = drawn + own * rng.normal() + pretraining * luck[s, i]
                row.append(Score("simclr", float(pool), s, simclr(pool, label) + scale * noise))
    return rows, switches, (switches > x[0]) & (switches < x[-1])


def read_world(number):
    rows, switches, is_inside = world(number)
    return find_frontier(rows, draws=2000, **ARMS), switches, is_inside


@pytest.mark.slow
def test_the_band_holds_the_true_frontier_about_nine_times_in_ten():
    covered, inside, refuted = [], [], 0
    for frontier, switches, is_inside in on_all_cores(read_world, range(60)):
        inside += is_inside.tolist()
        for point, true in zip(frontier.points, np.exp(switches), strict=True):
            covered.append(point.low <= true * 1.0001 and true <= point.high * 1.0001)
            refuted += point.kind == "always" and true > POOLS[0] * 1.05
            refuted += point.kind == "never" and true < POOLS[-1] / 1.05
    covered, inside = np.array(covered), np.array(inside)
    assert 0.82 <= covered[inside].mean() <= 0.97, (covered[inside].mean(), inside.sum())
    assert covered.mean() >= 0.85
    assert refuted <= 0.03 * len(covered)


def test_the_frontier_of_a_plane_is_found():
    frontier = find_frontier(grid_of(), **ARMS)
    points = {point.label_size: point for point in frontier.points}
    for label in (100, 300, 900):
        assert points[label].kind == "found"
        assert points[label].low < points[label].point < points[label].high
        assert points[label].point == pytest.approx(10 * label, rel=0.15)
    assert points[2700].kind == "never"
    assert points[2700].point is None
    assert points[2700].high == 13_500
    # between the label sizes the line goes on smoothly
    middle = min(frontier.line, key=lambda p: abs(math.log(p.label_size / math.sqrt(300 * 900))))
    assert middle.point == pytest.approx(10 * middle.label_size, rel=0.15)


def test_the_sentence_names_every_label_size_with_its_answer():
    labels = (20, 100, 300, 2700)
    text = find_frontier(grid_of(labels=labels), **ARMS).sentence()
    assert text.startswith("SimCLR beats scratch from about ")
    assert "unlabelled images on with 100 labels (90 % interval " in text
    assert "at every pool size from 500 to 13,500 with 20 labels" in text
    assert "at no pool size from 500 to 13,500 with 2,700 labels" in text


def test_arms_that_do_not_differ_stay_undetermined():
    frontier = find_frontier(grid_of(lambda pool, label: 0.0, sd=1.0), **ARMS)
    assert {point.kind for point in frontier.points} == {"undetermined"}
    assert frontier.sentence().startswith("Undetermined with 100 labels")


def test_what_the_labels_of_a_seed_do_to_both_arms_does_not_widen_the_band():
    widths = []
    for label_sd in (0.0, 3.0):
        frontier = find_frontier(grid_of(label_sd=label_sd, seeds=4), **ARMS)
        widths.append(math.log(frontier.points[1].high / frontier.points[1].low))
    assert widths[1] < 1.5 * widths[0]


def test_a_margin_moves_the_frontier_to_larger_pools():
    frontier = find_frontier(grid_of(), margin=1.0, **ARMS)
    assert frontier.points[1].point == pytest.approx(3000 * math.exp(1 / 3), rel=0.15)
    assert "beats scratch by 1 points" in frontier.sentence()


def test_missing_cells_and_a_baseline_that_sees_the_pool_are_no_obstacle():
    rows = grid_of()
    rows[300.0] = [s for s in rows[300.0] if s.size != 1500]
    frontier = find_frontier(rows, **ARMS)
    assert len(frontier.cells) == 15
    assert frontier.points[1].point == pytest.approx(3000, rel=0.15)
    both = {
        label: [s for s in row if s.size is not None]
        + [
            dataclasses.replace(s, size=float(pool), value=s.value + 0.1 * i)
            for s in row
            if s.size is None
            for i, pool in enumerate(POOLS)
        ]
        for label, row in grid_of().items()
    }
    assert find_frontier(both, **ARMS).points[1].point == pytest.approx(3000, rel=0.25)


def test_too_little_for_a_frontier_gets_a_sentence():
    with pytest.raises(ValueError, match=r"two pool sizes and two label sizes.*are 4 and 1"):
        find_frontier(grid_of(labels=(100,)), **ARMS)
    with pytest.raises(ValueError, match="are 0 and 0"):
        find_frontier(grid_of(), arm="simclr", baseline="random")
    with pytest.raises(ValueError, match="run at least two"):
        find_frontier(grid_of(seeds=1), **ARMS)


def test_the_same_seed_gives_the_same_frontier():
    rows = grid_of(sd=1.0)
    assert find_frontier(rows, seed=3, **ARMS) == find_frontier(rows, seed=3, **ARMS)
    assert find_frontier(rows, seed=3, **ARMS) != find_frontier(rows, seed=4, **ARMS)


def test_scores_of_a_label_size_take_its_trials_and_no_others():
    cells = [("simclr", 500, 100), ("scratch", None, 100), ("simclr", 500, 300)]
    table = pa.Table.from_pylist(
        [
            {
                "arm": arm, "pool_size": pool, "label_size": label, "seed": seed,
                "phase": "confirm", "status": "ok", "flags": ["collapsed"] * seed,
                "digest": f"{i}", "test/x": 1.0 * i,
            }
            for i, (arm, pool, label) in enumerate(cells)
            for seed in (0, 1)
        ]
    )  # fmt: skip
    rows = scores_by_label_size(table, metric="test/x")
    assert list(rows) == [100.0, 300.0]
    assert [(s.arm, s.size, s.value) for s in rows[300.0]] == [("simclr", 500.0, 2.0)] * 2
    assert [(s.arm, s.size) for s in rows[100.0][:2]] == [("scratch", None)] * 2
    assert len(scores_by_label_size(table, metric="test/x", with_collapsed=False)[100.0]) == 2


def test_the_figure_shows_every_cell_the_line_and_where_it_leaves_the_grid():
    rows = grid_of(labels=(20, 100, 300, 2700))
    rows[300.0] = [s for s in rows[300.0] if s.size != 500]
    frontier = find_frontier(rows, **ARMS)
    figure = draw_frontier(frontier)
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == len(frontier.cells) == 15
    first = next(c for c in frontier.cells if (c.label_size, c.pool_size) == (100, 500))
    assert f"{first.mean:+.1f}".replace("-", "\N{MINUS SIGN}") in texts
    mesh = axes.collections[0]
    assert mesh.norm.vmin == -mesh.norm.vmax  # zero is the white middle of the map
    assert np.ma.getmaskarray(mesh.get_array()).sum() == 1
    markers = {(line.get_marker(), tuple(line.get_ydata())) for line in axes.lines}
    assert {("<", (20.0,)), ("o", (100.0,)), (">", (2700.0,))} <= markers
    assert to_png(figure).startswith(b"\x89PNG")
    assert "<svg" in to_svg(figure, "frontier", title="Frontier")
