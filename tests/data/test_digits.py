import hashlib

import pytest
import torch

from vlmcourse.data.digits import digits


def test_splits_are_stratified_and_cover_every_digit_once():
    (train, labels), (test, answers) = digits("train"), digits("test")
    assert train.shape == (1442, 1, 8, 8) and test.shape == (355, 1, 8, 8)
    assert train.dtype == torch.float32 and labels.dtype == torch.int64
    assert train.min() == 0 and train.max() == 1
    share = answers.bincount() / (answers.bincount() + labels.bincount())
    assert len(share) == 10 and (share - 0.2).abs().max() < 0.005


def test_no_test_digit_is_in_train_and_the_split_is_fixed():
    prints = {split: {image.numpy().tobytes() for image in digits(split)[0]} for split in ("train", "test")}
    assert (
        len(prints["train"]) == 1442 and len(prints["test"]) == 355 and not prints["train"] & prints["test"]
    )
    labels = bytes(digits("test")[1].tolist())
    assert hashlib.sha256(labels).hexdigest()[:8] == "dcdc7320"


def test_unknown_splits_are_named():
    with pytest.raises(ValueError, match="unknown split 'validation'; the digits have train and test"):
        digits("validation")
