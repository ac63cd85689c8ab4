"""A convnet of visible squares: its norms, its maps, and which layers need no zeros behind them."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from gloo import work_together
from timm.layers import BatchNormAct2d, LayerNorm2d
from timm.models.convnext import ConvNeXt
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysl.encoder import Encoder, EncoderConfig, build_encoder
from raysl.methods.parts.sparse import POINTWISE_OR_LOCAL, Squares, only, read_by_place
from raysl.methods.parts.stages import maps_of
from raysl.methods.parts.workers import num_workers, worker_rank

CONVNEXT_STAGES = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 0}
ENCODERS = [  # with sizes of which all maps divide into equal squares, and others
    ("convnet", 28),
    ("convnet", 30),
    ("convnet", 32),
    ("convnet_group", 28),
    ("convnet_group", 32),
    ("resnet10t", 20),  # a deep stem and average pools
    ("resnet14t", 16),  # bottlenecks
    ("resnet18", 16),
    ("resnet18", 20),
    ("resnetblur18", 20),
    ("seresnet18", 20),
    ("skresnet18", 16),  # batch norms with activations, and one behind a pool over space
    ("convnext", 64),
    ("convnext_linear", 64),
    ("convnext_atto", 64),
    ("convnext_atto", 72),
]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def small_encoder(name, size, *, channels=3):
    """A timm model, our convnet, or a small ConvNeXt whose blocks are of convolutions or linear."""
    torch.manual_seed(0)
    if name in ("convnext", "convnext_linear"):
        linear = name == "convnext_linear"
        body = ConvNeXt(in_chans=channels, conv_mlp=not linear, use_grn=linear, **CONVNEXT_STAGES)
        encoder = Encoder(body, name=name, num_features=32, channels=channels, image_size=size)
    else:
        ours = {"width": 8} if name.startswith("convnet") else {}
        norm = {"norm": "group"} if name == "convnet_group" else {}
        config = EncoderConfig(name=name.removesuffix("_group"), **ours, **norm)
        encoder = build_encoder(config, channels=channels, image_size=size)
    with torch.no_grad():
        for parameter in encoder.parameters():  # biases and layer scales that could give away
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def random_squares(count, side, *, seed=0):
    """Half of the squares of each image."""
    noise = torch.rand(count, side * side, generator=torch.Generator().manual_seed(seed))
    visible = noise.argsort(1).argsort(1) < side * side // 2
    return Squares(visible.unflatten(1, (side, side)), side * side // 2)


@contextmanager
def by_hand(squares, encoder):
    """What `only` does, the long way: every layer masked, norms of rows that a mask picks."""

    def norm_of_rows(norm, x, visible):
        if isinstance(norm, nn.GroupNorm):
            pairs = zip(x, visible, strict=True)
            picked = [image[:, places][None] for image, places in pairs]  # [1, C, m] each
            rows = [
                F.group_norm(one, norm.num_groups, norm.weight, norm.bias, norm.eps)[0].T
                for one in picked
            ]
            return torch.cat(rows)
        rows = x.permute(0, 2, 3, 1)[visible]
        rows = F.batch_norm(rows, None, None, norm.weight, norm.bias, training=True)
        return norm.act(rows) if isinstance(norm, BatchNormAct2d) else rows

    def replaced(layer, inputs, y):
        last = isinstance(layer, nn.Linear | nn.LayerNorm) and not isinstance(layer, LayerNorm2d)
        size = y.shape[1 if last else 2] if y.ndim == 4 else 0
        if size < squares.side:
            return y
        visible = squares.at(size)[:, 0]
        if not isinstance(layer, _BatchNorm | nn.GroupNorm):
            return y * visible[..., None] if last else y * visible[:, None]
        z = torch.zeros_like(y.permute(0, 2, 3, 1))
        z[visible] = norm_of_rows(layer, inputs[0], visible)
        return z.permute(0, 3, 1, 2)

    kinds = (*POINTWISE_OR_LOCAL, _BatchNorm, nn.GroupNorm)
    layers = [layer for layer in encoder.modules() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_hook(replaced) for layer in layers]
    yield
    for hook in hooks:
        hook.remove()


@contextmanager
def noise_behind(layers, squares):
    """Within it these layers' maps have large noise in all hidden places."""

    def disturbed(layer, inputs, y):
        last = isinstance(layer, nn.Linear | nn.LayerNorm) and not isinstance(layer, LayerNorm2d)
        size = y.shape[1 if last else 2]
        if y.ndim != 4 or size < squares.side:
            return y
        visible = squares.at(size)
        visible = visible.permute(0, 2, 3, 1) if last else visible
        return torch.where(visible, y, 100 * torch.randn_like(y))

    hooks = [layer.register_forward_hook(disturbed) for layer in layers]
    yield
    for hook in hooks:
        hook.remove()


def maps_and_gradients(encoder, images):
    """The maps, and the gradient of a random sum of them to each parameter."""
    encoder.zero_grad()
    maps = maps_of(encoder, images)
    draw = torch.Generator().manual_seed(1)
    sum((x * torch.randn(x.shape, generator=draw)).sum() for x in maps).backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return [x.detach() for x in maps], gradients


@pytest.mark.parametrize(("name", "size"), ENCODERS)
def test_maps_and_gradients_are_those_of_masking_every_layer(name, size):
    """Whatever is in hidden places of the layers that are not masked."""
    encoder = small_encoder(name, size).double()
    side = min(x.shape[2] for x in maps_of(encoder, torch.randn(2, 3, size, size).double()))
    squares = random_squares(2, side)
    images = torch.randn(2, 3, size, size, dtype=torch.float64) * squares.at(size)
    with by_hand(squares, encoder):
        expected = maps_and_gradients(encoder, images)
    unmasked = {layer for layer in read_by_place(encoder) if isinstance(layer, POINTWISE_OR_LOCAL)}
    assert unmasked
    with only(squares, encoder), noise_behind(unmasked, squares):
        found = maps_and_gradients(encoder, images)
    torch.testing.assert_close(found, expected)


NORMS = {
    "batch": lambda: nn.BatchNorm2d(5),
    "mean of all updates": lambda: nn.BatchNorm2d(5, momentum=None),
    "no statistics": lambda: nn.BatchNorm2d(5, track_running_stats=False),
    "synchronised": lambda: nn.SyncBatchNorm(5),
    "with activation": lambda: BatchNormAct2d(5),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [12, 14])
@pytest.mark.parametrize("name", NORMS)
def test_sparse_batch_norm_is_batch_norm_of_the_visible_places(name, size, layout):
    norm, reference = NORMS[name](), NORMS[name]()
    for module in (norm, reference):
        module.weight.data, module.bias.data = torch.arange(5.0), torch.ones(5)
    squares = random_squares(4, 4)
    visible = squares.at(size)[:, 0]
    for training in (True, True, False):
        x = (torch.randn(4, 5, size, size) * 3 + 2).contiguous(memory_format=layout)
        norm.train(training)
        reference.train(training)
        with only(squares, norm):
            y = norm(x)
        expected = reference(x.permute(0, 2, 3, 1)[visible].T[None, :, :, None])
        torch.testing.assert_close(y.permute(0, 2, 3, 1)[visible], expected[0, :, :, 0].T)
        assert not y.permute(0, 2, 3, 1)[~visible].any()
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer)


@pytest.mark.parametrize("size", [8, 10])
def test_sparse_group_norm_is_group_norm_of_an_images_visible_places(size):
    norm = nn.GroupNorm(2, 6)
    norm.weight.data, norm.bias.data = torch.arange(6.0), torch.ones(6)
    squares = random_squares(3, 4)
    x = torch.randn(3, 6, size, size) * 3 + 2
    with only(squares, norm):
        y = norm(x)
    for b in range(3):
        places = squares.at(size)[b, 0]
        expected = norm(x[b][:, places][None])[0]  # [D, places]
        torch.testing.assert_close(y[b][:, places], expected)
        assert not y[b][:, ~places].any()


@pytest.mark.parametrize("size", [4, 6])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4)])
def test_gradients_of_a_sparse_norm_are_those_of_its_values(norm, size):
    norm.double()
    squares = random_squares(2, 4)
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, size, size), 4, 4)
    )

    def sparse(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, x)

    with only(squares, norm):
        assert torch.autograd.gradcheck(sparse, (x, weight, bias))


def test_squares_of_which_nothing_else_is_known_have_the_same_places():
    for size in (4, 6, 8):
        known, unknown = random_squares(3, 4), Squares(random_squares(3, 4).visible)
        expected = known.at(size).flatten().nonzero()[:, 0]
        assert torch.equal(known.places(size), expected)
        assert torch.equal(unknown.places(size), expected)


def test_a_sparse_norm_has_the_precision_of_the_norm():
    norm, squares = nn.BatchNorm2d(4), random_squares(2, 4)
    x = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        with only(squares, norm):
            sparse = norm(x)
        assert sparse.dtype == norm(x).dtype == torch.bfloat16


def synchronised():
    return norm_of_share(nn.SyncBatchNorm(3), worker_rank(), num_workers())


def norm_of_share(norm, rank=0, world=1):
    """What a norm makes of this worker's images, and the gradient of a mean over all of them."""
    part = slice(rank * 4 // world, (rank + 1) * 4 // world)
    draw = torch.Generator().manual_seed(0)
    x, weights = (torch.randn(4, 3, 8, 8, generator=draw)[part].cuda() for _ in range(2))
    x.requires_grad_()
    with only(Squares(random_squares(4, 2).visible[part].cuda()), norm.cuda()):
        y = norm(x)
    (y * weights).sum().backward()
    found = (y.detach(), x.grad, norm.running_mean, norm.running_var)
    return tuple(tensor.cpu() for tensor in found)


@on_gpu  # PyTorch synchronises batch norm on GPUs only, and so do we
@pytest.mark.slow
def test_synchronised_batch_norm_has_the_visible_places_of_all_workers(tmp_path):
    first, second = work_together(synchronised, 2, tmp_path)
    y, gradient, mean, variance = norm_of_share(nn.BatchNorm2d(3))
    torch.testing.assert_close(torch.cat([first[0], second[0]]), y)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), gradient)
    torch.testing.assert_close((first[2], first[3]), (mean, variance))


def test_the_encoder_is_dense_again_after_a_pass_and_after_an_error():
    encoder = small_encoder("convnet", 28).eval()
    images = torch.randn(2, 3, 28, 28)
    before = encoder(images)
    squares = random_squares(2, 4)
    with only(squares, encoder):
        assert not torch.equal(encoder(images), before)
    assert torch.equal(encoder(images), before)
    with pytest.raises(RuntimeError), only(squares, encoder):
        encoder(images[:, :2])
    assert torch.equal(encoder(images), before)
