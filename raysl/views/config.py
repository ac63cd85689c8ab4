"""What a view is: the parameters of the augmentations, and named recipes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Parameters of the random views; `size` and the normalisation hold for evaluation too.

    The order is crop, flips and rotation, colour, blur, solarise, normalise. On images that do
    not have three channels saturation, hue and grayscale do nothing.

    size: of the view in pixels; None: the stored size.
    crop_scale, crop_ratio: range of the crop's area as a fraction of the image, and of its
        width / height.
    flip, vertical_flip: probabilities.
    rotation: the largest angle in degrees, either way.
    brightness, contrast, saturation: a factor in 1 - x to 1 + x; hue: turns, at most 0.5.
    colour_strength: multiplies these four. A chosen image (jitter_prob) gets all four.
    blur_sigma: range in pixels of the view; the kernel spans a tenth of the view.
    solarize_threshold: pixels from here on (0-1) are inverted.
    mean, std: of pixels in 0-1; one value stands for all channels.
    """

    num_views: int = 2
    size: int | None = None
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.0
    jitter_prob: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    colour_strength: float = 1.0
    grayscale_prob: float = 0.2
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_threshold: float = 0.5
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ValueError(f"num_views must be at least 1, not {self.num_views}.")
        if self.size is not None and self.size < 2:
            raise ValueError(f"size must be at least 2 pixels or none, not {self.size}.")
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range above 0 such as 0.2,1, not {low},{high}.")
        if not self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must end at 1 or below, not {self.crop_scale[1]}.")
        probabilities = ("flip", "vertical_flip", "jitter_prob", "grayscale_prob", "blur_prob")
        for name in (*probabilities, "solarize_prob", "solarize_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 to 1, not {getattr(self, name)}.")
        for name in ("brightness", "contrast", "saturation", "hue", "colour_strength"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        if self.hue * self.colour_strength > 0.5:
            raise ValueError(
                f"hue {self.hue} x colour_strength {self.colour_strength} exceeds 0.5, which is "
                "every hue already; lower one of them."
            )
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must lie in 0 to 180 degrees, not {self.rotation}.")
        if not self.mean or not self.std or not all(value > 0 for value in self.std):
            raise ValueError("mean and std need a value for all or one a channel, std above 0.")


VIEWS: dict[str, ViewConfig] = {
    # Chen et al. 2020, "A simple framework for contrastive learning", appendix A (ImageNet).
    "simclr": ViewConfig(
        crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_prob=0.5
    ),
    # Its appendix B.9 (CIFAR-10): half the colour strength, no blur. The crop starts at 0.2 of
    # the area: 0.08 of a small image is a few pixels.
    "simclr_small": ViewConfig(),
    "crop_flip": ViewConfig(
        num_views=1, crop_scale=(0.5, 1.0), jitter_prob=0.0, grayscale_prob=0.0
    ),
    "none": ViewConfig(
        num_views=1,
        crop_scale=(1.0, 1.0),
        crop_ratio=(1.0, 1.0),
        flip=0.0,
        jitter_prob=0.0,
        grayscale_prob=0.0,
    ),
}
