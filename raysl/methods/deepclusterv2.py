"""DeepCluster-v2: all views predict the cluster that the image had in the previous epoch.

    loss = mean over clusterings h and views v of
           -log softmax(z_v . c_h / temperature)[label_h(image)]

z are normalised projections; c_h and label_h the centroids and labels of a spherical k-means of the
projections that the last epoch stored. The centroids are the classifier and get no gradient.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by
Contrasting Cluster Assignments" (SwAV), NeurIPS 2020, arXiv 2006.09882, section 4 and appendix;
it improves Caron et al., ECCV 2018, arXiv 1807.05520.

As in the authors' code there is a bank for each of two global views, which the clusterings use in
turn, and 10 iterations of k-means from random rows. Differences: the code fills the bank by a pass
before training, here the first epoch does it and trains on random classes of equal size and random
centroids, so a training needs several epochs. An empty cluster splits another one; the code keeps
its centroid. Images that no pass has seen yet, since an epoch drops the rest of its order, are left
out of clustering and loss; rows may be older than an epoch for the same reason. The paper has
3 x 3,000 clusters for 1.28 million images of 1,000 classes; here a cluster holds 50 on average,
which leaves a class of 150 the paper's three. The head's hidden layer has 512 units for its 2048,
the width of ResNet-50, and AdamW replaces LARS at batch 4096.

The head's batch norm is each worker's own; banks, centroids and labels agree on all workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.bank import FeatureBank
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import mlp, require_widths
from raysl.methods.parts.kmeans import IGNORED, kmeans
from raysl.methods.parts.labels import PseudoLabels, num_clusters
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import each_view, require_global_views
from raysl.methods.parts.workers import common_generator
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class DeepClusterV2Config(MethodConfig):
    """num_clusters: of each of num_clusterings k-means, which run for kmeans_iterations."""

    temperature: float = 0.1
    num_clusters: int | None = None
    num_clusterings: int = 3
    kmeans_iterations: int = 10
    projector: tuple[int, ...] = (512, 128)

    def __post_init__(self) -> None:
        require(self, "above 0", "temperature")
        require(self, "at least 2", "num_clusters")
        require(self, "at least 1", "num_clusterings", "kmeans_iterations")
        require_widths("projector", self.projector)


class DeepClusterV2(Method):
    """Classify all views into k-means clusters of what was stored an epoch ago."""

    Config = DeepClusterV2Config
    family = "clustering"
    paper = "Caron et al., NeurIPS 2020, arXiv 2006.09882, appendix"
    views = VIEWS["swav_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "num_clusters": "one for every 50 images, from 10 to 3,000"
    }
    has_validation_loss = False
    config: DeepClusterV2Config
    centroids: Tensor  # [H, K, D]
    seed: Tensor

    def __init__(self, config: DeepClusterV2Config, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        width, num_examples = config.projector[-1], sizes["num_examples"]
        count = config.num_clusters
        if count is None:
            count = num_clusters(num_examples, images_each=50, most=3000)
        self.projector = mlp(encoder.num_features, config.projector)
        self.bank = FeatureBank(num_examples, 2 * width)  # a row holds both global views
        self.bank.rows.zero_()  # zeros: not seen yet
        self.labels = PseudoLabels(config.num_clusterings, num_examples, count)
        directions = torch.randn(config.num_clusterings, count, width)
        self.register_buffer("centroids", F.normalize(directions, dim=2))
        self.register_buffer("seed", torch.randint(2**31, ()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_global_views("DeepClusterV2", batch.views)
        features = torch.cat(each_view(self.encoder, batch.views))
        z = unit_rows(self.projector(features).float())  # [V B, D]
        labels = self.labels.classes[:, batch.index]  # [H, B]
        with full_precision(z):
            loss = prediction_loss(z, self.centroids.float(), labels, self.config.temperature)
        z1, z2, *_ = z.detach().chunk(len(batch.views))
        if self.training:
            self.bank.store(batch.index, torch.cat([z1, z2], dim=1))
        signs = self.labels.signs(labels[0])
        return {"loss": loss, **embedding_signs(z1), **signs}

    def before_forward(self, epoch: int) -> None:
        if self.labels.due(epoch):
            self.cluster(epoch)

    @torch.no_grad()
    def cluster(self, epoch: int) -> None:
        """New centroids and labels from the banks as the last epoch left them."""
        generator = common_generator(self.seed, epoch)
        views = self.bank.rows.chunk(2, dim=1)
        labels = []
        for h, centroids in enumerate(self.centroids):
            found, classes = kmeans(
                views[h % 2],
                len(centroids),
                generator=generator,
                num_iterations=self.config.kmeans_iterations,
            )
            centroids.copy_(found)
            labels.append(classes)
        self.labels.replace(torch.stack(labels), epoch)


def prediction_loss(z: Tensor, centroids: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy of V views [V B, D] with labels [H, B] among centroids [H, K, D].

    An image without label counts in the mean, with a loss of 0.
    """
    num_views = len(z) // labels.shape[1]
    logits = z @ centroids.transpose(1, 2) / temperature  # [H, V B, K]
    targets = labels.repeat(1, num_views)  # [H, V B]
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.mean()
