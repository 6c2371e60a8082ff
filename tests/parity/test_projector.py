"""pixel_shuffle equals the one in transformers' Idefics3."""

import pytest
import torch
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

from vlmcourse.models.projector import pixel_shuffle


@pytest.mark.parametrize("factor, patches", [(2, 16), (2, 64), (3, 36), (4, 64)])
def test_pixel_shuffle(factor, patches):
    features = torch.randn(3, patches, 5)
    theirs = Idefics3Connector.pixel_shuffle(None, features, factor)
    assert torch.equal(pixel_shuffle(features, factor), theirs)
