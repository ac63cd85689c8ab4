"""Heads on several views: batch norms see each view by itself, and everything else equals that."""

import copy

import pytest
import torch
from torch import nn

from raysl.encoder import EncoderConfig, build_encoder
from raysl.methods.parts.heads import by_view, mlp, require_widths


def views():
    return torch.randn(2, 6, 3, 16, 16, generator=torch.Generator().manual_seed(0)).unbind()


def layers(**encoder):
    torch.manual_seed(0)
    config = EncoderConfig(**{"width": 4, **encoder})
    encoder = build_encoder(config, channels=3, image_size=16)
    return nn.Sequential(encoder, *mlp(encoder.num_features, (10, 5), final_norm=True))


@pytest.mark.parametrize("encoder", [{}, {"norm": "group"}, {"name": "vit"}])
def test_views_at_once_are_views_one_after_the_other_statistics_and_gradients_included(encoder):
    together = layers(**encoder).double()
    apart = copy.deepcopy(together)
    images = [view.double() for view in views()]
    weights = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1)).double()
    found = by_view(together, images)
    expected = torch.stack([apart(view) for view in images])
    assert torch.allclose(found, expected)
    for outputs in (found, expected):
        (outputs * weights).sum().backward()
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad)
    for one, other in zip(together.buffers(), apart.buffers(), strict=True):
        assert torch.allclose(one, other)


def test_views_in_one_batch_would_have_other_statistics():
    network = layers()
    joined = network(torch.cat(views())).unflatten(0, (2, -1))
    assert not torch.allclose(by_view(layers(), views()), joined, atol=0.01)


@pytest.mark.parametrize(("norm", "passes"), [("batch", [6, 6]), ("group", [12])])
def test_an_encoder_without_batch_norm_takes_all_views_in_one_pass(norm, passes):
    network, seen = layers(norm=norm), []
    network[0].register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    by_view(network, views())
    assert seen == passes


def test_no_layers_leave_the_views_as_they_are():
    z = torch.randn(2, 3, 4)
    assert by_view(nn.Sequential(), z) is z


def test_a_head_has_norms_and_activations_between_its_layers_alone():
    kinds = [type(layer) for layer in mlp(4, (8, 2))]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert isinstance(mlp(4, (8, 2), final_norm=True)[-1], nn.BatchNorm1d)
    assert [type(layer) for layer in mlp(4, (2,))] == [nn.Linear]
    for widths in ((), (8, 0)):
        with pytest.raises(ValueError, match=r"method\.projector"):
            require_widths("projector", widths)
