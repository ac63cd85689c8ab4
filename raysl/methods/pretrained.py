"""Public weights: an encoder that others pretrained, evaluated as it is.

    features = f(a x + b), a and b from the recipe's normalisation to that of the weights

The arm that asks whether pretraining on one's own images is needed at all. No training; weights
come from timm's hub (supervised on ImageNet, DINO, DINOv2, MAE, CLIP ...) or from a file.

Kornblith, Shlens, Le, "Do Better ImageNet Models Transfer Better?", CVPR 2019, arXiv 1805.08974.

Adapted as timm does it: the input filters are summed for grey images, repeated and rescaled for
other channels; ViTs' patches and positions are resampled to the image's grid. Not adapted: a
ResNet's stem, so the one for small images is refused, and the size, which costs accuracy far from
that of the pre-training, so images are resized to 224 by default (views.size). The normalisation
is always that of the weights: the encoder undoes the recipe's.
"""

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from raysl.data.digest import file_hash
from raysl.encoder import OURS, Encoder, EncoderConfig
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.optim import OptimConfig
from raysl.views import VIEWS

CHOICE = "such as encoder.name=resnet18.a1_in1k or vit_small_patch14_dinov2.lvd142m"
Statistics = tuple[float, ...]
Normalisation = tuple[Statistics, Statistics]  # mean and std


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(MethodConfig):
    """weights: a file of the encoder's own state dict, .safetensors or what torch.save wrote.
    digest: the first 16 hex digits of the file's SHA-256: the recipe names what it loads.
    mean, std: of pixels in 0-1, by which the images of the pre-training were normalised.
    """

    weights: str | None = None
    digest: str | None = None
    mean: Statistics | None = None
    std: Statistics | None = None


class Pretrained(Method):
    """Evaluate an encoder with public weights."""

    Config = PretrainedConfig
    family = "baseline"
    paper = "Kornblith et al., CVPR 2019, arXiv 1805.08974; weights of timm's hub"
    trains_on = "nothing"
    views = replace(VIEWS["none"], size=224)
    optim = OptimConfig()
    encoders = "timm models with public weights"
    encoder_config = EncoderConfig(name="resnet18", stem="standard")
    scaling: ClassVar[Mapping[str, str]] = {
        "weights": "none: those that timm's hub has for encoder.name, which may carry a tag",
        "digest": "none: no file is given",
        "mean": "none: what timm says of encoder.name",
        "std": "none: what timm says of encoder.name",
    }
    config: PretrainedConfig

    def __init__(self, config: PretrainedConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        if encoder.name in OURS:
            raise ValueError(f"pretrained needs a timm model, {CHOICE}, not {encoder.name!r}.")
        body: Any = encoder.body
        if isinstance(body, ResNet) and isinstance(body.maxpool, nn.Identity):
            raise ValueError(
                "pretrained needs the stem that the weights were trained with, not the one for "
                "small images; set encoder.stem=standard and views.size=224."
            )
        if config.weights is None:
            weights = hub_weights(encoder.name, body.pretrained_cfg)
        else:
            weights = file_weights(Path(config.weights).expanduser(), config.digest)
        load(weights, encoder)
        encoder.adapt = Renormalise(
            (encoder.mean, encoder.std),
            (config.mean or body.pretrained_cfg["mean"], config.std or body.pretrained_cfg["std"]),
            channels=encoder.channels,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("public weights are never trained")


class Renormalise(nn.Module):
    """Images normalised by one (mean, std) as another one would have normalised them."""

    scale: Tensor  # [C, 1, 1]
    shift: Tensor  # [C, 1, 1]

    def __init__(self, given: Normalisation, wanted: Normalisation, *, channels: int):
        super().__init__()
        (mean, std), (own_mean, own_std) = (
            [_per_channel(values, channels) for values in pair] for pair in (given, wanted)
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift  # [B, C, S, S]


def load(weights: Mapping[str, Tensor], encoder: Encoder) -> None:
    """Give the encoder these weights, adapted to its channels, patches and grid; all or none."""
    body: Any = encoder.body
    module = sys.modules[timm.models.model_entrypoint(encoder.name).__module__]
    adapt = getattr(module, "checkpoint_filter_fn", None)
    wrong = (
        f"The weights are not those of encoder.name={encoder.name}: {{}}. Choose the encoder that "
        "they belong to, and leave its other fields at their defaults."
    )
    try:
        found = dict(weights if adapt is None else adapt(dict(weights), body))
        for name in _names(body.pretrained_cfg["first_conv"]):
            known, own = found.get(f"{name}.weight"), body.get_submodule(name).weight
            if known is not None and known.ndim == 4 and known.shape[1] != own.shape[1]:
                found[f"{name}.weight"] = timm.models.adapt_input_conv(encoder.channels, known)
        classifiers = tuple(f"{name}." for name in _names(body.pretrained_cfg["classifier"]))
        found = {key: value for key, value in found.items() if not key.startswith(classifiers)}
        missing, unknown = body.load_state_dict(found, strict=False)
    except (RuntimeError, KeyError, AttributeError, NotImplementedError) as error:
        raise ValueError(wrong.format(_first_lines(error))) from error
    for what, keys in (("they lack", missing), ("they have besides", unknown)):
        if keys:
            raise ValueError(wrong.format(f"{what} {', '.join(keys[:3])}"))


def file_weights(path: Path, digest: str | None) -> dict[str, Tensor]:
    """The state dict in a file, if it is the file that the recipe means."""
    if not path.is_file():
        raise ValueError(
            f"There is no file {path}; name a state dict, or leave method.weights at none for "
            f"the weights of timm's hub, {CHOICE}."
        )
    actual = file_hash(path)[:16]
    if digest != actual:
        raise ValueError(
            f"{path} has the digest {actual} and the recipe names {digest or 'none'}; set "
            f"method.digest={actual} if this is the file that you mean."
        )
    try:
        found: dict[str, Tensor] = timm.models.load_state_dict(str(path), weights_only=True)
    except (RuntimeError, OSError, pickle.UnpicklingError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no state dict that can be read safely ({_first_lines(error)}); save it "
            "again as torch.save(model.state_dict(), FILE) or as safetensors."
        ) from error
    return found


def hub_weights(name: str, cfg: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict that timm's hub has for a model, from the local cache or downloaded."""
    hub = cfg.get("hf_hub_id")
    if not hub and not cfg.get("url"):
        raise ValueError(
            f"timm has no public weights for encoder.name={name}; choose one of "
            f"timm.list_pretrained(), {CHOICE}, or give a file as method.weights."
        )
    cached = huggingface_hub.try_to_load_from_cache(hub, "model.safetensors") if hub else None
    if isinstance(cached, str):
        return file_weights(Path(cached), file_hash(Path(cached))[:16])
    try:
        # A download from a hub that is out of reach tries again for a minute.
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=10)
        return dict(timm.create_model(name, pretrained=True, num_classes=0).state_dict())
    except Exception as error:  # of whichever library was on the way
        raise ValueError(
            f"The weights of {name} could not be fetched from {huggingface_hub.constants.ENDPOINT} "
            f"({_first_lines(error)}); run this where there is a network, once, or give a file as "
            "method.weights."
        ) from error


def _per_channel(values: Statistics, channels: int) -> Tensor:
    """[C, 1, 1]; their mean where there are neither one nor C of them, as for grey images."""
    found = torch.tensor(values)
    found = found if len(found) == channels else found.mean().expand(channels)
    return found[:, None, None].clone()


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split()[:30]) or type(error).__name__
