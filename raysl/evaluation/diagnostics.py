"""STAND-IN: the owner of this file overwrites it."""


def diagnose(encoder, images, views, *, device, seed, num_examples, batch_size):
    return {"feature_std": 1.0, "effective_rank": 5.0, "alignment": 1.0, "uniformity": -1.0}


def collapsed(d):
    return False
