"""From draws of a difference to an interval and a kind of answer."""

import math

import numpy as np
import pytest

from raysl.analysis.verdict import Masses, credible_tail, judge, kind_of

X = np.linspace(0.0, 4.0, 101)


def masses(below=0.0, inside=0.0, above=0.0, several=0.0, falls=0.0):
    return Masses(below=below, inside=inside, above=above, several=several, falls=falls)


def lines(crossings, slope=1.0):
    """Straight differences that cross zero upwards at the given log sizes [J, K]."""
    return slope * (X - np.asarray(crossings)[:, None])


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (masses(inside=0.96, below=0.04), "found"),
        (masses(inside=0.94, below=0.06), "undetermined"),
        (masses(inside=0.99, several=0.3), "undetermined"),
        (masses(inside=0.99, several=0.6), "several"),
        (masses(below=0.97), "always"),
        (masses(above=0.97), "never"),
        (masses(above=0.97, falls=0.97), "several"),
        (masses(above=0.97, falls=0.7), "undetermined"),
        (masses(below=0.5, above=0.5), "undetermined"),
    ],
)
def test_the_probabilities_decide_the_kind(given, kind):
    assert kind_of(given) == kind


def test_the_interval_that_claims_90_percent_holds_93_percent_of_the_draws():
    """A search that stops when its interval is narrow selects lucky ones: 90 % would cover 86."""
    assert 1 - 2 * credible_tail(0.90) == pytest.approx(0.93)
    crossings = np.random.default_rng(0).normal(2.0, 0.3, size=20_000)
    verdict = judge(X, lines(crossings))
    within = (np.log(verdict.low) <= crossings) & (crossings <= np.log(verdict.high))
    assert np.mean(within) == pytest.approx(0.93, abs=0.002)
    assert math.log(verdict.point) == pytest.approx(np.median(crossings), abs=0.001)
    assert verdict.kind == "found"
    assert verdict.ratio == pytest.approx(verdict.high / verdict.low)


def test_the_masses_are_the_shares_of_the_draws():
    verdict = judge(X, lines([-1, -2, 2, 2, 2, 2, 2, 5, 5, 9]))
    assert (verdict.masses.below, verdict.masses.above) == (0.2, 0.3)
    assert verdict.masses.inside == pytest.approx(0.5)
    assert verdict.masses.several == verdict.masses.falls == 0


def test_a_difference_below_the_noise_changes_no_sign():
    ripple = np.tile(0.1 * np.sin(3 * X), (50, 1))
    assert judge(X, ripple).kind == "several"
    assert judge(X, ripple, sd=1.0).masses.several == 0
    assert judge(X, 10 * ripple, sd=1.0).kind == "several"
