"""Native resolution is SigLIP 2's: sizes that a budget allows, positions, and a vision encoder that reads
pictures of different sizes."""

import pytest
import torch
import transformers
from torch import nn
from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches
from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings

from tests.parity.library import assert_equal, assert_equal_gradients, randomised
from vlmcourse.interop.siglip2 import from_transformers, naflex_inputs, naflex_outputs
from vlmcourse.models.native import fit_patches, resize_positions
from vlmcourse.training.checkpoints import CheckpointError

try:
    from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches
except ImportError:  # where the library has it in earlier releases
    from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

GRIDS = ((3, 7), (5, 2), (4, 4), (1, 6), (9, 5))
EYE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, patch_size=4,
           num_patches=16, layer_norm_eps=1e-3)  # fmt: skip


def siglip2(**options) -> transformers.Siglip2VisionModel:
    config = transformers.Siglip2VisionConfig(**(EYE | options))
    return randomised(transformers.Siglip2VisionModel(config))


def pictures() -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(3)
    return [2 * torch.randn(3, 4 * rows, 4 * columns, generator=dice) for rows, columns in GRIDS]


@pytest.mark.parametrize("most", [1, 2, 16, 64, 256, 1024])
@pytest.mark.parametrize("patch", [8, 14, 16])
def test_a_budget_gives_the_size_that_its_image_processor_chooses(patch, most):
    sides = torch.randint(1, 2000, (40, 2), generator=torch.Generator().manual_seed(most)).tolist()
    for height, width in [*sides, (1, 1), (1, 3000), (3000, 1), (64, 256), (224, 224), (257, 256)]:
        theirs = get_image_size_for_max_num_patches(height, width, patch, most)
        assert fit_patches(height, width, patch, most) == theirs, (height, width)


@pytest.mark.parametrize("grid", [*GRIDS, (2, 2), (16, 4)])
def test_positions_are_stretched_as_its_are(grid):
    positions = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    theirs = Siglip2VisionEmbeddings.resize_positional_embeddings(
        positions.reshape(4, 4, 6), torch.tensor([grid]), max_length=grid[0] * grid[1]
    )
    assert_equal(resize_positions(positions, (4, 4), grid), theirs[0])


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("length", [45, 50, 300])
def test_pictures_of_five_sizes_in_packed_rows_are_read_as_by_it(length, head):
    theirs = siglip2(vision_use_head=head)
    mine = from_transformers(theirs)
    mine.length = length
    ours, his = ([picture.clone().requires_grad_() for picture in pictures()] for _ in range(2))
    inputs = naflex_inputs(his, 4)
    expected = naflex_outputs(theirs(**inputs).last_hidden_state, inputs)
    said = mine.norm(mine.read_row(mine.cut(ours)).vectors)
    assert_equal(said, expected.vectors)
    direction = torch.randn(said.shape, generator=torch.Generator().manual_seed(4))
    (said * direction).sum().backward()
    (expected.vectors * direction).sum().backward()
    for one, other in zip(ours, his, strict=True):
        assert_equal(one.grad, other.grad)
    assert_equal_gradients(mine, theirs, from_transformers)


def test_what_ours_does_not_have_is_named():
    with pytest.raises(ValueError, match="type 'siglip_vision_model', not 'siglip2_vision_model'"):
        from_transformers(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, patch_size=4,
            image_size=16)))  # fmt: skip
    theirs = siglip2()
    theirs.encoder.layers[1].extra = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"unexpected: encoder\.layers\.1\.extra"):
        from_transformers(theirs)
    with pytest.raises(ValueError, match="ours has no hidden_act = 'mish'"):
        from_transformers(siglip2(hidden_act="mish"))
