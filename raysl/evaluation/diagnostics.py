"""Collapse diagnostics: have the features kept apart what they should tell apart?"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.data.images import Images, Subset
from raysl.data.subset import nested_order
from raysl.encoder import Encoder
from raysl.evaluation.features import evaluating, extract
from raysl.rng import generator
from raysl.views import ViewConfig, make_views

ROUNDING = 1e-6  # of the features' norm: below it a singular value is float32 noise


def diagnose(
    encoder: Encoder,
    images: Images,
    views: ViewConfig,
    *,
    device: torch.device | str,
    seed: int,
    num_examples: int,
    batch_size: int,
) -> dict[str, float]:
    """The four diagnostics on at most `num_examples` of the images, and on how many ("examples").

    Alignment compares two random views of an image, the others look at the evaluated view. `seed`
    draws the images and the views.
    """
    if len(images) < 2:
        raise ValueError(
            f"The collapse diagnostics need at least 2 images, and {images.name} has {len(images)}."
        )
    chosen = torch.from_numpy(nested_order(len(images), seed)[:num_examples].copy()).long()
    images = Subset(images, chosen.sort().values)
    features = extract(encoder, images, views, device=device, batch_size=batch_size)
    pair = replace(views, num_views=2, num_local_views=0)
    distances = []
    with evaluating(encoder), torch.inference_mode():
        for step, indices in enumerate(torch.arange(len(images)).split(batch_size)):
            draws = generator(seed, "diagnostics", step, device=device)
            first, second = make_views(images.read(indices).to(device), pair, draws)
            distances.append(squared_distances(encoder(first), encoder(second)))
    return {
        "feature_std": feature_std(features),
        "effective_rank": effective_rank(features),
        "alignment": float(torch.cat(distances).mean()),
        "uniformity": uniformity(features),
        "examples": float(len(images)),
    }


def feature_std(features: Tensor) -> float:
    """Standard deviation of the normalised features [N, D], mean over D, times sqrt(D).

    1 if they spread over the whole sphere, 0 if all are one. Chen and He, "Exploring Simple Siamese
    Representation Learning", CVPR 2021, section 4.1.
    """
    spread = F.normalize(features.double()).std(dim=0, correction=0)  # [D]
    return float(spread.mean() * features.shape[1] ** 0.5)


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the singular values of the centred features [N, D], 1 to min(N - 1, D).

    1 for constant features too, where nothing but rounding is left. Roy and Vetterli, "The
    effective rank", EUSIPCO 2007; as RankMe (Garrido et al., ICML 2023) an indicator of quality.
    """
    features = features.double()
    centred = features - features.mean(dim=0)
    gram = centred.T @ centred if len(centred) > centred.shape[1] else centred @ centred.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    singular = singular[singular > ROUNDING * features.norm()]
    if len(singular) == 0:
        return 1.0
    share = singular / singular.sum()
    return float((-share * share.log()).sum().exp())


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Of normalised features, row by row, [N]; their mean is the alignment, 0 (equal) to 4.

    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", ICML 2020, with exponent 2.
    """
    return (F.normalize(first.double()) - F.normalize(second.double())).square().sum(dim=1)


def uniformity(features: Tensor) -> float:
    """log of the mean over pairs of exp(-2 distance^2) of the normalised features [N, D].

    0 if all are one, about -4 if they are uniform on a sphere of many dimensions (Wang and Isola
    2020, with t = 2). Takes about 24 N^2 bytes.
    """
    normalised = F.normalize(features.double())
    squared = (2 - 2 * normalised @ normalised.T).clamp_min(0)  # [N, N]
    closeness = squared.mul(-2).exp()
    num_pairs = len(features) * (len(features) - 1)
    return float(((closeness.sum() - closeness.trace()) / num_pairs).log())


def collapsed(diagnostics: Mapping[str, float]) -> bool:
    """Whether the encoder tells images no longer apart: constant features, or one direction.

    The rule is feature_std < 0.03 or effective_rank < 2; below 32 examples, where both depend on
    which images were drawn, only feature_std < 0.001 counts. Calibrated on 120 to 500 images of
    UCI digits and of Fashion-MNIST:

        encoder                                              feature_std   effective_rank
        random convnet, ResNet-18 and -50, ViT-Ti            0.065 - 0.47  3.7 - 93
        trained by SimCLR, SimSiam (convnet, 25 steps on)    0.42 - 0.57   24 - 39
        supervised, 10 classes, 2 or 3 classes to loss 0     0.64 - 0.80   3.7 - 26
        views pulled together by nothing but their cosine:
            75 steps                                         0.035         50 - 51
            300 and 600 steps                                0.009 - 0.016 32 - 52
        all features on one line (by construction)           any           1

    This is about the encoder. A collapsed projector can hide it: SimSiam without stop-gradient and
    predictor reached a cosine of 1 after the projector, while the features before it kept
    feature_std 0.39 and rank 12; what gave it away was an alignment above the images' own distance
    (0.77 against 0.27, which a random encoder shows too). For such methods diagnose the
    projector's output.
    """
    constant = diagnostics["feature_std"] < 0.001
    if diagnostics["examples"] < 32:
        return constant
    return constant or diagnostics["feature_std"] < 0.03 or diagnostics["effective_rank"] < 2
