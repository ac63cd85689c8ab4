"""BEiT's loss is that of the paper; its tokenizer learns first and then stands still."""

import itertools
import math

import pytest
import torch
from method_cases.masked import GIVEN
from method_steps import batch_of, build

from raysl.methods.beit import BEiTConfig, usage, vocabulary_for
from raysl.methods.parts.masks import NUM_BLOCKS, blockwise
from raysl.methods.parts.tokenizer import Tokenizer, levels_of, load_tokenizer, save_tokenizer
from raysl.rng import generator


def naive_loss(method, images, hidden):
    """Equation 3, patch by patch, with timm's own parts."""
    vit = method.encoder.body
    terms = []
    for image, row in zip(images, hidden.tolist(), strict=True):
        tokens = method.tokenizer.tokens(image[None])[0]
        patches = vit.patch_embed(image[None])[0].flatten(0, 1)
        patches = torch.stack(
            [method.mask_token if i in row else patch for i, patch in enumerate(patches)]
        )
        x = (torch.cat([vit.cls_token[0], patches]) + vit.pos_embed[0])[None]
        for block in vit.blocks:
            x = block(x)
        logits = method.predict(vit.fc_norm(vit.norm(x)))[0, 1:]
        for number in row:
            exponents = [math.exp(float(v)) for v in logits[number]]
            terms.append(-math.log(exponents[int(tokens[number])] / sum(exponents)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.7])
@torch.no_grad()
def test_the_loss_equals_the_equation(ratio):
    method = build("beit", mask_ratio=ratio).double()
    method.mask_token.normal_()
    batch = batch_of("beit", 3, progress=0.5)
    images = batch.views[0] = batch.views[0].double()
    hidden = blockwise(
        torch.rand(3, NUM_BLOCKS, 4, generator=generator(0, "test")),
        side=4,
        num_hidden=16 - int(16 * (1 - ratio)),
        min_share=0.08,
    )
    expected = naive_loss(method, images, hidden)
    assert float(method(batch)["loss"]) == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_a_uniform_prediction_costs_the_log_of_the_vocabulary():
    method = build("beit", vocabulary=64)
    torch.nn.init.zeros_(method.predict.weight)
    torch.nn.init.zeros_(method.predict.bias)
    outputs = method(batch_of("beit", 4, progress=0.5))
    assert float(outputs["loss"]) == pytest.approx(math.log(64), abs=1e-5)


def moved(method, progress):
    """Which parts an update moves after an earlier one at progress 0."""
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    for now in (0.0, progress):
        before = {name: p.detach().clone() for name, p in method.named_parameters()}
        method(batch_of("beit", 4, progress=now))["loss"].backward()
        method.before_update(now)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    now = dict(method.named_parameters())
    return {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}


def test_the_tokenizer_moves_in_its_share_of_the_training_only():
    rest = {"encoder", "mask_token", "predict"}
    assert moved(build("beit", tokenizer_share=0.5), 0.4) == {*rest, "tokenizer"}
    assert moved(build("beit", tokenizer_share=0.5), 0.5) == rest
    assert moved(build("beit", tokenizer=str(GIVEN)), 0.0) == rest


def test_the_encoder_learns_nothing_from_painting():
    """Its gradient is that of the tokens alone."""
    found = []
    for part in ("loss", "token_loss"):
        method = build("beit")
        method(batch_of("beit", 4, progress=0.0))[part].backward()
        found.append(torch.cat([p.grad.flatten() for p in method.encoder.parameters()]))
    assert torch.equal(*found)


@pytest.mark.parametrize("vocabulary", [2**bits for bits in range(2, 14)])
def test_levels_multiply_to_the_vocabulary(vocabulary):
    assert math.prod(levels_of(vocabulary)) == vocabulary
    assert set(levels_of(vocabulary)) <= {4, 8}


@pytest.mark.parametrize("vocabulary", [3, 2, 1, 0, -4, 100])
def test_other_vocabularies_get_a_sentence(vocabulary):
    with pytest.raises(ValueError, match=r"method\.vocabulary must be a power of two"):
        BEiTConfig(vocabulary=vocabulary)


def test_every_combination_of_levels_is_a_token_of_its_own():
    tokenizer = Tokenizer(channels=1, patch_size=2, vocabulary=256)
    combinations = itertools.product(*(range(int(level)) for level in tokenizer.levels))
    numbers = tokenizer.numbered(torch.tensor(list(combinations), dtype=torch.float32)[None])
    assert sorted(numbers.flatten().tolist()) == list(range(256))


def test_places_at_the_very_end_stay_within_the_levels():
    tokenizer = Tokenizer(channels=1, patch_size=2, vocabulary=64)
    for bias in (-1e4, 1e4):
        torch.nn.init.constant_(tokenizer.encode[-1].bias, bias)
        assert tokenizer.tokens(torch.randn(1, 1, 4, 4)).unique().tolist() == [
            0 if bias < 0 else 63
        ]


def test_painting_teaches_the_tokenizer_to_paint():
    torch.manual_seed(0)
    tokenizer = Tokenizer(channels=1, patch_size=4, vocabulary=64)
    shades = torch.rand(32, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    for _ in range(60):
        tokens, error = tokenizer(shades)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert not [n for n, p in tokenizer.named_parameters() if p.grad is None]
    assert error.item() < 0.2 * float(shades.var())
    assert len(tokens.unique()) >= 8
    assert torch.equal(tokenizer.tokens(shades), tokenizer(shades)[0])


def test_a_given_tokenizer_gives_the_tokens_that_it_was_saved_with(tmp_path):
    tokenizer = Tokenizer(channels=3, patch_size=4, vocabulary=32)
    path = save_tokenizer(tokenizer, tmp_path)
    method = build("beit", tokenizer=str(path))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(method.tokenizer.tokens(images), tokenizer.tokens(images))
    assert method.predict.out_features == 32
    with pytest.raises(ValueError, match=r"vocabulary=64 .* has 32"):
        build("beit", tokenizer=str(path), vocabulary=64)


def test_a_file_that_is_not_what_its_name_says_or_does_not_fit_gets_a_sentence(tmp_path):
    path = save_tokenizer(Tokenizer(channels=3, patch_size=4, vocabulary=32), tmp_path)
    with pytest.raises(ValueError, match=r"patches of 4 px, not for 3 and 2"):
        load_tokenizer(path, channels=3, patch_size=2)
    other = save_tokenizer(Tokenizer(channels=3, patch_size=4, vocabulary=64), tmp_path)
    path.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match="digest of its content"):
        load_tokenizer(path, channels=3, patch_size=4)
    with pytest.raises(ValueError, match="there is no file"):
        load_tokenizer(tmp_path / "absent.pt", channels=3, patch_size=4)


def test_the_vocabulary_follows_the_root_of_the_number_of_images():
    assert [vocabulary_for(n) for n in (16, 5_000, 50_000, 300_000, 1_281_167, 10**8)] == [
        64,
        512,
        2048,
        4096,
        8192,
        8192,
    ]


def test_usage_is_one_if_all_tokens_are_used_equally_and_zero_if_one_is():
    assert float(usage(torch.arange(64), 64)) == pytest.approx(1)
    assert float(usage(torch.arange(8).repeat(3), 64)) == pytest.approx(0.5)
    assert float(usage(torch.zeros(9, dtype=torch.int64), 64)) == 0


@pytest.mark.parametrize(
    ("field", "value"), [("mask_ratio", 1.0), ("min_block", 0.0), ("tokenizer_share", 1.0)]
)
def test_wrong_parameters_get_a_sentence(field, value):
    with pytest.raises(ValueError, match=f"method.{field} must"):
        BEiTConfig(**{field: value})
