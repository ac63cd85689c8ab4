"""Pseudo-labels: the classes that a method gave the training images, and when it did.

They begin as random classes of equal size, as in the authors' code of SeLa.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.methods.parts.kmeans import IGNORED
from raysl.methods.parts.signs import target_signs


def num_clusters(num_examples: int, *, images_each: int, most: int) -> int:
    """So many that a cluster has `images_each` on average, in 10 to `most`."""
    return max(10, min(most, num_examples // images_each))


class PseudoLabels(nn.Module):
    """A class for every image in each of several clusterings, and how they came about."""

    classes: Tensor  # int64 [H, N]; IGNORED where the image was not seen yet
    sizes: Tensor  # [H, K], images in each class
    nmi: Tensor  # of the first clustering with the one before it

    def __init__(self, num_clusterings: int, num_examples: int, num_classes: int):
        super().__init__()
        orders = [torch.randperm(num_examples) for _ in range(num_clusterings)]
        self.num_classes = num_classes
        self.register_buffer("classes", torch.stack(orders) % num_classes)
        self.register_buffer("sizes", _sizes(self.classes, num_classes))
        self.register_buffer("nmi", torch.zeros(()))
        self.epoch = 0  # of the last assignment; on the host, so that asking waits for no device

    def get_extra_state(self) -> Tensor:
        """The epoch's part in the state dict."""
        return torch.tensor(self.epoch)

    def set_extra_state(self, state: Tensor) -> None:
        self.epoch = int(state)

    def due(self, epoch: int, *, every: int = 1) -> bool:
        """Whether `every` passes over the images were completed since the last assignment.

        One pass ends the random classes of the beginning.
        """
        return self.training and epoch >= self.epoch + (every if self.epoch else 1)

    @torch.no_grad()
    def replace(self, classes: Tensor, epoch: int) -> None:
        """New classes int64 [H, N], the same on all workers."""
        self.nmi.copy_(normalised_mutual_information(self.classes[0], classes[0]))
        self.classes.copy_(classes)
        self.sizes.copy_(_sizes(classes, self.num_classes))
        self.epoch = epoch

    def balancing(self, classes: Tensor) -> Tensor:
        """Weights of images of these classes in clustering 0, mean 1 over all images.

        Weighted so, every class that has images counts alike.
        """
        sizes = self.sizes[0]
        weights = sizes.sum() / (sizes > 0).sum() / sizes.clamp_min(1)
        return weights[classes.clamp_min(0)]

    def signs(self, classes: Tensor) -> dict[str, Tensor]:
        """What to log of a batch with these classes in clustering 0."""
        chosen = F.one_hot(classes.clamp_min(0), self.num_classes)
        used = (self.sizes[0] > 0).float().mean()
        return {"clusters_used": used, "nmi_previous": self.nmi.clone(), **target_signs(chosen)}


def _sizes(classes: Tensor, num_classes: int) -> Tensor:
    seen = (classes != IGNORED).float()
    sizes = torch.zeros(len(classes), num_classes, device=classes.device)
    return sizes.scatter_add_(1, classes.clamp_min(0), seen)


@torch.no_grad()
def normalised_mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """I(A; B) / sqrt(H(A) H(B)) of two labellings int64 [N], without what either ignores.

    0: independent; 1: the same up to names (Caron et al., ECCV 2018, section 4.1).
    """
    both = (a != IGNORED) & (b != IGNORED)
    a, b = a[both], b[both]
    if len(a) == 0:
        return torch.zeros((), device=a.device)
    first, second, pairs = (_entropy(x) for x in (a, b, a * (b.max() + 1) + b))
    scale = (first * second).sqrt()
    return ((first + second - pairs) / scale.clamp_min(1e-12)).float()


def _entropy(labels: Tensor) -> Tensor:
    counts = labels.unique(return_counts=True)[1].double()
    return torch.special.entr(counts / counts.sum()).sum()
