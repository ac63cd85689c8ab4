from method_cases.case import CONVNET, VIT, Case

CASES: dict[str, Case] = {
    "byol": Case(
        config={"hidden": 32, "width": 16},
        changes={
            "momentum": 0.5,
            "hidden": 16,
            "width": 8,
            "predictor": False,
            "stop_gradient": False,
        },
    ),
    "simsiam": Case(
        changes={
            "layers": 2,
            "width": 16,
            "bottleneck": 4,
            "predictor": False,
            "stop_gradient": False,
        },
    ),
    "dino": Case(
        config={"num_outputs": 32, "hidden": 32, "bottleneck": 16},
        changes={
            "num_outputs": 16,
            "hidden": 16,
            "bottleneck": 8,
            "depth": 2,
            "student_temperature": 0.2,
            "teacher_temperature": 0.03,
            "warmup_temperature": {"warmup_temperature": 0.02, "warmup": 0.5},
            "warmup": {"warmup": 0.5, "warmup_temperature": 0.02},
            "balance": "sinkhorn",
            "centre_momentum": 0.5,
            "momentum": 0.5,
            "ema": False,
            "frozen": 0.5,
        },
        # While the centre settles the targets' entropy rises, and with it the loss.
        falls_with={"centre_momentum": 1.0},
    ),
    "dinov2": Case(
        config={"num_outputs": 32, "hidden": 32, "bottleneck": 16},
        changes={
            "num_outputs": 16,
            "hidden": 16,
            "bottleneck": 8,
            "depth": 2,
            "student_temperature": 0.2,
            "teacher_temperature": 0.03,
            "warmup_temperature": {"warmup_temperature": 0.02, "warmup": 0.5},
            "warmup": {"warmup": 0.5, "warmup_temperature": 0.02},
            "balance": "centring",
            "centre_momentum": {"centre_momentum": 0.5, "balance": "centring"},
            "momentum": 0.5,
            "frozen": 0.5,
            "ibot_weight": 0.5,
            "koleo_weight": 0.0,
            "separate_head": False,
            "mask_probability": 1.0,
            "mask_ratio": (0.3, 0.4),
        },
        encoders=(VIT,),
        refuses=CONVNET,
    ),
}
