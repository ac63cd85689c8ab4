from method_cases.case import CONVNET, Case

CASES = {
    "scratch": Case(changes={"label_smoothing": 0.2}),
    "label_augmentation": Case(changes={"temperature": 4.0, "single_weight": 0.1}),
    "random": Case(changes={}),
    "supervised_source": Case(
        changes={"label_smoothing": 0.2},
        shown_elsewhere=dict.fromkeys(("data", "digest"), "test_supervised_source.py"),
    ),
    "pretrained": Case(
        changes={},
        shown_elsewhere=dict.fromkeys(("weights", "digest", "mean", "std"), "test_pretrained.py"),
        refuses=CONVNET,
    ),
}
