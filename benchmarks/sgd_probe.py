"""One linear probe trained by SGD over the images: what `probe.py` compares with.

The settings of lightly's linear_eval.py, which follow Chen et al. 2020: the frozen encoder sees
every image anew in each of 90 epochs, cropped and flipped as a PIL image in the workers of a
DataLoader; SGD with momentum 0.9, no weight decay, half a cosine without warm-up, batch 256. In its
favour four heads with learning rates from 0.1 (lightly's) to 30 (MoCo's) train on each batch, of
which val chooses, crops keep half of the image or more (there 0.08), val is read once and not in
every epoch, and the workers start once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raysl.data.images import Images
from raysl.encoder import Encoder
from raysl.evaluation.features import evaluating, extract
from raysl.rng import derive_seed
from raysl.views import ViewConfig

EPOCHS, BATCH = 90, 256
LEARNING_RATES = (0.1, 1.0, 10.0, 30.0)
MOMENTUM = 0.9
CROP_SCALE = (0.5, 1.0)


def sgd_probe(
    encoder: Encoder,
    train: Images,
    val: Images,
    views: ViewConfig,
    *,
    epochs: int,
    num_workers: int,
    seed: int,
    device: torch.device,
) -> tuple[nn.Linear, float]:
    """The head that is best on val, and its learning rate."""
    channels = train.shape[0]
    steps = [
        transforms.RandomResizedCrop(train.shape[1], CROP_SCALE),
        transforms.RandomHorizontalFlip(views.flip),
        transforms.ToTensor(),
        transforms.Normalize(*((v * channels)[:channels] for v in (views.mean, views.std))),
    ]
    batch = min(BATCH, len(train))
    torch.manual_seed(derive_seed(seed, "SGD probe"))
    loader = DataLoader(
        Pictures(train, transforms.Compose(steps)),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    num_classes = len(train.classes)
    heads = [nn.Linear(encoder.num_features, num_classes).to(device) for _ in LEARNING_RATES]
    groups = [
        {"params": list(head.parameters()), "lr": rate * batch / 256}
        for head, rate in zip(heads, LEARNING_RATES, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    with evaluating(encoder):
        for _ in range(epochs):
            for images, labels in loader:
                images, labels = (x.to(device, non_blocking=True) for x in (images, labels))
                with torch.no_grad():
                    features = encoder(images)
                loss = sum(F.cross_entropy(head(features), labels) for head in heads)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    features = extract(encoder, val, views, device=device, batch_size=BATCH)
    accuracies = [accuracy(head, features, val.labels) for head in heads]
    best = accuracies.index(max(accuracies))
    return heads[best], LEARNING_RATES[best]


@torch.no_grad()
def accuracy(head: nn.Linear, features: Tensor, labels: Tensor) -> float:
    """In percent; waits for the device."""
    right = head(features).argmax(dim=1) == labels.to(features.device)
    return 100 * float(right.double().mean())


class Pictures(Dataset):
    """Each image as PIL has it, transformed, with its label."""

    def __init__(self, images: Images, transform):
        pixels = images.read(torch.arange(len(images)))
        self.pictures = [transforms.functional.to_pil_image(image) for image in pixels]
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[number]), self.labels[number]
