"""Handwritten digits: the real data that every machine has (first used in notebook 02).

1,797 digits from scikit-learn, 8×8 pixels, scanned from paper forms that 13 people filled in.
Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI, doi:10.24432/C50P49.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def digits(split: str) -> tuple[Float[Tensor, "image 1 8 8"], Int[Tensor, "image"]]:
    """Images and labels of one split.

    The last fifth of each digit, in the order of the file, is the test split; no chance is involved.
    Neighbours in the file look alike, so this is harder than a random split.

    Returns:
        Images, float32 in [0, 1], 0 is paper; labels 0 to 9, int64.  1,442 train and 355 test images.

    Raises:
        ValueError: if the split is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}; the digits have train and test")
    from sklearn.datasets import load_digits

    data = load_digits()
    test = np.zeros(len(data.target), bool)
    for digit in range(10):
        rows = np.nonzero(data.target == digit)[0]
        test[rows[len(rows) - len(rows) // 5 :]] = True
    chosen = test == (split == "test")
    images = torch.from_numpy(data.images[chosen]).float()[:, None] / 16
    return images, torch.from_numpy(data.target[chosen]).long()
