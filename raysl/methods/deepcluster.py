"""DeepCluster: classify images into the k-means clusters of the network's own features.

    loss = mean over images of w_i * -log softmax(W f(view_i) + b)[label_i]
    label = k-means of the features after PCA, whitening and L2 normalisation, every few epochs
    w_i   = 1 / size of the image's cluster, scaled to mean 1: uniform sampling over the clusters

Caron, Bojanowski, Joulin, Douze, "Deep Clustering for Unsupervised Learning of Visual Features",
ECCV 2018, arXiv 1807.05520, equations 1 and 2, sections 3.3 and 3.4. `rotations`: the classes are
pairs of cluster and quarter turn of the image; Caron, Bojanowski, Mairal, Joulin, "Unsupervised
Pre-Training of Image Features on Non-Curated Data" (DeeperCluster), ICCV 2019, arXiv 1905.01278,
section 3.2; it sees all four turns, clusters the upright ones, and reassigns every 3 epochs. Its
two levels of classes serve 320,000 clusters; here one softmax has all pairs.

Differences. The paper passes over all images, unaugmented, before each epoch; here the clustered
features are those that the last epoch's training passes left, some older where an epoch dropped the
rest of its order, and images not seen yet are left out. Weights stand for the sampler, as the paper
says they may. The first epoch, before there are features, has random classes of equal size. The
classifier is drawn anew at every assignment, but keeps the optimiser's momentum. It starts again
every epoch in the paper, which is 5,000 updates; a small pool's epoch has a few, in which it learns
nothing, so an assignment lasts for at least 200. The learning rate is 0.3: on scikit-learn's digits
it took the loss from 3.0 to 2.3 in 600 updates, the paper's 0.05 to 2.7. The clustered features are
the encoder's own, without AlexNet's fully connected layers and dropout. k-means is spherical.
10,000 clusters are for 1.28 million images of 1,000 classes; here a cluster holds 50 images.
`sobel` is off, as an encoder that users load should take plain images; views jitter colours
instead, as the authors do in DeepCluster-v2. With it the encoder sees two gradients of the grey
image in its first channels (their norm, where it has one channel), in evaluation too, and its state
holds the filters, so that a plain encoder refuses it. `num_examples` features are kept.

Batch norm uses each worker's own statistics; features, labels and classifier agree on all workers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.bank import FeatureBank
from raysl.methods.parts.fields import require
from raysl.methods.parts.kmeans import IGNORED, kmeans, own_share
from raysl.methods.parts.labels import PseudoLabels, num_clusters
from raysl.methods.parts.rotations import NUM_ROTATIONS, rotate, rotation_labels
from raysl.methods.parts.sobel import filter_with_sobel
from raysl.methods.parts.workers import common_generator, summed
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS

UPDATES = 200  # that a classifier gets at least before it starts again


@dataclass(frozen=True, kw_only=True)
class DeepClusterConfig(MethodConfig):
    """reassign_every: epochs from one clustering to the next. pca: features that are clustered."""

    num_clusters: int | None = None
    kmeans_iterations: int = 20
    pca: int = 256
    reassign_every: int | None = None
    rotations: bool = False
    sobel: bool = False

    def __post_init__(self) -> None:
        require(self, "at least 2", "num_clusters")
        require(self, "at least 1", "kmeans_iterations", "pca", "reassign_every")


class DeepCluster(Method):
    """Alternate between clustering features and learning the clusters as classes."""

    Config = DeepClusterConfig
    family = "clustering"
    paper = "Caron et al., ECCV 2018, arXiv 1807.05520"
    views = replace(VIEWS["simclr_small"], num_views=1)
    capturable = True
    # The paper's step size is constant.
    optim = OptimConfig(
        name="sgd", lr=0.3, lr_scaling="linear", weight_decay=1e-5, warmup=0.0, final_lr=1.0
    )
    scaling: ClassVar[Mapping[str, str]] = {
        "num_clusters": "one for every 50 images, from 10 to 10,000",
        "reassign_every": f"as many epochs as make {UPDATES} updates",
    }
    has_validation_loss = False
    config: DeepClusterConfig
    seed: Tensor

    def __init__(self, config: DeepClusterConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        count = config.num_clusters
        if count is None:
            count = num_clusters(sizes["num_examples"], images_each=50, most=10_000)
        updates = max(1, sizes["num_examples"] // sizes["batch_size"])  # of an epoch
        self.reassign_every = config.reassign_every or math.ceil(UPDATES / updates)
        if config.sobel:
            filter_with_sobel(encoder)
        self.bank = FeatureBank(sizes["num_examples"], encoder.num_features)
        self.bank.rows.zero_()  # zeros: not seen yet
        self.labels = PseudoLabels(1, sizes["num_examples"], count)
        turns = NUM_ROTATIONS if config.rotations else 1
        self.classifier = nn.Linear(encoder.num_features, turns * count)
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.restart_classifier(0)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        labels = self.labels.classes[0, batch.index]  # [B]
        weights, targets = self.labels.balancing(labels), labels
        if self.config.rotations:
            turns = rotation_labels(len(labels), like=labels)  # [4B]
            pairs = labels.repeat(NUM_ROTATIONS) + turns * self.labels.num_classes
            targets = pairs.where(labels.repeat(NUM_ROTATIONS) != IGNORED, IGNORED)
            weights = weights.repeat(NUM_ROTATIONS)
        losses, features = [], []
        for view in batch.views:
            features.append(self.encoder(rotate(view) if self.config.rotations else view))
            logits = self.classifier(features[-1]).float()
            losses.append(weighted_loss(logits, targets, weights))
        if self.training:
            self.bank.store(batch.index, features[0].detach()[: len(labels)])  # upright
        loss = sum(losses[1:], losses[0]) / len(losses)
        return {"loss": loss, **self.labels.signs(labels)}

    def before_forward(self, epoch: int) -> None:
        if self.labels.due(epoch, every=self.reassign_every):
            self.cluster(epoch)

    @torch.no_grad()
    def cluster(self, epoch: int) -> None:
        """New labels from the bank as the last epoch left it, and a new classifier for them."""
        _, labels = kmeans(
            whiten(self.bank.rows, self.config.pca),
            self.labels.num_classes,
            generator=common_generator(self.seed, epoch),
            num_iterations=self.config.kmeans_iterations,
        )
        self.labels.replace(labels[None], epoch)
        self.restart_classifier(epoch)

    @torch.no_grad()
    def restart_classifier(self, epoch: int) -> None:
        """Weights of standard deviation 0.01 and no bias, as in the authors' code."""
        weight = self.classifier.weight
        generator = common_generator(self.seed + 1, epoch)
        weight.copy_(0.01 * torch.randn(weight.shape, generator=generator))
        self.classifier.bias.zero_()


def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean of weighted cross entropies [B]; an image without label counts with a loss of 0."""
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    return (weights * losses).mean()


@torch.no_grad()
def whiten(rows: Tensor, num_components: int) -> Tensor:
    """The rows' leading principal components, each scaled to variance 1, normalised [N, P].

    Rows of zeros have no part in it and stay so; components without variance become zero.
    """
    with full_precision(rows):
        own, seen = own_share(), rows.any(dim=1, keepdim=True).to(rows.dtype)
        count = summed(seen[own].sum())
        centred = (rows - summed(rows[own].sum(dim=0)) / count) * seen
        covariance = summed(centred[own].T @ centred[own]) / count
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        variances, directions = variances[-num_components:], directions[:, -num_components:]
        scale = variances.rsqrt().where(variances > 1e-6 * variances[-1], 0.0)
        return F.normalize(centred @ directions * scale, dim=1)
