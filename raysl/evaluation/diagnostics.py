"""Collapse diagnostics: have the features kept apart what they should tell apart?"""

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
    pair = replace(views, num_views=2)
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
    2020, with t = 2). Takes 8 N^2 bytes.
    """
    normalised = F.normalize(features.double())
    cosines = (normalised @ normalised.T)[~torch.eye(len(features), dtype=torch.bool)]
    squared = (2 - 2 * cosines).clamp_min(0)
    return float(squared.mul(-2).exp().mean().log())


def collapsed(diagnostics: dict[str, float]) -> bool:
    return False
