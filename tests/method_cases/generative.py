from method_cases.case import CONVNET, RESNET, VIT, Case

CASES: dict[str, Case] = {
    "rotation": Case(changes={}),
    "colorization": Case(changes={"decoder_width": 32}, channels=(3,), refuses_channels=(1, 4)),
    "super_resolution": Case(changes={"factor": 2.0, "decoder_width": 32}),
    "denoising": Case(changes={"masking": 0.5, "noise_std": 0.5, "decoder_width": 32}),
    "spark": Case(
        changes={"mask_ratio": 0.3, "decoder_width": 24}, encoders=(CONVNET, RESNET), refuses=VIT
    ),
}
