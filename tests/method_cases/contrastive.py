from method_cases.case import CONVNET, RESNET, VIT, Case
from raysl.encoder import EncoderConfig

CASES = {
    "npid": Case(
        changes={
            "temperature": 0.2,
            "width": 16,
            "bank_momentum": 0.9,
            "loss": "softmax",
            "num_negatives": 8,
            "proximal": 1.0,
        },
    ),
    "pirl": Case(
        changes={
            "temperature": 0.2,
            "width": 16,
            "bank_momentum": 0.9,
            "loss": "softmax",
            "num_negatives": 8,
            "jigsaw": 0.9,
        },
        refuses=EncoderConfig(name="vit", width=8, patch_size=8),
    ),
    "simclr": Case(
        changes={
            "loss": "dcl",
            "temperature": 0.1,
            "projector": (16,),
            "projector_norm": True,
            "sigma": {"sigma": 0.1, "loss": "dclw"},
            "tau_plus": {"tau_plus": 0.2, "loss": "debiased"},
            "beta": {"beta": 3.0, "loss": "hard"},
        }
    ),
    "alignment_uniformity": Case(
        changes={"alignment": 0.5, "uniformity": 0.5, "alpha": 1.0, "t": 3.0, "projector": (16,)}
    ),
    "moco": Case(
        config={"queue_size": 32, "hidden": 32, "width": 16},
        changes={"temperature": 0.5, "momentum": 0.5, "queue_size": 24, "hidden": 16, "width": 8},
        settles=2,  # the queue holds the batch twice
    ),
    "mocov3": Case(
        config={"hidden": 32, "width": 16, "random_patches": False},
        changes={
            "temperature": 0.5,
            "momentum": 0.5,
            "layers": 1,
            "hidden": 16,
            "width": 8,
            "random_patches": True,
        },
        encoders=(VIT, CONVNET, RESNET),
    ),
    "ressl": Case(
        config={"queue_size": 32, "hidden": 32, "width": 16},
        changes={
            "student_temperature": 0.2,
            "teacher_temperature": 0.08,
            "momentum": 0.5,
            "queue_size": 24,
            "hidden": 16,
            "width": 8,
        },
        settles=2,
        falls=0.02,  # not below the entropy of the targets
        rate=1e-2,
    ),
}
