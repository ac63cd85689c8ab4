"""Whether what a method logs of its own outputs says that they have collapsed.

The encoder's features can look healthy while the projector behind them gives one point for every
image, and then training teaches nothing: so the outputs of the heads are judged too, by scalars
that are logged in training (`parts.signs`).
"""

from collections.abc import Mapping

LOWEST_STD = 0.1
LOWEST_RANK = 1.4
LOWEST_INFORMATION = 0.01


def collapse_signs(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """A sentence for each sign of collapse in the logged means; none for a healthy training.

    embedding_std below 0.1: the projections are one point. embedding_rank below 1.4: they lie on
    a line through 0. Names that are not in `metrics` say nothing, and neither does a value that is
    NaN. Measured on UCI digits in batches of 64 with a convnet of width 8, over 3 seeds where a
    range is given, at the end of 100 (BYOL) or 150 updates:

        projections of                                     embedding_std   embedding_rank
        BYOL (lr 3e-3 and 1e-2)                            0.53 - 0.62     1.7 - 2.2
        SimSiam (SGD, lr=0.8)                              0.87 - 0.94     2.8 - 3.2
        MoCo v2, MoCo v3                                   0.31, 0.99      3.4, 8.3
        ReSSL                                              0.15            8.0
        BYOL without predictor (lr 1e-2), 150 updates      0.03 - 0.08     1.8 - 2.6
        SimSiam without predictor (lr=0.8)                 0.39 - 0.55     1.05 - 1.16
        SimSiam without stop-gradient (lr=0.8)             0.31 - 0.51     1.06 - 1.20

    SimSiam's projector ends in a batch norm, so that its projections end on a line and not in the
    point that Chen and He 2021 report. A collapse takes its time: after 200 updates in batches of
    128 at the default learning rates SimSiam without predictor was not there yet (embedding_std
    0.84), nor quite BYOL without predictor (0.107; at momentum 0.9 it was, 0.015).

    target_usage - target_entropy below 0.01: all images have the same target, uniform or not. The
    difference is what a target tells of its image, as a share of log K. Measured on UCI digits in
    batches of 64 with a convnet of width 16 and two global views, DINO with K = 64 at lr=1e-3,
    momentum=0.95 after 400 updates, SwAV with K = 32 at lr=2e-3 after 150:

        targets of                                         entropy   usage - entropy   kNN
        DINO (random encoder: kNN 89)                      0.50        0.32            91
            K = 256; momentum 0.975                        0.61 - 0.65 0.21 - 0.27     91 - 94
            up to 0.07 in half of the training, in all     0.84 - 0.96 0.04 - 0.13     92 - 94
        DINO without moving average                        1.00        0.001           52
            with norm=group (healthy: 0.94, 0.05)          1.00        0.000           -
            centre_momentum 0.999                          0.00        0.000           92
            both temperatures of the teacher 0.08          1.00        0.000           92
        SwAV                                               0.77        0.23            92
            epsilon 0.3 and 1                              1.00        0.000           80 - 81

    With batch norm DINO without moving average is saved in some trainings (4 of 9: 0.10 - 0.22),
    with norm=group it was in none of 5, and there the features become one point too.
    A healthy DINO or SwAV comes close to the limit too, in the first fifth of its training, before
    its targets become different: judge the end. With K outputs and N images in a batch the
    difference is at most log N / log K.
    """
    signs = []
    std, rank = metrics.get("embedding_std"), metrics.get("embedding_rank")
    if std is not None and std < LOWEST_STD:
        signs.append(
            f"The projections of all images are nearly one point: their standard deviation is "
            f"{std:.3f} of a sphere's (embedding_std), below {LOWEST_STD}."
        )
    if rank is not None and rank < LOWEST_RANK:
        signs.append(
            f"The projections of all images lie nearly on a line: they take up {rank:.2f} "
            f"directions (embedding_rank), fewer than {LOWEST_RANK}."
        )
    entropy, usage = metrics.get("target_entropy"), metrics.get("target_usage")
    if entropy is not None and usage is not None and usage - entropy < LOWEST_INFORMATION:
        signs.append(
            f"The targets of all images are nearly the same distribution: what one tells of its "
            f"image, target_usage - target_entropy, is {usage - entropy:.3f} of log K, below "
            f"{LOWEST_INFORMATION}."
        )
    return tuple(signs)
