"""Location tokens and the connector are Kosmos-2's: corners, boxes, texts, and latents that read patches."""

import pytest
import torch
import transformers
from transformers.models.kosmos2.modeling_kosmos2 import Kosmos2ImageToTextProjection
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    coordinate_to_patch_index,
    patch_index_to_coordinate,
)

from tests.parity.library import assert_equal, randomised
from vlmcourse.models.locations import box_to_locations, locations_to_boxes, read_locations, write_locations
from vlmcourse.models.resampler import LatentReader


def some_boxes(bins: int) -> torch.Tensor:
    """Random boxes; small ones within one cell, row or column; edges on lines of the grid and of the
    picture."""
    dice = torch.Generator().manual_seed(bins)
    corners = torch.rand(400, 2, 2, generator=dice, dtype=torch.double)
    corners[100:200, 1] = corners[100:200, 0] + torch.rand(100, 2, generator=dice, dtype=torch.double) / bins
    lines = torch.randint(bins + 1, (200, 2, 2), generator=dice) / bins
    corners[200:] = lines.double()
    boxes = corners.clamp(0, 1).sort(dim=1).values.flatten(1)
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


@pytest.mark.parametrize("bins", [32, 8, 5])
def test_boxes_become_the_same_cells_and_back(bins):
    boxes = some_boxes(bins)
    cells = box_to_locations(boxes, bins)
    assert len(boxes) > 250
    assert cells.tolist() == [list(coordinate_to_patch_index(box, bins)) for box in boxes.tolist()]
    theirs = torch.tensor([patch_index_to_coordinate(*pair, bins) for pair in cells.tolist()])
    assert_equal(locations_to_boxes(cells, bins), theirs)


def test_texts_are_read_as_theirs():
    boxes = some_boxes(32)
    text = "<grounding> An image of"
    for first, phrase in enumerate(("a snowman", "a fire", "two dogs")):
        text += f"<phrase> {phrase}</phrase>{write_locations(boxes[9 * first : 9 * first + 1 + first])} and"
    _, theirs = clean_text_and_extract_entities_with_bboxes(text)
    mine = read_locations(text)
    assert [one.phrase for one in mine] == [phrase for phrase, _, _ in theirs] and len(mine) == 3
    for one, (_, _, expected) in zip(mine, theirs, strict=True):
        assert_equal(one.boxes, torch.tensor(expected))


def test_the_latents_read_as_theirs():
    config = transformers.Kosmos2Config(
        text_config=dict(embed_dim=32, attention_heads=4),
        vision_config=dict(hidden_size=24),
        latent_query_num=6,
    )
    theirs = randomised(Kosmos2ImageToTextProjection(config))
    mine, his = LatentReader(24, 32, latents=6, heads=4), theirs.state_dict()
    for kind in ("weight", "bias"):
        parts = {name: his.pop(f"x_attn.{name}_proj.{kind}") for name in "qkv"}
        his[f"attention.project_in.{kind}"] = parts["q"]
        his[f"attention.project_context.{kind}"] = torch.cat([parts["k"], parts["v"]])
        his[f"attention.project_out.{kind}"] = his.pop(f"x_attn.out_proj.{kind}")
        his[f"project.{kind}"] = his.pop(f"dense.{kind}")
    his["latents"] = his.pop("latent_query")
    mine.load_state_dict(his)
    patches = torch.randn(3, 10, 24, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert_equal(mine(patches), theirs(patches)[0])
        assert (mine(patches) - mine(patches.flip(0))).abs().max() > 0.1
