"""SeLa: label all images by optimal transport into classes of equal size, then learn the labels.

    loss   = mean over heads h and images of -log softmax(W_h f(view) + b_h)[label_h(image)]
    label_h = argmax of Q, Q = diag(u) P^lambda diag(v) with equal sums of rows and of columns

P are the heads' softmax outputs for all images; lambda is the inverse strength of the entropy term.

Asano, Rupprecht, Vedaldi, "Self-labelling via simultaneous clustering and representation learning",
ICLR 2020, arXiv 1911.05371, equations 3 to 7, section 3.4 for several heads.

The original, not the SeLa-v2 of the SwAV paper, of which no code was published; DeepCluster-v2 has
the same modern parts. As in the authors' code labels begin as random classes of equal size and
learn in several linear heads on the encoder's features. Differences: labels are solved for all
heads once an epoch, from the features that the last epoch's training passes stored (the code makes
a pass for it, 100 times a training), so a training needs several epochs; some features are older,
where an epoch dropped the rest of its order, and images not seen yet are left out. Sinkhorn makes a
fixed number of iterations, the code iterates until rows change little. The paper has 3,000 classes
for 1.28 million images and the code 128 for CIFAR's 50,000, about 400 images each, which is the
rule here, with the paper's 10 heads. A cosine replaces the steps of its learning rate.
`num_examples` features are kept.

Batch norm uses each worker's own statistics; features and labels agree on all workers.
"""

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
from raysl.methods.parts.kmeans import IGNORED, joined, own_share
from raysl.methods.parts.labels import PseudoLabels, num_clusters
from raysl.methods.parts.workers import summed
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SeLaConfig(MethodConfig):
    """num_clusters: classes of each of num_heads labellings. sharpness: the paper's lambda."""

    num_clusters: int | None = None
    num_heads: int = 10
    sharpness: float = 25.0
    sinkhorn_iterations: int = 50

    def __post_init__(self) -> None:
        require(self, "at least 2", "num_clusters")
        require(self, "above 0", "sharpness")
        require(self, "at least 1", "num_heads", "sinkhorn_iterations")


class SeLa(Method):
    """Alternate between labels by optimal transport and learning them."""

    Config = SeLaConfig
    family = "clustering"
    paper = "Asano et al., ICLR 2020, arXiv 1911.05371"
    views = replace(VIEWS["simclr_small"], num_views=1)
    capturable = True
    optim = OptimConfig(name="sgd", lr=0.05, lr_scaling="linear", weight_decay=1e-5)
    scaling: ClassVar[Mapping[str, str]] = {
        "num_clusters": "one for every 400 images, from 10 to 3,000"
    }
    has_validation_loss = False
    config: SeLaConfig

    def __init__(self, config: SeLaConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        count = config.num_clusters
        if count is None:
            count = num_clusters(sizes["num_examples"], images_each=400, most=3000)
        self.bank = FeatureBank(sizes["num_examples"], encoder.num_features)
        self.bank.rows.zero_()  # zeros: not seen yet
        self.labels = PseudoLabels(config.num_heads, sizes["num_examples"], count)
        self.heads = nn.Linear(encoder.num_features, config.num_heads * count)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        labels = self.labels.classes[:, batch.index]  # [H, B]
        features = [self.encoder(view) for view in batch.views]
        losses = [labelling_loss(self.heads(f).float(), labels) for f in features]
        if self.training:
            self.bank.store(batch.index, features[0].detach())
        loss = sum(losses[1:], losses[0]) / len(losses)
        return {"loss": loss, **self.labels.signs(labels[0])}

    def before_forward(self, epoch: int) -> None:
        if self.labels.due(epoch):
            self.assign(epoch)

    @torch.no_grad()
    def assign(self, epoch: int) -> None:
        """New labels of all heads from the bank as the last epoch left it."""
        config, rows = self.config, self.bank.rows
        own = rows[own_share()]
        seen = own.any(dim=1)
        labels = []
        with full_precision(rows):
            for weight, bias in zip(
                self.heads.weight.chunk(config.num_heads),
                self.heads.bias.chunk(config.num_heads),
                strict=True,
            ):
                found = torch.full((len(own),), IGNORED, device=own.device)
                found[seen] = transport(
                    F.linear(own[seen], weight, bias),
                    sharpness=config.sharpness,
                    num_iterations=config.sinkhorn_iterations,
                )
                labels.append(joined(found, len(rows)))
        self.labels.replace(torch.stack(labels), epoch)


def labelling_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of logits [B, H K] with labels [H, B]; 0 for an image without label."""
    per_head = logits.unflatten(1, (len(labels), -1)).transpose(0, 1)  # [H, B, K]
    losses = F.cross_entropy(
        per_head.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.mean()


@torch.no_grad()
def transport(logits: Tensor, *, sharpness: float, num_iterations: int) -> Tensor:
    """Labels int64 [N] of all workers' logits [N, K] that share the classes about equally.

    The authors' iteration: P^lambda stays as it is, and only its two scalings change, in float64,
    which small probabilities to the power of lambda need. The scalings' own scale means nothing.
    """
    log_p = F.log_softmax(logits.double(), dim=1) * sharpness
    # A row's scale neither: its largest entry becomes 1, and the others at least e^-600.
    p = (log_p - log_p.amax(dim=1, keepdim=True)).clamp_min(-600.0).exp()
    rows = p.new_ones(len(p))
    for _ in range(num_iterations):
        columns = F.normalize(1 / summed(rows @ p), p=1, dim=0)
        rows = 1 / (p @ columns)
    return (p * columns).argmax(dim=1)
