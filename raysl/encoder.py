"""The encoder: images in, one feature vector each out. Our small convnet, or any timm model."""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from raysl.patch_embed import as_matrix_products
from raysl.views.config import default_patch_size

SMALL_IMAGE = 96  # pixels; below it ResNets get the stem for small images
VIT_MODULES = ("timm.models.vision_transformer", "timm.models.deit")  # these take patch_size


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which encoder, with random weights.

    name: for small images and CPUs "convnet" (ours) or "vit" (timm's ViT with 6 blocks of
        4 x width features), or a timm model such as "resnet18".
    stem: of ResNets. "small": 3x3 stride 1 without max-pooling; "standard": 7x7 stride 2 with
        it; "auto": small below 96 pixels.
    patch_size: of ViTs; None: the largest that divides the image into 8 x 8 patches or more,
        and no larger than the model's own (32 pixels: 4; 64: 8; from 128: 16).
    width: of our convnet, the channels of its first stage; of "vit", a quarter of its features.
    norm: of our convnet; "group" uses no batch statistics.
    pool: of ViTs: the class token, or the mean of the patches; None: the model's own.
    drop_path: stochastic depth of timm models.
    """

    name: str = "convnet"
    stem: Literal["auto", "small", "standard"] = "auto"
    patch_size: int | None = None
    width: int = 32
    norm: Literal["batch", "group"] = "batch"
    pool: Literal["token", "avg"] | None = None
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}.")
        if self.patch_size is not None and self.patch_size < 1:
            raise ValueError(f"patch_size must be at least 1 pixel or none, not {self.patch_size}.")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in 0 to 1, 1 excluded, not {self.drop_path}.")


class Encoder(nn.Module):
    """A backbone without classifier: images float [B, C, S, S] to features [B, num_features].

    mean, std: by which the images that it gets are normalised. `adapt` takes them to what the body
    knows; it does nothing unless weights bring a normalisation of their own.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        name: str,
        num_features: int,
        channels: int,
        image_size: int,
        mean: tuple[float, ...] = (0.5,),
        std: tuple[float, ...] = (0.25,),
    ):
        super().__init__()
        as_matrix_products(body)
        self.body = body
        self.name = name
        self.num_features = num_features
        self.channels = channels
        self.image_size = image_size
        self.mean = mean
        self.std = std
        self.adapt: nn.Module = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(self.adapt(images))  # [B, D]
        return features

    def maps(self, images: Tensor) -> Tensor:
        """The features before they are pooled over space, [B, D, h, w]; for decoders.

        A norm that the model has behind its pooling is applied at every place instead.
        """
        images = self.adapt(images)
        if isinstance(self.body, nn.Sequential):
            return self.body[:-2](images)
        body: Any = self.body
        found: Tensor = body.forward_features(images)
        if found.ndim == 3:  # tokens [B, P + N, D]
            found = found[:, getattr(body, "num_prefix_tokens", 0) :]
            side = math.isqrt(found.shape[1])
            if side * side != found.shape[1]:
                raise ValueError(f"Encoder {self.name!r} has no square map; choose another model.")
            found = getattr(body, "fc_norm", nn.Identity())(found)
            return found.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        if found.shape[1] != self.num_features:
            found = found.permute(0, 3, 1, 2)
        if isinstance(body, ConvNeXt):
            found = getattr(body.head, "norm", nn.Identity())(found)  # else before the pooling
        return found


def build_encoder(
    config: EncoderConfig,
    *,
    channels: int,
    image_size: int,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.25,),
) -> Encoder:
    """An encoder for square images; its weights come from torch's global generator."""
    what = f"{config.name!r} with images of {image_size} px in {channels} channel(s)"
    build = OURS.get(config.name, timm_model)
    try:
        body: nn.Module = build(config, channels=channels, image_size=image_size)
        with torch.no_grad():  # one image through it: the width, and whether the size fits
            features = body.eval()(torch.zeros(1, channels, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Encoder {what} does not work ({reason}); set views.size to larger images or choose "
            "an encoder for small ones, such as convnet or resnet18."
        ) from error
    if features.ndim != 2:
        raise ValueError(
            f"Encoder {what} gives {tuple(features.shape)} instead of one feature vector an "
            "image; choose another timm model."
        )
    return Encoder(
        body.train(),
        name=config.name,
        num_features=features.shape[1],
        channels=channels,
        image_size=image_size,
        mean=mean,
        std=std,
    )


def convnet(config: EncoderConfig, *, channels: int, image_size: int) -> nn.Sequential:
    """Four 3x3 stages of width 1, 2, 4, 4 x `width`, each halving a map above 4 px but the last.

    The first stage halves by pooling, the others by stride. Supervised on 6,000 Fashion-MNIST
    images, a stride there too costs about a point of accuracy and saves 30 % of the time; pooling
    everywhere gains less than a point and takes 1.6 times as long.
    """
    for name in ("stem", "patch_size", "pool", "drop_path"):
        _reject(config, name, "our convnet does not have it; choose a timm model")
    layers: list[nn.Module] = []
    map_size, inputs = image_size, channels
    for stage, outputs in enumerate(config.width * scale for scale in (1, 2, 4, 4)):
        halve = map_size > 4 and stage < 3
        stride = 2 if halve and stage > 0 else 1
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers.append(conv)
        if halve and stage == 0:
            layers.append(nn.MaxPool2d(2))  # before the norm, which then has a quarter to do
        if config.norm == "batch":
            layers.append(nn.BatchNorm2d(outputs))
        else:
            layers.append(nn.GroupNorm(math.gcd(8, outputs), outputs))
        layers.append(nn.ReLU(inplace=True))
        if halve:
            map_size = map_size // 2 if stage == 0 else (map_size + 1) // 2
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def vit(config: EncoderConfig, *, channels: int, image_size: int) -> nn.Module:
    """A small ViT: 6 blocks of 4 x `width` features, a head for every 32 of them."""
    for name in ("stem", "norm"):
        _reject(config, name, "it belongs to convnets")
    num_features = 4 * config.width
    model: nn.Module = VisionTransformer(
        img_size=image_size,
        patch_size=_patch_size(config, image_size),
        in_chans=channels,
        num_classes=0,
        global_pool=config.pool or "token",
        embed_dim=num_features,
        depth=6,
        num_heads=max(1, num_features // 32),
        drop_path_rate=config.drop_path,
        dynamic_img_size=True,
    )
    return model


def timm_model(config: EncoderConfig, *, channels: int, image_size: int) -> nn.Module:
    """A timm model without its classifier, fitted to the image size."""
    if not timm.is_model(config.name):
        names = [*OURS, *timm.list_models()]
        near = difflib.get_close_matches(config.name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "use convnet or one of timm.list_models()."
        raise ValueError(f"Unknown encoder {config.name!r}; {hint}")
    for name in ("width", "norm"):
        _reject(config, name, "it belongs to our convnet")
    options: dict[str, Any] = {}
    if config.drop_path:
        options["drop_path_rate"] = config.drop_path
    cfg = timm.get_pretrained_cfg(config.name)
    if cfg is not None and cfg.fixed_input_size:
        options["img_size"] = image_size
    if timm.models.model_entrypoint(config.name).__module__ in VIT_MODULES:
        options["patch_size"] = _patch_size(config, image_size)
        options["dynamic_img_size"] = True  # local crops are smaller
        if config.pool is not None:
            options["global_pool"] = config.pool
    else:
        for name in ("patch_size", "pool"):
            _reject(config, name, "it belongs to ViTs")
    try:
        model: nn.Module = timm.create_model(
            config.name, num_classes=0, in_chans=channels, **options
        )
    except TypeError as error:
        raise ValueError(
            f"The timm model {config.name!r} does not take {' and '.join(options)} ({error}); "
            "leave encoder.drop_path at 0 or choose another model."
        ) from error
    if not isinstance(model, ResNet):
        _reject(config, "stem", "it belongs to ResNets")
    elif config.stem == "small" or (config.stem == "auto" and image_size < SMALL_IMAGE):
        _small_stem(model, channels)
    return model


OURS = {"convnet": convnet, "vit": vit}


def _small_stem(model: Any, channels: int) -> None:
    """Keep the resolution up to the first block, as ResNets for CIFAR do."""
    deep_stem = isinstance(model.conv1, nn.Sequential)  # of resnet50d: three 3x3 already
    if deep_stem:
        model.conv1[0].stride = (1, 1)
    else:
        model.conv1 = nn.Conv2d(channels, model.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def _patch_size(config: EncoderConfig, image_size: int) -> int:
    if config.patch_size is not None:
        divisors = [size for size in range(1, image_size + 1) if image_size % size == 0]
        if config.patch_size not in divisors:
            raise ValueError(
                f"patch_size {config.patch_size} does not divide images of {image_size} px; "
                f"choose one of {', '.join(map(str, divisors))}."
            )
        return config.patch_size
    named = re.search(r"patch(\d+)", config.name)
    return default_patch_size(image_size, int(named[1]) if named else 16)


def _reject(config: EncoderConfig, name: str, why: str) -> None:
    """Refuse a field that the chosen encoder would ignore."""
    value = getattr(config, name)
    if value != getattr(EncoderConfig(), name):
        raise ValueError(f"encoder.{name}={value} means nothing to {config.name!r}: {why}.")
