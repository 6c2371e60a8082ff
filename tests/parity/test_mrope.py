"""M-RoPE is Qwen2-VL's and Qwen3-VL's: where tokens stand, how they are turned, and a language model that
reads a row with a picture."""

import pytest
import torch
import transformers
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from tests.parity.library import assert_equal, assert_equal_gradients, randomised, texts
from vlmcourse.interop.qwen import from_transformers
from vlmcourse.models.attention import Cache
from vlmcourse.models.language import rope
from vlmcourse.models.look import Look
from vlmcourse.models.mrope import mrope_angles, mrope_look, mrope_positions, next_position, pair_axes
from vlmcourse.training.checkpoints import CheckpointError

WORDS = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None,
         "eos_token_id": None}  # fmt: skip
SPECIAL = dict(image_token_id=90, video_token_id=91, vision_start_token_id=92, vision_end_token_id=93)


def qwen2(tied: bool = False, **words) -> transformers.Qwen2VLForConditionalGeneration:
    turned = {"rope_theta": 5000.0, "rope_type": "default", "mrope_section": [2, 3, 3]}
    vision = dict(depth=1, embed_dim=32, hidden_size=64, num_heads=2, patch_size=8, spatial_merge_size=2)
    config = transformers.Qwen2VLConfig(
        text_config=WORDS | {"rope_parameters": turned} | words, vision_config=vision,
        tie_word_embeddings=tied, **SPECIAL,
    )  # fmt: skip
    return randomised(transformers.Qwen2VLForConditionalGeneration(config))


def qwen3() -> transformers.Qwen3VLForConditionalGeneration:
    turned = {"rope_theta": 5000.0, "rope_type": "default", "mrope_section": [4, 2, 2]}
    vision = dict(
        depth=2, hidden_size=32, out_hidden_size=64, intermediate_size=64, num_heads=2, patch_size=8,
        spatial_merge_size=2, deepstack_visual_indexes=[0], num_position_embeddings=16,
    )  # fmt: skip
    config = transformers.Qwen3VLConfig(
        text_config=WORDS | {"rope_parameters": turned, "head_dim": 16}, vision_config=vision, **SPECIAL
    )
    return randomised(transformers.Qwen3VLForConditionalGeneration(config))


# a row as a pattern: a number for words, a grid of tokens for a picture, ("clip", grid) for a clip
ROWS = {
    "text": [7],
    "one": [3, (1, 2, 2), 4],
    "wide and tall": [1, (1, 2, 5), 2, (1, 4, 1), 1],
    "begins and ends with one": [(1, 3, 2), 2, (1, 1, 1)],
    "a clip": [2, ("clip", (3, 2, 3)), 3],
    "all": [4, (1, 3, 3), 1, ("clip", (2, 2, 4)), 2, (1, 5, 2), 1, ("clip", (4, 4, 2)), 3],
}


def described(row: list, apart: bool) -> dict:
    """A row as the library and as ours describe it; ``apart``: the frames of a clip stand apart, each behind
    two words of time, as in Qwen3-VL."""
    kinds, spans, grids, pictures, clips = [], [], [], [], []
    for part in row:
        if isinstance(part, int):
            kinds += [0] * part
            continue
        clip, (frames, rows, columns) = (True, part[1]) if part[0] == "clip" else (False, part)
        (clips if clip else pictures).append([frames, 2 * rows, 2 * columns])
        for grid in [(1, rows, columns)] * frames if clip and apart else [(frames, rows, columns)]:
            kinds += [0, 0] * (clip and apart)
            spans.append((len(kinds), len(kinds) + grid[0] * grid[1] * grid[2]))
            kinds += [1 + clip] * (spans[-1][1] - spans[-1][0])
            grids.append(grid)
    theirs = dict(
        input_ids=torch.ones(1, len(kinds), dtype=torch.long), mm_token_type_ids=torch.tensor([kinds]),
        image_grid_thw=torch.tensor(pictures) if pictures else None,
        video_grid_thw=torch.tensor(clips) if clips else None,
    )  # fmt: skip
    return {"theirs": theirs, "mine": (len(kinds), spans, grids)}


@pytest.mark.parametrize("apart", [False, True], ids=["Qwen2-VL", "Qwen3-VL"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_tokens_stand_where_theirs_do(row, apart):
    theirs = qwen3() if apart else qwen2()
    case = described(row, apart)
    positions, delta = theirs.model.get_rope_index(**case["theirs"])
    mine = mrope_positions(*case["mine"])
    assert mine.tolist() == positions[:, 0].tolist()
    following = next_position(mrope_look([mine]))
    assert following.tolist() == [case["mine"][0] + delta.item()]


def test_behind_a_long_clip_text_resumes_as_in_the_paper():
    # transformers 5 goes on behind the larger side of a frame, here at 2: within the time of the clip. The
    # paper, and the release in which the model came, go on behind the largest number.
    case = described([("clip", (4, 2, 2)), 1], apart=False)
    assert mrope_positions(*case["mine"])[:, -1].tolist() == [4, 4, 4]
    assert qwen2().model.get_rope_index(**case["theirs"])[0][:, 0, -1].tolist() in ([2, 2, 2], [4, 4, 4])


def test_padded_rows_stand_where_theirs_do():
    cases = [described(ROWS[name], False) for name in ("one", "wide and tall")]
    lengths = [case["mine"][0] for case in cases]
    real = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
    kinds = torch.zeros(2, max(lengths), dtype=torch.long)
    kinds[real] = torch.cat([case["theirs"]["mm_token_type_ids"][0] for case in cases])
    grids = torch.cat([case["theirs"]["image_grid_thw"] for case in cases])
    theirs, _ = qwen2().model.get_rope_index(torch.ones_like(kinds), kinds, grids, None, real.long())
    look = mrope_look([mrope_positions(*case["mine"]) for case in cases], real)
    assert torch.equal(look.positions[:, real], theirs[:, real])


@pytest.mark.parametrize("interleaved", [False, True], ids=["Qwen2-VL", "Qwen3-VL"])
def test_queries_and_keys_turn_as_theirs(interleaved):
    config = (qwen3() if interleaved else qwen2()).config.text_config
    turning = (Qwen3VLTextRotaryEmbedding if interleaved else Qwen2VLRotaryEmbedding)(config)
    dice = torch.Generator().manual_seed(5)
    query, key = torch.randn(2, 2, 4, 9, 16, generator=dice)
    positions = torch.randint(50, (3, 2, 9), generator=dice)
    theirs = apply_rotary_pos_emb(query, key, *turning(query, positions))
    axes = pair_axes(tuple(config.rope_parameters["mrope_section"]), interleaved)
    angles = mrope_angles(positions, 16, 5000.0, axes)
    for mine, expected in zip((rope(query, angles), rope(key, angles)), theirs, strict=True):
        assert_equal(mine, expected)


def a_row_with_pictures() -> tuple[torch.Tensor, torch.Tensor, Look, torch.Tensor]:
    """Two rows of ids, their vectors with pictures among them, and where the tokens stand."""
    case = described([3, (1, 2, 3), 2, (1, 3, 1), 4], False)
    length, spans, grids = case["mine"]
    ids = texts(2, length).clamp(max=80)
    look = mrope_look([mrope_positions(length, spans, grids)] * 2)
    pictures = torch.randn(2, length, 64, generator=torch.Generator().manual_seed(7))
    return ids, pictures, look, case["theirs"]["mm_token_type_ids"] > 0


@pytest.mark.parametrize("tied", [False, True])
def test_the_language_model_reads_a_row_with_pictures_as_theirs(tied):
    theirs = qwen2(tied)
    mine = from_transformers(theirs)
    ids, pictures, look, places = a_row_with_pictures()
    vectors = torch.where(places[..., None], pictures, mine.embed(ids).detach())
    expected = theirs(inputs_embeds=vectors, position_ids=look.positions).logits
    scores = mine(vectors, look)
    assert_equal(scores, expected)
    flat = mine(vectors)
    assert (flat - scores).abs().max() > 1e-2, "positions make no difference here"
    scores.square().sum().backward()
    expected.square().sum().backward()
    idle = ("embedding",) if not tied else ()
    assert_equal_gradients(mine, theirs, from_transformers, idle)


def test_it_goes_on_behind_a_cache():
    theirs = qwen2()
    mine = from_transformers(theirs)
    ids, pictures, look, places = a_row_with_pictures()
    with torch.no_grad():
        vectors = torch.where(places[..., None], pictures, mine.embed(ids))
        longer = torch.cat([vectors, mine.embed(ids[:, :1])], dim=1)
        at = next_position(look)
        behind = torch.cat([look.positions, at[None, :, None].expand(3, -1, -1)], dim=2)
        expected = theirs(inputs_embeds=longer, position_ids=behind).logits[:, -1]
        caches = [Cache() for _ in mine.blocks]
        mine(vectors, look, caches)
        assert_equal(mine(ids[:, :1], Look(None, at[:, None]), caches)[:, -1], expected)


def test_what_ours_does_not_have_is_named():
    with pytest.raises(ValueError, match="Qwen2VLForConditionalGeneration, not a Qwen3VL"):
        from_transformers(qwen3())
    with pytest.raises(ValueError, match="rope_type 'linear'"):
        turned = {"rope_theta": 5000.0, "rope_type": "linear", "factor": 2.0, "mrope_section": [2, 3, 3]}
        from_transformers(qwen2(rope_parameters=turned))
    theirs = qwen2()
    del theirs.model.language_model.layers[0].self_attn.q_proj.bias
    with pytest.raises(CheckpointError, match=r"missing: .*layers\.0\.self_attn\.q_proj\.bias"):
        from_transformers(theirs)
