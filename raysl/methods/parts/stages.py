"""The maps that a convnet has on its way, one of each size."""

from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from torch import Tensor, nn

from raysl.encoder import Encoder


def maps_of(encoder: Encoder, images: Tensor) -> list[Tensor]:
    """The last map of each size, the smallest first; that is `encoder.maps`."""
    found: dict[int, Tensor] = {}

    def keep(stage: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found[output.shape[2]] = output

    hooks = [stage.register_forward_hook(keep) for stage in stages_of(encoder)]
    try:
        last = encoder.maps(images)
    finally:
        for hook in hooks:
            hook.remove()
    found[last.shape[2]] = last
    return [found[side] for side in sorted(found)]


def stages_of(encoder: Encoder) -> list[nn.Module]:
    """The modules whose outputs are the encoder's maps; none where it is no such convnet."""
    body = encoder.body
    if isinstance(body, ResNet):
        return [body.layer1, body.layer2, body.layer3, body.layer4]
    if isinstance(body, ConvNeXt):
        return list(body.stages)
    if isinstance(body, nn.Sequential):
        return [layer for layer in body if isinstance(layer, nn.ReLU)]
    return []


def require_stages(encoder: Encoder, method: str) -> None:
    """A sentence unless the encoder is a convnet whose stages are known."""
    if not stages_of(encoder):
        raise ValueError(
            f"{method} needs a convnet, such as convnet, resnet18 or convnext_atto, not "
            f"{encoder.name!r}."
        )
