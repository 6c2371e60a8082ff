"""Exercises of chapter 02, part one: from pixels to tokens (see ch02_attention.py for what the tokens do)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import vit

exercise, quiz = chapter("02_vit")

# ---------------------------------------------------------------------------------------------- patchify


def _squares(images: Tensor, size: int) -> Tensor:
    """(batch, channel, row, row in patch, column, column in patch)"""
    batch, channel, height, width = images.shape
    return images.reshape(batch, channel, height // size, size, width // size, size)


def _patches_by_column(images: Tensor, size: int) -> Tensor:
    return _squares(images, size).permute(0, 4, 2, 3, 5, 1).flatten(3).flatten(1, 2)


def _channel_first(images: Tensor, size: int) -> Tensor:
    return _squares(images, size).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _pixels_by_column(images: Tensor, size: int) -> Tensor:
    return _squares(images, size).permute(0, 2, 4, 5, 3, 1).flatten(3).flatten(1, 2)


def _only_reshape(images: Tensor, size: int) -> Tensor:
    batch, channel, height, width = images.shape
    return images.reshape(batch, (height // size) * (width // size), size * size * channel)


def _gradients(batch: int, height: int, width: int) -> Tensor:
    """Red grows downwards, green to the right, with a little noise: in a picture one sees which patch went where."""
    down, right = torch.linspace(0, 0.9, height), torch.linspace(0, 0.9, width)
    image = torch.stack([down[:, None].expand(height, width), right.expand(height, width), torch.zeros(height, width)])
    return image + 0.1 * torch.rand(batch, 3, height, width)


def _tokens_as_picture(tokens: Tensor) -> Tensor:
    """The 4×4 patches of the first image side by side, with gaps."""
    return torch.cat([F.pad(token.reshape(4, 4, 3), (0, 0, 0, 1), value=1.0) for token in tokens[0]], dim=1)


def _size_before_rows(images: Tensor, size: int) -> Tensor:
    batch, channel, height, width = images.shape
    strided = images.reshape(batch, channel, size, height // size, size, width // size)
    return strided.permute(0, 3, 5, 2, 4, 1).flatten(3).flatten(1, 2)


exercise(
    vit.patchify,
    cases=lambda: [
        (_gradients(2, 8, 20), 4),  # pixel = 48, patch = 10
        (torch.rand(4, 3, 10, 25), 5),
        (torch.rand(3, 1, 6, 2), 2),
    ],
    slips=[
        Slip(_patches_by_column,
             "patches come out column by column; row-major order puts the grid row first."),
        Slip(_channel_first,
             "inside a patch the channel comes first; here it comes last: (row in patch, column in patch, "
             "channel)."),
        Slip(_pixels_by_column,
             "the pixels inside a patch are transposed: the row in the patch comes before the column in "
             "the patch."),
        Slip(_size_before_rows,
             "height is split into (size, rows), so a patch collects pixels from all over the image; it "
             "must be (rows, size): the grid index changes slowest."),
        Slip(_only_reshape,
             'a reshape alone reads across the whole image line by line, so a "patch" is a strip of one '
             "channel. Split height and width first, then bring the two grid axes together."),
    ],
    hints=[
        "Nothing is computed here: split axes with reshape, reorder them with permute, merge them with "
        "reshape.",
        "Split: (batch, channel, rows, size, columns, size). Which two of these six axes make up `patch`, "
        "and which three make up `pixel`?",
        "`images.reshape(b, c, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)`, then one more "
        "reshape.",
    ],
    gradient=("images",),
    picture=_tokens_as_picture,
)

# ------------------------------------------------------------------------------- class token and positions

exercise(
    vit.add_class_and_positions,
    cases=lambda: [
        (torch.randn(2, 6, 5), torch.randn(5), torch.randn(7, 5)),
        (torch.randn(4, 9, 3), torch.randn(3), torch.randn(10, 3)),
    ],
    slips=[
        Slip(lambda p, c, pos: torch.cat([p, c.expand(len(p), 1, -1)], 1) + pos,
             "the class token stands at the end; it must stand in front, as token 0."),
        Slip(lambda p, c, pos: torch.cat([c.expand(len(p), 1, -1), p], 1),
             "the positions are not added, so the model could not tell where a patch was."),
        Slip(lambda p, c, pos: torch.cat([c.expand(len(p), 1, -1), p + pos[1:]], 1),
             "the class token needs its position too: positions[0] is its own."),
        Slip(lambda p, c, pos: torch.cat([c.expand(len(p), 1, -1), p + pos[:-1]], 1),
             "the positions are off by one: positions[0] belongs to the class token, positions[1] to patch "
             "0."),
    ],
    hints=[
        "Every image gets the same class token: give it a batch axis, put it in front, then add.",
        "`class_token.expand(batch, 1, -1)` repeats it without copying; `torch.cat(..., dim=1)` joins "
        "along tokens; adding (token, width) to (batch, token, width) broadcasts.",
    ],
    gradient=("patches", "class_token", "positions"),
)

# --------------------------------------------------------------------------------- position interpolation


def _resize(positions, old, new, *, mode="bicubic", corners=False, with_class=False, swap=False):
    kept, grid = (positions[:0], positions[1:]) if with_class else (positions[:1], positions[1:])
    rows, columns = old[::-1] if swap else old
    picture = grid.reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    options = {} if mode == "nearest" else {"align_corners": corners}
    resized = F.interpolate(picture, size=new, mode=mode, **options)
    return torch.cat([kept, resized.flatten(2)[0].T])


def _without_permute(positions, old, new, before=True):
    """Reshape where a permute is needed: before or after resizing."""
    picture = positions[1:].reshape(1, *old, -1).permute(0, 3, 1, 2)
    if before:
        picture = positions[1:].reshape(1, -1, *old)
    resized = F.interpolate(picture, size=new, mode="bicubic", align_corners=False)
    rest = resized.flatten(2)[0].T if before else resized.reshape(-1, positions.shape[1])
    return torch.cat([positions[:1], rest])


def _as_a_line(positions, old, new):
    line = positions[1:].T[None]
    resized = F.interpolate(line, size=new[0] * new[1], mode="linear", align_corners=False)
    return torch.cat([positions[:1], resized[0].T])


exercise(
    vit.interpolate_positions,
    cases=lambda: [
        (torch.randn(1 + 3 * 4, 5), (3, 4), (6, 7)),
        (torch.randn(1 + 5 * 2, 3), (5, 2), (4, 6)),
    ],
    slips=[
        Slip(lambda p, old, new: _resize(p, old, new, with_class=True),
             "the class token's position is lost; row 0 stays in front, unchanged."),
        Slip(_without_permute,
             "reshape to (1, width, rows, columns) mixes positions and channels; reshape to (1, rows, "
             "columns, width), then permute(0, 3, 1, 2)."),
        Slip(lambda p, old, new: _without_permute(p, old, new, before=False),
             "on the way back the width must become the last axis: flatten the grid and transpose before "
             "you join."),
        Slip(lambda p, old, new: vit.interpolate_positions.reference(p, old, new, antialias=True),
             "this is timm's antialiased version; the course follows transformers: antialias=False."),
        Slip(_as_a_line,
             "the positions are stretched as one long line; lay them out on their rows × columns grid "
             "first."),
        Slip(lambda p, old, new: _resize(p, old, new, swap=True),
             "rows and columns of the old grid are swapped; a grid is (rows, columns)."),
        Slip(lambda p, old, new: _resize(p, old, new, mode="bilinear"),
             'this is bilinear; published ViTs resize positions bicubically (mode="bicubic").'),
        Slip(lambda p, old, new: _resize(p, old, new, mode="nearest"),
             'this copies the nearest position; use mode="bicubic" for a smooth map.'),
        Slip(lambda p, old, new: _resize(p, old, new, corners=True),
             "align_corners=True pins the corner patches to the corners; use align_corners=False, as the "
             "libraries do."),
    ],
    hints=[
        "Positions are a small picture with `width` channels. Take the class token off, resize, put it "
        "back.",
        "F.interpolate wants (1, width, rows, columns): reshape, then permute(0, 3, 1, 2). Use "
        'mode="bicubic", align_corners=False.',
        "Back again: `resized.flatten(2)[0].T` is (new patch, width); torch.cat with positions[:1] in "
        "front.",
    ],
    gradient=("positions",),
)

# ---------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "A ViT reads 448 × 448 pixels in patches of 14. How many tokens leave it, with the class token?",
    [
        ("1,025", True, "448 / 14 = 32, and 32 · 32 + 1 = 1,025. LLaVA would hand on the 1,024 patches."),
        ("1,024", False, "Those are the patches. The class token makes one more."),
        ("33", False, "That counts one row of patches and the class token; the grid has 32 rows."),
    ],
)
quiz(
    2,
    "You hand only the class token to a language model. Which question suffers most?",
    [
        ("Is this a photo of a cat?", False, "One summary vector is good at what the whole image is about."),
        ("What stands in the lower left corner?", True,
         "You saw it: a summary drops what it was not trained for; the patches know what is where."),
        ("Is it day or night?", False, "A global property is just what a summary keeps."),
    ],
)
quiz(
    3,
    "Two ViTs give equal answers but different attention maps. What follows?",
    [
        ("One of them is wrong.", False, "Different routes can carry the same information."),
        ("The maps alone do not explain the answer.", True,
         "They show where information may flow; test it by changing the input."),
        ("Rollout would make the maps equal.", False,
         "Rollout combines layers; it does not remove differences between models."),
    ],
)
