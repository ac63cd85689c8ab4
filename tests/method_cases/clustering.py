from method_cases.case import Case

CASES = {
    "deepcluster": Case(
        config={"num_clusters": 4, "pca": 4, "reassign_every": 1},
        changes={
            "num_clusters": 6,
            "kmeans_iterations": 1,
            "pca": 2,
            "reassign_every": 2,
            "rotations": True,
            "sobel": True,
        },
        falls_with={"reassign_every": 30},  # the suite's steps are epochs: else the classifier
        # restarts before each
    ),
    "deepclusterv2": Case(
        config={"num_clusters": 4, "projector": (32, 16)},
        changes={
            "temperature": 0.2,
            "num_clusters": 6,
            "num_clusterings": 2,
            "kmeans_iterations": 1,
            "projector": (16,),
        },
    ),
    "sela": Case(
        config={"num_clusters": 4, "num_heads": 3},
        changes={"num_clusters": 6, "num_heads": 2, "sharpness": 1.0, "sinkhorn_iterations": 1},
    ),
    "swav": Case(
        config={"num_prototypes": 12, "projector": (32, 16), "queue_size": 6, "queue_start": 0.0},
        changes={
            "temperature": 0.2,
            "epsilon": 0.2,
            "sinkhorn_iterations": 1,
            "num_prototypes": 8,
            "projector": (16,),
            "queue_size": 0,
            "queue_start": 0.9,
            "freeze": 0.5,
        },
    ),
}
