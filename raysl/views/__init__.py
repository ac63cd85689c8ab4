"""Views: batched augmentation on the images' device, every image with its own parameters.

    crop, flips, rotation  one affine `grid_sample`                      (geometry.py)
    colour                 one affine map on the channels of each view   (colour.py)
    blur, solarise         on the views that are chosen                  (filters.py)

All random numbers of a batch are drawn at once from the caller's generator (draws.py). Nothing
waits for the device: no value is read back, no tensor's shape depends on one.
"""

from raysl.views.config import VIEWS, ViewConfig
from raysl.views.make import eval_view, make_views

__all__ = ["VIEWS", "ViewConfig", "eval_view", "make_views"]
