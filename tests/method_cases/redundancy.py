from method_cases.case import Case

CASES = {
    "barlow_twins": Case(  # with the mixed samples, which are off by default
        config={"projector": (32, 32), "mixup_weight": 4.0},
        changes={
            "redundancy": 0.05,
            "projector": (16,),
            "loss_scale": 0.1,
            "mixup_weight": 0.0,
            "mixup_beta": 0.2,
        },
    ),
    "vicreg": Case(
        config={"projector": (32, 32)},
        changes={"invariance": 1.0, "variance": 1.0, "covariance": 10.0, "projector": (16,)},
    ),
}
