"""Native resolution: sizes within a budget, rows of several pictures, and a ViT that reads each as if it were
alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmcourse.models.attention import record_attention
from vlmcourse.models.language import rope
from vlmcourse.models.native import (
    PatchRow,
    axial_angles,
    cut_pictures,
    first_fit,
    fit_patches,
    join_rows,
    native_look,
    pack_pictures,
    picture_mask,
    places_of,
    resize_positions,
)
from vlmcourse.models.native_vit import NativeViT, NativeViTConfig
from vlmcourse.models.vit import ViT, ViTConfig, interpolate_positions, patchify

GRIDS = ((4, 4), (2, 7), (3, 5), (4, 4), (1, 1), (6, 3))
KINDS = {
    "positions": {},
    "class token": dict(class_token=True),
    "turned": dict(turned=True, patch_bias=False),
    "of two frames": dict(frames=2),
    "a norm in front": dict(norm_before_blocks=True),
}


def eye(**options) -> NativeViT:
    torch.manual_seed(0)
    model = NativeViT(
        NativeViTConfig(**(dict(image_size=16, patch_size=4, width=16, depth=3, heads=2) | options))
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3)
    return model.double().eval()


def pictures(grids=GRIDS, size=4) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    return [torch.randn(3, size * rows, size * columns, generator=dice).double() for rows, columns in grids]


# --- sizes ---


@pytest.mark.parametrize(
    ("height", "width", "patch", "most", "size"),
    [
        (64, 64, 8, 64, (64, 64)),  # fits as it is
        (64, 256, 8, 64, (32, 128)),  # half of each side: 4 · 16 patches
        (64, 256, 8, 256, (64, 256)),
        (256, 64, 8, 63, (120, 32)),  # 16 · 4 would be one too many
        (10, 10, 8, 4, (16, 16)),  # a small one grows
        (1, 1, 16, 10_000, (112, 112)),  # a hundredfold at most: 100 pixels, filled up to whole patches
        (3, 3000, 8, 1, (8, 8)),
        (104, 289, 8, 256, (72, 208)),  # at the very bound: 9 · 26 fit, for a scale a little larger 10 · 26
    ],
)
def test_a_budget_of_patches_gives_a_size(height, width, patch, most, size):
    assert fit_patches(height, width, patch, most) == size


@settings(max_examples=30)
@given(
    height=st.integers(1, 500), width=st.integers(1, 500), patch=st.integers(1, 20), most=st.integers(1, 300)
)
def test_a_size_is_whole_patches_within_the_budget(height, width, patch, most):
    high, wide = fit_patches(height, width, patch, most)
    assert high % patch == 0 and wide % patch == 0 and patch * patch <= high * wide <= most * patch * patch


@pytest.mark.parametrize("wrong", [(0, 4, 4, 4), (4, 0, 4, 4), (4, 4, 0, 4), (4, 4, 4, 0)])
def test_no_pixels_and_no_budget_are_refused(wrong):
    with pytest.raises(ValueError, match="all of these must be at least 1"):
        fit_patches(*wrong)


# --- packing ---


def test_a_picture_goes_into_the_first_row_that_has_room():
    assert first_fit([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert first_fit([10, 1, 10], 10) == [[0], [1], [2]] and first_fit([], 4) == []


def test_a_picture_that_is_longer_than_a_row_is_named():
    with pytest.raises(ValueError, match="picture 1 has 11 tokens, but a row has room for 10"):
        first_fit([6, 11], 10)


def test_tokens_stand_one_picture_behind_the_other_with_their_places():
    one, two, three = torch.arange(2.0), torch.arange(10.0, 13), torch.arange(20.0, 22)
    rows, numbers, places = pack_pictures(
        [p[:, None] for p in (one, two, three)], [(1, 2), (2, 1), (2, 1)], 4
    )
    assert rows[..., 0].tolist() == [[0, 1, 20, 21], [10, 11, 12, 0]]
    assert numbers.tolist() == [[0, 0, 2, 2], [1, 1, 1, -1]]
    assert places.tolist() == [[[0, 0, 0, 1], [-1, 0, 1, -1]],  # 10 is in front of the patches, a class token
                               [[0, 1, 0, 0], [-1, 0, 0, -1]]]  # fmt: skip


def test_places_are_counted_row_by_row():
    assert places_of((2, 3)).tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]


def test_a_picture_that_lacks_patches_is_named():
    with pytest.raises(ValueError, match="picture 1 has 5 tokens; a grid of 2 × 3 has 6 patches"):
        pack_pictures([torch.zeros(2, 1), torch.zeros(5, 1)], [(1, 2), (2, 3)], 9)


def test_a_patch_sees_its_own_picture_and_padding_sees_itself():
    mask = picture_mask(torch.tensor([[0, 0, 2, -1, -1], [1, 1, 1, 1, 1]]))
    assert mask.long().tolist() == [
        [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]],
        [[1] * 5] * 5,
    ]
    look = native_look(torch.tensor([[0, 0]]), places_of((1, 2))[:, None])
    assert look.mask.shape == (1, 1, 2, 2) and look.positions[:, 0].tolist() == [[0, 0], [0, 1]]
    look.check(2, 0)


# --- positions ---


def test_positions_of_the_same_grid_stay_and_of_a_smaller_one_are_means():
    positions = torch.arange(16.0)[:, None]
    assert torch.equal(resize_positions(positions, (4, 4), (4, 4)), positions)
    # antialiased and halved, a corner is made of rows 0, 1 and 2 with weights 3, 3 and 1
    along = torch.tensor([3.0, 3, 1]) / 7
    corner = (along[:, None] * along * positions.reshape(4, 4)[:3, :3]).sum()
    torch.testing.assert_close(resize_positions(positions, (4, 4), (2, 2))[0, 0], corner)


def test_positions_are_stretched_row_by_row_and_column_by_column():
    by_row = torch.arange(2.0).repeat_interleave(3)[:, None]
    assert resize_positions(by_row, (2, 3), (4, 3))[:, 0].tolist() == [
        0,
        0,
        0,
        *[0.25] * 3,
        *[0.75] * 3,
        1,
        1,
        1,
    ]


def test_positions_that_do_not_fill_their_grid_are_refused():
    with pytest.raises(ValueError, match="a 2×3 grid needs 6 positions, but there are 7"):
        resize_positions(torch.zeros(7, 2), (2, 3), (4, 4))


def test_rows_turn_the_first_pairs_and_columns_the_others():
    angles = axial_angles(torch.tensor([[[0, 1, 2]], [[5, 0, 3]]]), 8, base=100.0)
    expected = torch.tensor([[0, 0, 5, 0.5], [1, 0.1, 0, 0], [2, 0.2, 3, 0.3]])
    torch.testing.assert_close(angles[0], expected)


def test_what_a_turned_query_makes_of_a_key_depends_on_the_way_between_them():
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def score(one: tuple[int, int], other: tuple[int, int]) -> float:
        turned = [rope(parts, axial_angles(torch.tensor(place).reshape(2, 1, 1), 8))
                  for parts, place in ((query, one), (key, other))]  # fmt: skip
        return (turned[0] * turned[1]).sum().item()

    assert score((1, 2), (4, 3)) == pytest.approx(score((6, 0), (9, 1)), abs=1e-5)
    assert score((1, 2), (4, 3)) != pytest.approx(score((2, 1), (3, 4)), abs=1e-2)


def test_a_head_without_quarters_is_refused():
    with pytest.raises(ValueError, match="equally many pairs of numbers; a head has 6"):
        axial_angles(torch.zeros(2, 1, 1, dtype=torch.long), 6)


# --- a row of patches ---


def test_a_row_is_an_array_of_pictures():
    row = PatchRow(torch.arange(9.0)[:, None], ((1, 2), (2, 2), (3, 1)))
    assert len(row) == 3 and row.counts == [2, 4, 3]
    assert [part[:, 0].tolist() for part in row.split()] == [[0, 1], [2, 3, 4, 5], [6, 7, 8]]
    for some in (slice(1, None), [1, 2], torch.tensor([1, 2])):
        assert row[some].grids == ((2, 2), (3, 1)) and row[some].vectors[:, 0].tolist() == [
            2,
            3,
            4,
            5,
            6,
            7,
            8,
        ]
    twice = row[[2, 0, 2]]
    assert twice.vectors[:, 0].tolist() == [6, 7, 8, 0, 1, 6, 7, 8] and twice.grids == (
        (3, 1),
        (1, 2),
        (3, 1),
    )
    assert len(row[:0]) == 0 and row[:0].vectors.shape == (0, 1)
    both = join_rows([row[:1], row[1:]])
    assert torch.equal(both.vectors, row.vectors) and both.grids == row.grids
    half = row.to(torch.bfloat16)
    assert half.vectors.dtype == torch.bfloat16 and half.grids == row.grids
    assert half.float().vectors.dtype == torch.float32
    far = half.to(device="meta", dtype=torch.float64)
    assert far.device.type == "meta" and far.vectors.dtype == torch.float64 and row.device.type == "cpu"


@pytest.mark.parametrize("count", [5, 7])
def test_a_row_with_too_few_vectors_or_too_many_is_refused(count):
    with pytest.raises(ValueError, match=f"pictures of 6 patches cannot have {count} vectors"):
        PatchRow(torch.zeros(count, 1), ((1, 2), (2, 2)))


def test_pictures_are_cut_into_patches_each_by_itself():
    shown = pictures(((2, 3), (1, 2)))
    row = cut_pictures(shown, 4)
    assert row.grids == ((2, 3), (1, 2))
    assert torch.equal(row.vectors, torch.cat([patchify(one[None], 4)[0] for one in shown]))
    with pytest.raises(ValueError, match="8×10 pixels cannot be cut into 4×4 patches"):
        cut_pictures([torch.zeros(3, 8, 10)], 4)
    with pytest.raises(ValueError, match="there are no pictures"):
        cut_pictures([], 4)


# --- the ViT ---


@pytest.mark.parametrize(("length", "layer"), [(19, -2), (40, -1)])
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_packed_row_each_picture_is_read_as_alone_gradients_included(kind, length, layer):
    model, shown = eye(**KINDS[kind]), pictures()
    model.length = length
    packed = model.read_row(model.cut(shown), layer)
    assert packed.grids == GRIDS
    alone = [model.patches(one[None], layer)[0] for one in shown]
    dice = torch.Generator().manual_seed(2)
    directions = [torch.randn(one.shape, generator=dice).double() for one in alone]
    used = [p for p in model.parameters() if torch.autograd.grad(
        sum(one.sum() for one in alone), p, retain_graph=True, allow_unused=True)[0] is not None]  # fmt: skip
    assert len(used) >= 2 * 12  # at layer -2 a block and the last norm do nothing
    for one, other in zip(packed.split(), alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    gradients = [
        torch.autograd.grad(sum((one * way).sum() for one, way in zip(read, directions, strict=True)), used)
        for read in (packed.split(), alone)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, other.abs().max().item()), rtol=0)


def test_pictures_of_one_size_are_a_batch_without_a_mask():
    model, shown = eye(), torch.stack(pictures(((3, 5), (3, 5), (3, 5))))
    with record_attention(model) as record:
        row = model.read_row(model.cut(shown))
    assert [weights.shape for weights in record] == [(3, 2, 15, 15)] * 3
    torch.testing.assert_close(row.vectors.unflatten(0, (3, 15)), model.patches(shown))


@pytest.mark.parametrize("kind", ["positions", "turned"])
@pytest.mark.parametrize("grids", [((2, 6), (3, 4), (6, 2)), ((2, 3), (2, 5), (4, 3))])
def test_pictures_of_equally_many_patches_or_rows_have_places_of_their_own(kind, grids):
    model, shown = eye(**KINDS[kind]), pictures(grids)
    for picture, read in zip(shown, model.read_row(model.cut(shown)).split(), strict=True):
        torch.testing.assert_close(read, model.patches(picture[None])[0], atol=1e-9, rtol=0)


def test_patches_of_two_frames_have_no_bias_where_none_is_asked_for():
    assert eye(frames=2, patch_bias=False).embed_patch.bias is None
    assert eye(frames=2).embed_patch.bias is not None


def test_a_turned_eye_turns_by_powers_of_ten_thousand():
    model = eye(turned=True, width=32, heads=2)  # a head of 16 has 4 pairs for rows and 4 for columns
    turn = model.beside(pictures(((1, 2),))[0][None].float())["rotate"]
    unit = torch.zeros(1, 1, 2, 16)
    unit[..., 5] = 1  # of the pairs that columns turn, the second
    angle = 10_000 ** (-1 / 4)
    assert turn(unit)[0, 0, 1].amax().item() == pytest.approx(torch.cos(torch.tensor(angle)).item(), abs=1e-5)


@pytest.mark.parametrize("length", [20, 40])
def test_packed_rows_have_the_length_they_are_given_or_that_of_the_largest_picture(length):
    model = eye()
    model.length = length
    with record_attention(model) as record:
        model.read_row(model.cut(pictures(((3, 7), (2, 2)))))
    assert record[0].shape[2:] == (max(length, 21),) * 2


def test_with_a_class_token_it_is_a_vit():
    options = dict(image_size=16, patch_size=4, width=16, depth=2, heads=2)
    plain = ViT(ViTConfig(**options)).double().eval()
    model = NativeViT(NativeViTConfig(**options, class_token=True)).double().eval()
    model.load_state_dict(plain.state_dict())
    images = torch.stack(pictures(((3, 6), (3, 6))))
    for method in ("forward", "patches", "class_vector"):
        assert torch.equal(getattr(model, method)(images), getattr(plain, method)(images))
    row = model.read_row(model.cut(pictures(((3, 6), (2, 2)))))
    torch.testing.assert_close(row.split()[0], plain.patches(pictures(((3, 6),))[0][None])[0])
    wider = interpolate_positions(plain.positions, (4, 4), (3, 6))
    torch.testing.assert_close(model.embed(images)[0, 0], plain.class_token + wider[0])


@pytest.mark.parametrize("kind", ["positions", "turned", "of two frames"])
def test_without_a_class_token_all_tokens_are_patches(kind):
    model, images = eye(**KINDS[kind]), torch.stack(pictures(((3, 6), (3, 6))))
    assert model(images).shape == (2, 18, 16) and "class_token" not in model.state_dict()
    stream = model.layers(images)
    assert torch.equal(model.patches(images), stream[-1]) and torch.equal(
        model.patches(images, -2), stream[-2]
    )
    assert torch.equal(model(images), model.norm(stream[-1]))
    with pytest.raises(ValueError, match="this NativeViT has no class token"):
        model.class_vector(images)


def test_where_patches_stand_is_known_by_position_or_by_turn():
    image = pictures(((3, 4),))[0][None]
    moved = image.roll(4, dims=3)  # by one patch
    for kind, known in (("positions", True), ("turned", True)):
        one, other = (eye(**KINDS[kind]).patches(shown)[0] for shown in (image, moved))
        shifted = other.unflatten(0, (3, 4)).roll(-1, dims=1).flatten(0, 1)
        assert ((one - shifted).abs().max() > 1e-2) == known, kind
    assert "positions" not in eye(turned=True).state_dict() and eye().positions.shape == (16, 16)


def test_a_picture_of_two_frames_counts_as_two_equal_ones():
    model = eye(frames=2)
    once = eye()
    once.load_state_dict(
        model.state_dict() | {"embed_patch.weight": sum(model.embed_patch.weight.chunk(2, dim=1))}
    )
    torch.testing.assert_close(model(pictures()[0][None]), once(pictures()[0][None]))


def test_positions_of_a_size_are_stretched_once():
    model, calls = eye(), []

    def counting(positions, old_grid, new_grid):
        calls.append(new_grid)
        return resize_positions.reference(positions, old_grid, new_grid)

    resize_positions.install(counting)
    try:
        model.read_row(model.cut(pictures(((2, 3), (4, 4), (2, 3), (3, 2)))))
    finally:
        resize_positions.reset()
    assert calls == [(2, 3), (3, 2)]  # and never for the size that they were learned for


def test_patches_of_another_size_and_a_turned_class_token_are_refused():
    with pytest.raises(ValueError, match="48 numbers make a patch of side 4 and 3 channels; these have 27"):
        eye().read_row(PatchRow(torch.zeros(4, 27).double(), ((2, 2),)))
    with pytest.raises(ValueError, match="a class token stands in no row"):
        NativeViTConfig(class_token=True, turned=True)
    with pytest.raises(ValueError, match="16×18"):
        NativeViTConfig((16, 18), 4)
    assert NativeViTConfig().length == 256
