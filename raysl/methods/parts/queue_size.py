"""How long a queue of earlier features is where the paper's assumes a million images."""


def default_queue_size(num_examples: int, batch_size: int, *, share: float) -> int:
    """`share` of the images, but at least 4 batches and at most half of the images.

    The floor keeps enough to compare with on small pools; past half of the images the queue would
    hold many images twice, and the very image that it is compared with.
    """
    return max(1, min(num_examples // 2, max(round(share * num_examples), 4 * batch_size)))
