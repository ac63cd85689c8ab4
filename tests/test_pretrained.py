"""Public weights arrive as they are, fitted to the images as timm fits them, or not at all."""

import pytest
import timm
import torch
from huggingface_hub import constants

from raysl.data.digest import file_hash
from raysl.encoder import EncoderConfig, build_encoder
from raysl.methods import METHODS
from raysl.methods.pretrained import Pretrained, PretrainedConfig, Renormalise
from raysl.recipe import Recipe
from raysl.study.sizes import baseline_recipe
from raysl.trial import run_trial

RESNET, VIT = "resnet10t", "vit_tiny_patch16_224"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of timm models in files, as timm itself makes them, with their classifiers."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(7)
    models = {name: timm.create_model(name).eval() for name in (RESNET, VIT)}
    for name, model in models.items():
        torch.save(model.state_dict(), folder / f"{name}.pt")
    return folder, models


def config_of(path, **fields) -> PretrainedConfig:
    return PretrainedConfig(weights=str(path), digest=file_hash(path)[:16], **fields)


def build(config, name=RESNET, *, channels=3, size=64, mean=(0.5,), std=(0.25,), **encoder):
    encoder = {"stem": "standard", **encoder} if name == RESNET else encoder
    built = build_encoder(
        EncoderConfig(name=name, **encoder),
        channels=channels,
        image_size=size,
        mean=mean,
        std=std,
    )
    return Pretrained(
        config, built, num_examples=16, num_classes=0, batch_size=2, num_steps=9
    ).eval()


def test_the_features_are_those_of_the_model_in_the_file(files):
    folder, models = files
    images = torch.randn(2, 3, 64, 64)
    method = build(config_of(folder / f"{RESNET}.pt"))
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    pixels = images * 0.25 + 0.5
    expected = models[RESNET].forward_head(
        models[RESNET].forward_features((pixels - mean) / std), pre_logits=True
    )
    assert torch.allclose(method.evaluated(images), expected, atol=1e-4)


def test_the_recipes_normalisation_does_not_reach_the_features(files):
    folder, _ = files
    pixels = torch.rand(2, 3, 64, 64)
    found = []
    for mean, std in (((0.5,), (0.25,)), ((0.1, 0.7, 0.3), (0.2, 0.5, 0.1))):
        method = build(config_of(folder / f"{RESNET}.pt"), mean=mean, std=std)
        given = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        found += [method.encoder(given), method.encoder.maps(given).mean(dim=(2, 3))]
    assert all(torch.allclose(features, found[0], atol=1e-4) for features in found)


def test_a_normalisation_in_the_recipe_takes_the_place_of_timms(files):
    folder, _ = files
    images = torch.randn(2, 3, 64, 64)
    path = folder / f"{RESNET}.pt"
    usual, own, shifted = (
        build(config_of(path, **fields)).encoder(images)
        for fields in ({}, {"mean": IMAGENET[0], "std": IMAGENET[1]}, {"mean": (0.9, 0.9, 0.9)})
    )
    assert torch.equal(usual, own)
    assert not torch.allclose(usual, shifted, atol=1e-3)
    stretched = build(config_of(path, std=(0.9, 0.9, 0.9))).encoder(images)
    assert not torch.allclose(usual, stretched, atol=1e-3)


def test_renormalising_there_and_back_changes_nothing():
    one, other = ((0.3,), (0.2,)), IMAGENET
    images = torch.randn(2, 3, 4, 4)
    there, back = (Renormalise(*pair, channels=3) for pair in ((one, other), (other, one)))
    assert torch.allclose(back(there(images)), images, atol=1e-6)


def test_grey_images_give_the_features_of_their_three_equal_channels(files):
    folder, _ = files
    same = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    for name in (RESNET, VIT):
        config = config_of(folder / f"{name}.pt", **same)
        grey = torch.randn(2, 1, 64, 64)
        one, three = (build(config, name, channels=c) for c in (1, 3))
        expected = three.encoder(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(one.encoder(grey), expected, atol=1e-3), name


@pytest.mark.parametrize(("size", "patch"), [(224, 16), (96, 12), (32, 4)])
def test_positions_and_patches_follow_the_image(size, patch, files):
    folder, models = files
    method = build(config_of(folder / f"{VIT}.pt"), VIT, size=size)
    body, known = method.encoder.body, models[VIT]
    assert body.patch_embed.patch_size == (patch, patch)
    assert body.pos_embed.shape[1] == (size // patch) ** 2 + 1
    assert torch.equal(body.pos_embed[:, 0], known.pos_embed[:, 0])
    assert torch.equal(body.blocks[3].mlp.fc1.weight, known.blocks[3].mlp.fc1.weight)
    if size == 224:
        assert torch.equal(body.pos_embed, known.pos_embed)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_safetensors_and_nested_checkpoints_are_read(suffix, files, tmp_path):
    from safetensors.torch import save_file

    _, models = files
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(models[RESNET].state_dict(), path)
    else:
        torch.save({"epoch": 3, "state_dict": models[RESNET].state_dict()}, path)
    weight = build(config_of(path)).encoder.body.layer2[0].conv1.weight
    assert torch.equal(weight, models[RESNET].layer2[0].conv1.weight)


def test_a_trial_evaluates_the_weights_and_trains_nothing(files, splits, tmp_path):
    folder, models = files
    recipe = Recipe.create("pretrained", dataset=splits.digest, label_size=16, batch_size=2)
    assert recipe.views.size == 224
    path = folder / f"{RESNET}.pt"
    small = {"encoder.name": RESNET, "views.size": 32, "method.weights": str(path)}
    recipe = recipe.with_overrides({**small, "method.digest": file_hash(path)[:16]})
    result = run_trial(recipe, splits, directory=tmp_path, final=True)
    assert result.cost["steps"] == 0
    kept = torch.load(tmp_path / "encoder.pt", weights_only=True)["encoder"]
    assert torch.equal(kept["body.layer1.0.conv1.weight"], models[RESNET].layer1[0].conv1.weight)
    assert kept["adapt.scale"].shape == (3, 1, 1)  # the transform goes with the weights


def test_beside_other_arms_it_keeps_its_own_size_unless_the_study_sets_one(splits):
    base = Recipe.create("simclr", dataset=splits.digest, pool_size=24, label_size=16, batch_size=8)
    assert baseline_recipe(base, "pretrained", 24).views.size == 224
    smaller = base.with_overrides({"views.size": 48})
    assert baseline_recipe(smaller, "pretrained", 24).views.size == 48
    assert baseline_recipe(base, "scratch", 24).views.size is None


def test_what_does_not_fit_gets_a_sentence_and_no_weights(files, tmp_path):
    folder, models = files
    resnet, vit = folder / f"{RESNET}.pt", folder / f"{VIT}.pt"
    with pytest.raises(ValueError, match=r"not those of encoder\.name=resnet10t.*lack"):
        build(config_of(vit))
    with pytest.raises(ValueError, match=r"not those of encoder\.name=resnet18"):
        build(config_of(resnet), "resnet18", stem="standard")
    partial = {k: v for k, v in models[RESNET].state_dict().items() if "layer4" not in k}
    torch.save(partial, tmp_path / "partial.pt")
    with pytest.raises(ValueError, match="they lack layer4"):
        build(config_of(tmp_path / "partial.pt"))
    more = {**models[RESNET].state_dict(), "layer5.weight": torch.zeros(1)}
    torch.save(more, tmp_path / "more.pt")
    with pytest.raises(ValueError, match=r"they have besides layer5\.weight"):
        build(config_of(tmp_path / "more.pt"))
    with pytest.raises(ValueError, match=r"stem=standard and views\.size=224"):
        build(config_of(resnet), stem="small")


def test_a_file_that_is_missing_another_or_unsafe_gets_a_sentence(files, tmp_path):
    folder, _ = files
    with pytest.raises(ValueError, match=r"There is no file .*leave method\.weights at none"):
        build(PretrainedConfig(weights=str(tmp_path / "none.pt")))
    path = folder / f"{RESNET}.pt"
    for digest in (None, "0" * 16):
        wrong = PretrainedConfig(weights=str(path), digest=digest)
        with pytest.raises(ValueError, match=f"set method.digest={file_hash(path)[:16]}"):
            build(wrong)
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"state_dict": print}, tmp_path / "code.pt")  # would run on loading
    for name in ("text.pt", "code.pt"):
        with pytest.raises(ValueError, match="holds no state dict that can be read safely"):
            build(config_of(tmp_path / name))


def test_a_model_without_public_weights_gets_a_sentence():
    name = "mobilenetv4_conv_small_035"
    assert not timm.get_pretrained_cfg(name).has_weights
    with pytest.raises(ValueError, match="no public weights"):
        build(PretrainedConfig(), name)


def test_a_hub_out_of_reach_gets_a_sentence_at_once(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"could not be fetched from .* give a file as method\.weig"
    ):
        build(PretrainedConfig())
    assert "Retrying" not in capfd.readouterr().err


def test_it_belongs_to_the_baselines_and_feeds_on_nothing():
    assert METHODS["pretrained"] is Pretrained
    assert (Pretrained.family, Pretrained.trains_on) == ("baseline", "nothing")
    assert not Pretrained.uses_labels()
