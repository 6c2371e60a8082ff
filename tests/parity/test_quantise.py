"""NF4 as bitsandbytes has it: the same levels, the same numbers in the same bytes, the same weights back."""

import pytest
import torch

from vlmcourse.models.quantise import (
    dequantise_blocks,
    normal_levels,
    pack_nibbles,
    quantise_blocks,
    unpack_nibbles,
)

functional = pytest.importorskip("bitsandbytes.functional")


@pytest.mark.parametrize("scale", [1.0, 1e-4, 300.0])
@pytest.mark.parametrize("block", [64, 128])
def test_nf4_is_that_of_bitsandbytes(scale, block):
    torch.manual_seed(3)
    weight = scale * torch.randn(96, 256)
    weight[5] = 0
    weight[6, ::7] = 40 * scale  # a block with a few that are far out
    packed, state = functional.quantize_4bit(weight, blocksize=block, quant_type="nf4")
    numbers, scales = quantise_blocks(weight.reshape(-1, block), normal_levels())
    torch.testing.assert_close(normal_levels(), state.code, atol=1.2e-7, rtol=0)  # one step of float32
    assert torch.equal(scales, state.absmax)
    assert torch.equal(unpack_nibbles(packed.flatten(), weight.numel()), numbers.flatten())
    assert torch.equal(pack_nibbles(numbers.flatten()), packed.flatten())
    ours = dequantise_blocks(numbers, scales, normal_levels()).reshape(96, 256)
    torch.testing.assert_close(ours, functional.dequantize_4bit(packed, state), atol=1e-6 * scale, rtol=1e-6)
