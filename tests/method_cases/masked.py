import tempfile
from pathlib import Path

from method_cases.case import CONVNET, VIT, Case
from raysl.encoder import EncoderConfig
from raysl.methods.parts.tokenizer import Tokenizer, save_tokenizer

VIT_AVG = EncoderConfig(name="vit", width=8, patch_size=4, pool="avg")
TIMM_VIT = EncoderConfig(name="vit_tiny_patch16_224", patch_size=4)
VITS = {"encoders": (VIT_AVG, VIT, TIMM_VIT), "refuses": CONVNET}

_FOLDER = tempfile.TemporaryDirectory()  # goes with the process
GIVEN = save_tokenizer(Tokenizer(channels=3, patch_size=4, vocabulary=16), Path(_FOLDER.name))

CASES = {
    "mae": Case(
        changes={
            "mask_ratio": 0.5,
            "decoder_width": 16,
            "decoder_depth": 1,
            "normalise_pixels": False,
        },
        **VITS,
    ),
    "beit": Case(
        changes={
            "mask_ratio": 0.6,
            "min_block": 0.4,
            "vocabulary": 16,
            "tokenizer_share": 0.6,
            "tokenizer": str(GIVEN),
        },
        **VITS,
    ),
    "ijepa": Case(
        changes={
            "num_targets": 2,
            "target_scale": (0.4, 0.5),
            "target_aspect": {"target_aspect": (4.0, 5.0), "target_scale": (0.4, 0.5)},
            "context_scale": (0.3, 0.4),
            "momentum": 0.5,
            "predictor_width": 16,
            "predictor_depth": 1,
            "loss": "smooth_l1",
        },
        **VITS,
    ),
}
