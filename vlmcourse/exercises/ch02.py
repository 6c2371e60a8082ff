"""Exercises of chapter 02, part one: from pixels to tokens (see ch02_attention.py for what the tokens do)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text
from vlmcourse.models import vit

CHAPTER = "02_vit"

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


Exercise(
    slot=vit.patchify,
    chapter=CHAPTER,
    cases=lambda: [
        (_gradients(2, 8, 20), 4),  # pixel = 48, patch = 10
        (torch.rand(4, 3, 10, 25), 5),
        (torch.rand(3, 1, 6, 2), 2),
    ],
    axes={"images": "batch channel height width", "return": "batch patch pixel"},
    slips=[
        Slip(_patches_by_column, Text(
            "patches come out column by column; row-major order puts the grid row first.",
            "パッチが列順に並んでいます。行優先では、グリッドの行を先に置きます。")),
        Slip(_channel_first, Text(
            "inside a patch the channel comes first; here it comes last: (row in patch, column in patch, channel).",
            "パッチ内でチャネルが先頭です。ここでは最後に置きます：（パッチ内の行、列、チャネル）。")),
        Slip(_pixels_by_column, Text(
            "the pixels inside a patch are transposed: the row in the patch comes before the column in the patch.",
            "パッチ内の画素が転置されています。パッチ内の行が列より先です。")),
        Slip(_size_before_rows, Text(
            "height is split into (size, rows), so a patch collects pixels from all over the image; it must be "
            "(rows, size): the grid index changes slowest.",
            "高さを (size, rows) に分けたため、パッチに離れた画素が集まっています。(rows, size) に分けてください。")),
        Slip(_only_reshape, Text(
            "a reshape alone reads across the whole image line by line, so a \"patch\" is a strip of one channel. "
            "Split height and width first, then bring the two grid axes together.",
            "reshape だけでは画像を行ごとに読むため「パッチ」が 1 チャネルの帯になります。"
            "先に高さと幅を分割し、グリッドの 2 軸を並べてください。")),
    ],
    hints=[
        Text("Nothing is computed here: split axes with reshape, reorder them with permute, merge them with reshape.",
             "計算は不要です。reshape で軸を分け、permute で並べ替え、reshape でまとめます。"),
        Text("Split: (batch, channel, rows, size, columns, size). Which two of these six axes make up `patch`, and "
             "which three make up `pixel`?",
             "分割すると (batch, channel, rows, size, columns, size)。"
             "どの 2 軸が patch、どの 3 軸が pixel になりますか。"),
        Text("`images.reshape(b, c, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)`, then one more reshape.",
             "`images.reshape(b, c, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)` のあと、"
             "もう一度 reshape します。"),
    ],
    gradient=("images",),
    picture=_tokens_as_picture,
)  # fmt: skip

# ------------------------------------------------------------------------------- class token and positions

Exercise(
    slot=vit.add_class_and_positions,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(2, 6, 5), torch.randn(5), torch.randn(7, 5)),
        (torch.randn(4, 9, 3), torch.randn(3), torch.randn(10, 3)),
    ],
    axes={"patches": "batch patch width", "class_token": "width", "positions": "token width",
          "return": "batch token width"},
    slips=[
        Slip(lambda p, c, pos: torch.cat([p, c.expand(len(p), 1, -1)], 1) + pos, Text(
            "the class token stands at the end; it must stand in front, as token 0.",
            "クラストークンが末尾にあります。先頭（トークン 0）に置いてください。")),
        Slip(lambda p, c, pos: torch.cat([c.expand(len(p), 1, -1), p], 1), Text(
            "the positions are not added, so the model could not tell where a patch was.",
            "位置が足されていません。これではパッチの場所が分かりません。")),
        Slip(lambda p, c, pos: torch.cat([c.expand(len(p), 1, -1), p + pos[1:]], 1), Text(
            "the class token needs its position too: positions[0] is its own.",
            "クラストークンにも位置が必要です。positions[0] がその位置です。")),
        Slip(lambda p, c, pos: torch.cat([c.expand(len(p), 1, -1), p + pos[:-1]], 1), Text(
            "the positions are off by one: positions[0] belongs to the class token, positions[1] to patch 0.",
            "位置が 1 つずれています。positions[0] はクラストークン、positions[1] がパッチ 0 のものです。")),
    ],
    hints=[
        Text("Every image gets the same class token: give it a batch axis, put it in front, then add.",
             "どの画像にも同じクラストークンが付きます。バッチ軸を付けて先頭に置き、位置を足します。"),
        Text("`class_token.expand(batch, 1, -1)` repeats it without copying; `torch.cat(..., dim=1)` joins along "
             "tokens; adding (token, width) to (batch, token, width) broadcasts.",
             "`class_token.expand(batch, 1, -1)` で複製し、`torch.cat(..., dim=1)` でつなぎます。"
             "足し算は自動で広がります。"),
    ],
    gradient=("patches", "class_token", "positions"),
)  # fmt: skip

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


Exercise(
    slot=vit.interpolate_positions,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(1 + 3 * 4, 5), (3, 4), (6, 7)),
        (torch.randn(1 + 5 * 2, 3), (5, 2), (4, 6)),
    ],
    axes={"positions": "token width", "return": "new_token width"},
    slips=[
        Slip(lambda p, old, new: _resize(p, old, new, with_class=True), Text(
            "the class token's position is lost; row 0 stays in front, unchanged.",
            "クラストークンの位置が消えています。0 行目はそのまま先頭に残します。")),
        Slip(_without_permute, Text(
            "reshape to (1, width, rows, columns) mixes positions and channels; reshape to (1, rows, columns, width), "
            "then permute(0, 3, 1, 2).",
            "(1, width, rows, columns) への reshape では位置とチャネルが混ざります。"
            "(1, rows, columns, width) にしてから permute(0, 3, 1, 2) します。")),
        Slip(lambda p, old, new: _without_permute(p, old, new, before=False), Text(
            "on the way back the width must become the last axis: flatten the grid and transpose before you join.",
            "戻すときは width を最後の軸にします。格子を flatten し、転置してからつなぎます。")),
        Slip(lambda p, old, new: vit.interpolate_positions.reference(p, old, new, antialias=True), Text(
            "this is timm's antialiased version; the course follows transformers: antialias=False.",
            "これは timm の antialias 版です。ここでは transformers に合わせ antialias=False とします。")),
        Slip(_as_a_line, Text(
            "the positions are stretched as one long line; lay them out on their rows × columns grid first.",
            "位置を 1 列のまま伸ばしています。先に rows × columns の格子に並べてください。")),
        Slip(lambda p, old, new: _resize(p, old, new, swap=True), Text(
            "rows and columns of the old grid are swapped; a grid is (rows, columns).",
            "元の格子の行と列が逆です。格子は (rows, columns) です。")),
        Slip(lambda p, old, new: _resize(p, old, new, mode="bilinear"), Text(
            "this is bilinear; published ViTs resize positions bicubically (mode=\"bicubic\").",
            "bilinear になっています。公開されている ViT は bicubic を使います。")),
        Slip(lambda p, old, new: _resize(p, old, new, mode="nearest"), Text(
            "this copies the nearest position; use mode=\"bicubic\" for a smooth map.",
            "最も近い位置のコピーです。滑らかにするには mode=\"bicubic\" を使います。")),
        Slip(lambda p, old, new: _resize(p, old, new, corners=True), Text(
            "align_corners=True pins the corner patches to the corners; use align_corners=False, as the libraries do.",
            "align_corners=True では角が固定されます。ライブラリと同じく False にしてください。")),
    ],
    hints=[
        Text("Positions are a small picture with `width` channels. Take the class token off, resize, put it back.",
             "位置は width チャネルの小さな画像です。クラストークンを外し、拡大縮小し、戻します。"),
        Text("F.interpolate wants (1, width, rows, columns): reshape, then permute(0, 3, 1, 2). Use mode=\"bicubic\", "
             "align_corners=False.",
             "F.interpolate は (1, width, rows, columns) を受け取ります。reshape のあと permute(0, 3, 1, 2)。"
             "mode=\"bicubic\"、align_corners=False。"),
        Text("Back again: `resized.flatten(2)[0].T` is (new patch, width); torch.cat with positions[:1] in front.",
             "戻すには `resized.flatten(2)[0].T` で (new patch, width)。先頭に positions[:1] を torch.cat します。"),
    ],
    gradient=("positions",),
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- quiz

Quiz(
    "02_vit/1",
    Text("A ViT reads 448 × 448 pixels in patches of 14. How many tokens leave it, with the class token?",
         "ViT が 448 × 448 画素を 14 画素のパッチで読みます。クラストークンを含めて何トークン出ますか。"),
    [
        (Text("1,025", "1,025"), True,
         Text("448 / 14 = 32, and 32 · 32 + 1 = 1,025. LLaVA would hand on the 1,024 patches.",
              "448 / 14 = 32、32 · 32 + 1 = 1,025。LLaVA なら 1,024 個のパッチを渡します。")),
        (Text("1,024", "1,024"), False,
         Text("Those are the patches. The class token makes one more.",
              "それはパッチの数です。クラストークンが 1 つ加わります。")),
        (Text("33", "33"), False,
         Text("That counts one row of patches and the class token; the grid has 32 rows.",
              "それは 1 行分とクラストークンです。格子は 32 行あります。")),
    ],
)  # fmt: skip
Quiz(
    "02_vit/2",
    Text("You hand only the class token to a language model. Which question suffers most?",
         "クラストークンだけを言語モデルに渡します。最も困る質問はどれですか。"),
    [
        (Text("Is this a photo of a cat?", "これは猫の写真ですか。"), False,
         Text("One summary vector is good at what the whole image is about.",
              "全体の要約は 1 つのベクトルが得意とするところです。")),
        (Text("What stands in the lower left corner?", "左下の隅に何がありますか。"), True,
         Text("You saw it: a summary drops what it was not trained for; the patches know what is where.",
              "見たとおり、要約は訓練されなかったことを捨てます。「どこに何が」はパッチが知っています。")),
        (Text("Is it day or night?", "昼ですか、夜ですか。"), False,
         Text("A global property is just what a summary keeps.", "全体の性質こそ要約に残るものです。")),
    ],
)  # fmt: skip
Quiz(
    "02_vit/3",
    Text("Two ViTs give equal answers but different attention maps. What follows?",
         "2 つの ViT が同じ答えを出しますが、アテンションマップは違います。何が言えますか。"),
    [
        (Text("One of them is wrong.", "どちらかが間違っている。"), False,
         Text("Different routes can carry the same information.", "違う経路でも同じ情報は運べます。")),
        (Text("The maps alone do not explain the answer.", "マップだけでは答えの説明にならない。"), True,
         Text("They show where information may flow; test it by changing the input.",
              "情報が流れうる場所を示すだけです。入力を変えて確かめます。")),
        (Text("Rollout would make the maps equal.", "rollout を使えば同じになる。"), False,
         Text("Rollout combines layers; it does not remove differences between models.",
              "rollout は層をまとめるだけで、モデルの違いは消えません。")),
    ],
)  # fmt: skip
