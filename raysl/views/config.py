"""What a view is: the parameters of the augmentations, and named recipes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Parameters of the random views; `size` and the normalisation hold for evaluation too.

    `num_views` views come first, then `num_local_views` smaller ones of small crops (multi-crop).

    The order is crop, flips and rotation, colour, blur, solarise, normalise. On images that do
    not have three channels saturation, hue and grayscale do nothing.

    size: of the view in pixels; None: the stored size.
    crop_scale, crop_ratio: range of the crop's area as a fraction of the image, and of its
        width / height.
    local_size, local_scale: of the local views, as size and crop_scale; None: about 3/7 of size,
        in steps of a ViT's patches.
    flip, vertical_flip: probabilities.
    rotation: the largest angle in degrees, either way.
    brightness, contrast, saturation: a factor in 1 - x to 1 + x; hue: turns, at most 0.5.
    colour_strength: multiplies these four. A chosen image (jitter_prob) gets all four.
    blur_sigma: range in pixels of the view; the kernel spans a tenth of the view.
    solarize_threshold: pixels from here on (0-1) are inverted.
    X_prob_second: of every second view; blur_prob_local: of local ones; None: as the others.
        Local views are not solarised unless all are.
    mean, std: of pixels in 0-1; one value stands for all channels.
    """

    num_views: int = 2
    num_local_views: int = 0
    size: int | None = None
    local_size: int | None = None
    crop_scale: tuple[float, float] = (0.2, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.0
    jitter_prob: float = 0.8
    jitter_prob_second: float | None = None
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    colour_strength: float = 1.0
    grayscale_prob: float = 0.2
    grayscale_prob_second: float | None = None
    blur_prob: float = 0.0
    blur_prob_second: float | None = None
    blur_prob_local: float | None = None
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_prob_second: float | None = None
    solarize_threshold: float = 0.5
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ValueError(f"num_views must be at least 1, not {self.num_views}.")
        if self.num_local_views < 0:
            raise ValueError(f"num_local_views must be 0 or more, not {self.num_local_views}.")
        for name in ("size", "local_size"):
            pixels = getattr(self, name)
            if pixels is not None and pixels < 2:
                raise ValueError(f"{name} must be at least 2 pixels or none, not {pixels}.")
        for name in ("crop_scale", "local_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range above 0 such as 0.2,1, not {low},{high}.")
        for name in ("crop_scale", "local_scale"):
            if not getattr(self, name)[1] <= 1:
                raise ValueError(f"{name} must end at 1 or below, not {getattr(self, name)[1]}.")
        probabilities = ("flip", "vertical_flip", "jitter_prob", "grayscale_prob", "blur_prob")
        seconds = ("jitter", "grayscale", "blur", "solarize")
        optional = ("blur_prob_local", *(f"{name}_prob_second" for name in seconds))
        for name in (*probabilities, "solarize_prob", "solarize_threshold", *optional):
            value = getattr(self, name)
            if not (0 <= value <= 1 if value is not None else name in optional):
                raise ValueError(f"{name} must lie in 0 to 1, not {value}.")
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


def local_size(config: ViewConfig, size: int) -> int:
    """Pixels of the local views beside views of `size`: 96 at 224, 24 at 64, 12 at 32 and at 28.

    About 3/7 of it, in steps of the patches that ViTs have by default at this size.
    """
    if config.local_size is not None:
        return config.local_size
    step = default_patch_size(size)
    return max(2, step, round(size * 3 / 7 / step) * step)


def default_patch_size(size: int, largest: int = 16) -> int:
    """The largest patch, up to `largest` pixels, that divides a size into 8 x 8 or more."""
    largest = min(largest, max(1, size // 8))
    return max(patch for patch in range(1, largest + 1) if size % patch == 0)


VIEWS: dict[str, ViewConfig] = {
    # Chen et al. 2020, "A simple framework for contrastive learning", appendix A (ImageNet).
    "simclr": ViewConfig(
        crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_prob=0.5
    ),
    # Its appendix B.9 (CIFAR-10): half the colour strength, no blur. The crop starts at 0.2 of
    # the area: 0.08 of a small image is a few pixels.
    "simclr_small": ViewConfig(),
    # Grill et al. 2020 (BYOL), table 6; Caron et al. 2021 (DINO) use the same colours.
    "byol": ViewConfig(
        crop_scale=(0.08, 1.0),
        saturation=0.2,
        blur_prob=1.0,
        blur_prob_second=0.1,
        solarize_prob_second=0.2,
    ),
    # The same for small images: a crop from 0.2 of the area on, and no blur.
    "byol_small": ViewConfig(saturation=0.2, solarize_prob_second=0.2),
    # Caron et al. 2021 (DINO), with the crops split at 0.32 of the area, the best of its ablation.
    "dino": ViewConfig(
        num_local_views=6,
        crop_scale=(0.32, 1.0),
        local_scale=(0.05, 0.32),
        saturation=0.2,
        blur_prob=1.0,
        blur_prob_second=0.1,
        blur_prob_local=0.5,
        solarize_prob_second=0.2,
    ),
    # For small images: no blur, fewer local crops, and those not below 0.1 of the area.
    "dino_small": ViewConfig(
        num_local_views=4,
        crop_scale=(0.32, 1.0),
        local_scale=(0.1, 0.32),
        saturation=0.2,
        solarize_prob_second=0.2,
    ),
    # Caron et al. 2020 (SwAV): SimCLR's colours, two views and six local ones.
    "swav": ViewConfig(
        num_local_views=6,
        crop_scale=(0.14, 1.0),
        local_scale=(0.05, 0.14),
        brightness=0.8,
        contrast=0.8,
        saturation=0.8,
        hue=0.2,
        blur_prob=0.5,
    ),
    "swav_small": ViewConfig(num_local_views=4, crop_scale=(0.3, 1.0), local_scale=(0.1, 0.3)),
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
