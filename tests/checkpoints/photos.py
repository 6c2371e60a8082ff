"""Photos as a person may ask about them: parts of those that scikit-image and scikit-learn bring along."""

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

from vlmcourse.data.photos import PHOTOS


def photo_crops(each: int = 40) -> np.ndarray:
    """uint8 (photo · each, 64, 64, 3): squares of 40 to 100 % of the shorter edge."""
    random, crops = np.random.default_rng(0), []
    for photo in (*(getattr(data, name)() for name in PHOTOS), *load_sample_images().images):
        for share in random.uniform(0.4, 1, each):
            side = int(share * min(photo.shape[:2]))
            top, left = (random.integers(0, edge - side + 1) for edge in photo.shape[:2])
            square = Image.fromarray(photo[top : top + side, left : left + side])
            crops.append(np.array(square.resize((64, 64), Image.Resampling.BILINEAR)))
    return np.stack(crops)
