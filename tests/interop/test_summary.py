"""An eye that sums up its patches."""

import torch

from vlmcourse.data.pixels import normalise, standardise
from vlmcourse.interop.summary import SummaryEye
from vlmcourse.models.vit import ViT, ViTConfig


def test_a_summary_is_mean_deviation_and_class_token_of_one_stream():
    torch.manual_seed(0)
    vit = ViT(ViTConfig(28, 7, width=24, depth=3, heads=3)).eval()
    eye, pixels = SummaryEye(vit), torch.randint(0, 256, (2, 28, 28, 3), dtype=torch.uint8)
    assert eye.config.grid == (1, 1) and eye.config.width == 72
    with torch.no_grad():
        streams = vit.layers(standardise(pixels))
        seen = eye.streams(normalise(pixels))
        assert seen.shape == (4, 2, 72)
        for layer, at in ((2, 2), (-1, 3), (0, 0)):
            tokens = streams[at]
            patches = tokens[:, 1:]
            expected = torch.cat([patches.mean(1), patches.std(1), tokens[:, 0]], 1)
            torch.testing.assert_close(
                eye.patches(normalise(pixels), layer), expected[:, None], atol=1e-4, rtol=0
            )
            torch.testing.assert_close(seen[at], expected, atol=1e-4, rtol=0)
