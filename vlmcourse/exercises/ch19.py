"""Exercises of chapter 19: grids of tiles and their row of tokens, packed pictures, boxes, fewer tokens."""

import torch

from vlmcourse.data import coordinates
from vlmcourse.data.coordinates import Placement
from vlmcourse.exercises.base import chapter
from vlmcourse.models import native, pruning, tiles

exercise, quiz = chapter("19_resolution_and_coordinates")

# what many slips change
_SCALE = "min(frame_width / width, frame_height / height)"
_COVERED = "int(width * scale) * int(height * scale)"
_BETTER = "effective > most or (effective == most and wasted < least)"
_TUPLES = "of grids equal in both, rows and columns decide, as in a comparison of tuples; the first one wins."
_INNER = "lines[down : len(lines) - down, right : lines.shape[1] - right]"
_EMPTY = "empty_lines(size, lines.shape[:2])"
_ROW = "torch.cat([tokens[0], torch.cat([lines, ends], dim=1).flatten(0, 1)])"
_LINED = ("torch.cat([tokens[0].reshape(side, side, -1), separator.expand(side, 1, -1)], dim=1)"
          ".flatten(0, 1)")  # the thumbnail's lines, a separator behind each
_ALONE = ("return tokens[0]\n", f"side = math.isqrt(tokens.shape[1])\n        return {_LINED}\n")
_UNGUARDED = ("    if not tiles:\n        return tokens[0]\n", "")
_AS_TILES = ("tokens[1:]", "tokens[-rows * columns :]")
_EARLY = ("if size", "lines = torch.cat([lines, separator.expand(len(lines), 1, -1)], dim=1)\n    if size")
_FLAT = "torch.cat([tokens[0], lines.flatten(0, 1)])"
_LINES = "blocks.transpose(1, 2).reshape(rows * side, columns * side, -1)"
_FIT = "first_fit([len(picture) for picture in pictures], length)"
_START = "rows, numbers, places = [], [], []"
_NUMBER = "torch.full((count,), picture)"
_PLACES = "places_of((height, width))"
_PLACED = f"F.pad({_PLACES}, (others, 0), value=NOWHERE)"
_ENDED = "torch.cat(place, dim=1), free"
_FILLED = "torch.cat(place, dim=1), (0, length - torch.cat(place, dim=1).shape[1])"
_MASK = "same & (numbers >= 0)[:, None, :] | itself"
_BACK = "(boxes - shift) / scale"
_SCALES = "[placement.scale_x, placement.scale_y]"
_PADDING = "[placement.left, placement.top]"
_INSIDE = "not (0 <= left < right <= width and 0 <= top < bottom <= height)"
_SHARES = "(left / width, top / height, right / width, bottom / height)"
_TEXT = "[{', '.join(map(str, numbers))}]"
_SPELLED = "min(int(share * THOUSANDTHS), THOUSANDTHS - 1)"
_Y_FIRST = "the box is read as top, left, bottom, right; it is left, top, right, bottom."
_WIDTH_FIRST = "width and height are exchanged; a size has the height first."
_CUT = "separators are put on before the padding is cut off, and go with it; cut first, then put them on."
_TOO = "the thumbnail's lines have separators, too; only those of the tiles do."
_TO_ZERO = "where an axis has no padding, a slice to -0 is empty; let it end at the length minus the padding."
_NO_TILES = "a grid of 1 × 1 has no tiles; for it return the tokens of the thumbnail, and nothing else."
_UNCOUNTED = ("some tokens have no number or no place; those in front of the patches have their picture's "
              "number, and -1 as place.")
_GIVEN = "return best.sort(dim=1).values"
_BEST = "scores.argsort(dim=1, descending=True, stable=True)[:, :k]"

exercise(tiles.choose_grid,
    cases=lambda: [
        (70, 190, [(1, 1), (2, 2), (1, 2), (1, 3), (3, 1)], 32), (190, 60, [(2, 1), (3, 1)], 64),
        (300, 120, [(2, 1), (1, 2), (3, 1), (2, 2), (1, 1)], 48), (50, 200, [(1, 1), (2, 2), (1, 2)], 64),
        (40, 40, [(2, 2), (1, 2), (2, 1), (1, 1)], 64), (60, 45, [(2, 2), (2, 3), (1, 1)], 40),
        (90, 90, [(1, 2), (2, 1)], 50), (90, 90, [(2, 1), (1, 2)], 50), (37, 211, [(2, 2)], 28),
        (1000, 700, [(1, 1), (2, 1), (2, 2), (3, 2), (2, 3)], 64), (158, 154, [(1, 1), (3, 1)], 16),
        (4, 640, [(2, 3), (1, 2)], 32), (219, 109, [(2, 2), (2, 1), (3, 1)], 64),
        (171, 360, [(2, 2), (1, 1), (3, 3), (3, 2)], 16), (198, 204, [(2, 1), (1, 2), (1, 1)], 28),
        (60, 45, [(2, 2), (1, 1)], 64), (640, 4, [(3, 2), (2, 1)], 32), (50, 40, [(1, 5), (2, 3)], 64),
    ],
    slips=[
        (_SCALE, f"max{_SCALE[3:]}",
         "the picture fills the frame and sticks out of it; with the smaller of the two scales all fits in."),
        ("min(covered, width * height)", "covered",
         "what a picture is enlarged by counts as shown; no more pixels are effective than it has itself."),
        ("wasted < least", "wasted > least",
         "of equal ones the most wasteful grid wins; take the one with the fewest other pixels."),
        (_BETTER, "wasted < least or (wasted == least and effective > most)",
         "small grids win, as waste is looked at first; effective pixels come first."),
        (_BETTER, "effective > most",
         "of equally effective grids the first in the list wins; the one that wastes least does."),
        (_BETTER, "effective >= most",
         "of equally effective grids the last in the list wins; the one that wastes least does."),
        (_BETTER, "(-effective, wasted, (rows, columns)) < (-most, least, best)", _TUPLES),
        (_BETTER, "(effective, -wasted, (rows, columns)) > (most, -least, best)", _TUPLES),
        ("wasted < least", "wasted <= least",
         "where effective and other pixels are equal, the last grid wins; the first in the list does."),
        ("rows * side, columns * side", "columns * side, rows * side",
         "heights meet widths; rows belong to the picture's height, columns to its width."),
        ("(rows, columns), effective", "(columns, rows), effective",
         "the grid comes out as columns, rows; rows come first."),
        (_COVERED, "round(width * scale) * round(height * scale)",
         "the scaled edges are rounded to the nearest pixel; round them down."),
        (_COVERED, "(width * scale) * (height * scale)",
         "parts of pixels count; pixels are whole, so round both scaled edges down."),
        (_COVERED, "frame_height * frame_width",
         "the whole frame counts as covered; what lies beside the scaled picture is padding."),
        (("grids[0], -1", "grids[0], -math.inf"),
         ("min(covered, width * height)", "-abs(math.log(frame_width / frame_height * height / width))"),
         "the grid whose aspect is nearest wins; what counts is how many pixels of the picture it shows."),
        ("min(covered, width * height)", "rows * columns",
         "the grid with the most tiles wins, even for a picture smaller than one; count effective pixels."),
        ("frame_width - effective", "frame_width - covered",
         "pixels that only enlarge the picture count as used; all that are not effective are wasted."),
    ],
    hints=["Lay the picture into each frame as large as it fits. How many pixels does it cover, and how many "
           "of them does it have itself?",
           "`scale = min(frame_width / width, frame_height / height)`; covered: `int(width * scale) * "
           "int(height * scale)`; effective: no more than `width * height`; wasted: the rest of the frame. "
           "Keep the best so far, and replace it only by a better one."],
)


def _tiled(rows: int, columns: int, side: int, width: int, size: tuple[int, int] | None) -> tuple:
    """Tokens of a thumbnail and its tiles, of side × side patches each."""
    pictures = 1 + rows * columns if rows * columns > 1 else 1
    return torch.randn(pictures, side**2, width), (rows, columns), torch.randn(width), size


exercise(tiles.lay_tiles, gradient=("tokens", "separator"),
    cases=lambda: [
        _tiled(2, 3, 4, 5, (300, 100)), _tiled(2, 3, 2, 5, None), _tiled(3, 1, 3, 2, (90, 70)),
        _tiled(1, 1, 3, 4, None), _tiled(1, 1, 2, 3, (40, 90)), _tiled(2, 2, 3, 7, (40, 150)),
        _tiled(1, 4, 2, 3, None), _tiled(2, 1, 2, 5, (150, 60)), _tiled(2, 4, 2, 5, (100, 200)),
        _tiled(2, 2, 4, 3, (90, 50)),
    ],
    slips=[
        (_LINES, "blocks.reshape(rows * side, columns * side, -1)",
         "a line goes on in the tile where it began; it runs through all tiles of a row."),
        ("reshape(rows, columns, side, side, -1)", "reshape(columns, rows, side, side, -1).transpose(0, 1)",
         "tiles are taken column by column; they come row by row."),
        ("blocks.transpose(1, 2)", "blocks.permute(0, 3, 1, 2, 4)",
         "inside the tiles rows and columns of patches are exchanged."),
        (_LINES, "blocks.permute(1, 3, 0, 2, 4).reshape(columns * side, rows * side, -1)",
         "the picture is read column by column; lines are rows of patches."),
        (_ROW, _FLAT, "there is no separator; one stands behind every line of the tiles."),
        ("[lines, ends]", "[ends, lines]", "the separator stands in front of each line; it ends one."),
        (_ROW, f"{_ROW}[:-1]", "the last line has no separator; every line ends with one."),
        (_ROW, "torch.cat([tokens[0], lines.flatten(0, 1), separator[None]])",
         "there is one separator for the whole picture; every line ends with one."),
        (("side, -1)\n    lines", "side, -1)\n    ends = separator.expand(rows, columns, side, 1, -1)\n"
          "    blocks = torch.cat([blocks, ends], dim=3)\n    lines"),
         ("(rows * side, columns * side, -1)", "(rows * side, columns * (side + 1), -1)"),
         (_ROW, _FLAT),
         "a separator stands where each tile ends within a line; it stands where the line ends."),
        (_EARLY, (_ROW, _FLAT), _CUT),
        (_EARLY, (_EMPTY, "empty_lines(size, (rows * side, columns * side))"), (_ROW, _FLAT), _CUT),
        (_ROW, "torch.cat([tokens[0], *(torch.cat([tile, separator[None]]) for tile in tokens[1:])])",
         "tiles stand one behind the other, with a separator each; put them together, and end lines."),
        (_ROW, _ROW.replace("[tokens[0],", "[tokens[0], separator[None],"),
         "a separator stands behind the thumbnail; only lines of the tiles have one."),
        (_ROW, _ROW.replace("tokens[0]", _LINED), _TOO),
        (_ALONE, (_ROW, _ROW.replace("tokens[0]", _LINED)), _TOO),
        (_ROW, "torch.cat([torch.cat([lines, ends], dim=1).flatten(0, 1), tokens[0]])",
         "the thumbnail stands behind the tiles, as in Idefics3; here it comes first."),
        (_ROW, "torch.cat([lines, ends], dim=1).flatten(0, 1)",
         "the thumbnail is missing; its tokens come first."),
        ("return tokens[0]\n", "return torch.cat([tokens[0], separator[None]])\n",
         "a thumbnail alone ends with a separator, as in transformers; here it has none."),
        (*_ALONE, "a thumbnail alone has a separator behind each line; here it has none."),
        (_UNGUARDED, _NO_TILES), (_UNGUARDED, _AS_TILES, _NO_TILES),
        (_UNGUARDED, _AS_TILES, (_ROW, _ROW.replace("[0]", "[0, : side**2 * (tiles > 0)]")), _NO_TILES),
        ("if size is not None", "if False",
         "lines of mere padding are kept; given a size, leave out what `empty_lines` counts."),
        (_INNER, "lines[down:-down, right:-right]", _TO_ZERO),
        (_INNER, "(lines[down:-down] if down else lines[:, right:-right])", _TO_ZERO),
        (_INNER, "lines[down:, right:]",
         "padding is left out above and on the left only; as much lies below and on the right."),
        (_INNER, "lines[2 * down :, 2 * right :]",
         "all padding is taken off above and on the left; half of it lies on the other side."),
        ("down, right = empty_lines", "right, down = empty_lines",
         "rows and columns of padding are exchanged; `empty_lines` gives rows first."),
        (_EMPTY, "empty_lines(size[::-1], lines.shape[:2])",
         "height and width of the picture are exchanged; a size has the height first."),
        (_EMPTY, "empty_lines(size, grid)",
         "padding is counted in tiles; `empty_lines` wants rows and columns of patches."),
    ],
    hints=["Put the tiles together to the picture that they were cut from. What stands behind each line?",
           "`tokens[1:].reshape(rows, columns, side, side, -1)` has axes row, column, row in tile, column in "
           "tile; bring the two rows together with `transpose(1, 2)`. `empty_lines(size, lines.shape[:2])` "
           "says what to leave out; `separator.expand(len(lines), 1, -1)` ends the lines."],
)


def _pictures(*sizes: tuple[int, int, int], width: int, length: int) -> tuple:
    """Pictures of (rows, columns, tokens in front of the patches), and how long a row is."""
    grids = [(rows, columns) for rows, columns, _ in sizes]
    return [torch.randn(rows * columns + front, width) for rows, columns, front in sizes], grids, length


exercise(native.pack_pictures, gradient=("pictures",),
    cases=lambda: [
        _pictures((2, 3, 1), (3, 4, 1), (1, 2, 1), (2, 1, 1), width=5, length=16),
        _pictures((2, 3, 0), (1, 5, 0), (2, 2, 0), (3, 1, 0), (1, 2, 0), width=3, length=10),
        _pictures((3, 2, 2), (1, 4, 0), (1, 2, 1), width=4, length=13),
        _pictures((1, 7, 0), width=2, length=7),
        _pictures((2, 4, 0), (5, 1, 3), (1, 1, 0), (2, 5, 2), (1, 3, 0), (1, 1, 1), width=7, length=12),
    ],
    slips=[
        (_NUMBER, "torch.full((count,), picture + 1)", "pictures are counted from 1; the first is 0."),
        ("torch.cat(number), free, value=NOWHERE", "torch.cat(number), free, value=0",
         "padding has number 0, as if it belonged to the first picture; it has -1."),
        ("torch.cat(number), free, value=NOWHERE", "torch.cat(number), free, value=members[-1]",
         "padding has the number of the picture before it, which would look at it; it has -1."),
        ("torch.cat(place, dim=1), free, value=NOWHERE", "torch.cat(place, dim=1), free, value=0",
         "padding stands in row 0 and column 0, as the first patch does; its place is -1."),
        ("(others, 0), value=NOWHERE", "(others, 0), value=0",
         "a class token stands in row 0 and column 0, as the first patch does; its place is -1."),
        (("(others, 0), value=NOWHERE", "(others, 0), value=0"),
         ("torch.cat(place, dim=1), free, value=NOWHERE", "torch.cat(place, dim=1), free, value=0"),
         "what is no patch stands in row 0 and column 0, as the first patch does; its place is -1."),
        (_PLACED, _PLACES, _UNCOUNTED), ((_PLACED, _PLACES), (_ENDED, _FILLED), _UNCOUNTED),
        (_PLACES, f"{_PLACES}.flip(0)", "row and column of the places are exchanged; rows come first."),
        (_PLACES, "places_of((width, height))",
         "rows and columns of the grids are exchanged; the number of rows comes first."),
        (_PLACES, "places_of((width, height)).flip(0)",
         "patches are counted column by column; they come row by row."),
        (_NUMBER, "torch.full((count,), len(number))",
         "each row counts its pictures from 0 again; a picture keeps its number among all."),
        ("(others, 0), value", "(0, others), value",
         "the places begin with the first token of a picture; other tokens stand in front of its patches."),
        ("free = (0, length - sum(len(pictures[picture]) for picture in members))",
         "free = (length - sum(len(pictures[picture]) for picture in members), 0)",
         "padding stands in front of the pictures; it fills rows up behind them."),
        (_FIT, "[[n] for n in range(len(pictures))]",
         "each picture has a row of its own; `first_fit` says which of them share one."),
        (_FIT, "first_fit([rows * columns for rows, columns in grids], length)",
         "room is counted in patches; class tokens take places, too, so count tokens."),
        ((_START, "rows, numbers, places, fits, room = [], [], [], [], 0\n"
          "    for picture, tokens in enumerate(pictures):\n        if len(tokens) > room:\n"
          "            fits, room = [*fits, []], length\n        fits[-1].append(picture)\n"
          "        room -= len(tokens)"), (_FIT, "fits"),
         "only the last row is filled; a picture goes into the first row with room, see `first_fit`."),
        ("torch.stack(places, dim=1)", "torch.stack(places)",
         "the places come row by row; rows and columns of patches are the first axis."),
        (_NUMBER, "F.pad(torch.full((count - others,), picture), (others, 0), value=NOWHERE)",
         "a class token has number -1, as if it were padding; it belongs to its picture."),
    ],
    hints=["`first_fit` says which pictures share a row. Go through the rows, and the pictures of each; note "
           "three things beside each other: tokens, number, place.",
           "Of a picture: `torch.full((count,), picture)`, and `native.places_of(grid)` with as many -1 in "
           "front as it has tokens more than patches. At a row's end `F.pad(..., value=-1)`; tokens get 0."],
)


def _numbered(*rows: list[int]) -> tuple:
    return (torch.tensor(rows),)


exercise(native.picture_mask,
    cases=lambda: [
        _numbered([0, 0, 1, 1, 1, -1, -1], [2, 2, 2, 2, 2, 2, -1], [3, 3, 4, 5, 5, 5, 5]),
        _numbered([0, 0, 0, 3, -1, -1, -1, -1, -1], [1, 1, 2, 2, 2, 2, 2, 4, 4]),
        _numbered([5, 0, -1, 5, 0]), _numbered([-1, -1, -1, -1], [300, 300, 301, 44], [4, 4, 4, -1]),
        (torch.randint(-1, 4, (4, 11)),), _numbered([0, 0, 1]),
    ],
    slips=[
        (_MASK, "same | itself", "padding sees all padding of its row; it sees itself alone."),
        (_MASK, "same & (numbers > 0)[:, None, :] | itself",
         "the first picture is taken for padding; it has number 0, padding -1."),
        (_MASK, "same & (numbers >= 0)[:, None, :]",
         "padding sees nothing, and softmax over nothing gives NaN; it sees itself."),
        (_MASK, "(numbers >= 0)[:, None, :] | itself",
         "every token sees all pictures of its row; it sees those of its own picture."),
        (_MASK, "((numbers >= 0)[:, :, None] & (numbers >= 0)[:, None, :]) | itself",
         "pictures that share a row see each other; a token sees those of its own picture."),
        (_MASK, f"~({_MASK})", "True stands where a token may not look; it stands where it may."),
        (_MASK, f"({_MASK}).tril()",
         "a token sees only what stands in front of it; a patch sees all patches of its picture."),
        (_MASK, "same | (numbers < 0)[:, None, :]", "all tokens see padding; no token of a picture does."),
        (_MASK, "same & (numbers >= 0)[:, None, :] | (numbers < 0)[:, :, None]",
         "padding sees all of its row; it sees itself alone."),
        (_MASK, f"torch.zeros(same.shape).masked_fill(~({_MASK}), float('-inf'))",
         "this is what is added to scores; True and False are asked for."),
        (_MASK, f"({_MASK})[:, None]",
         "there is an axis for the heads; `native_look` puts it in, so row, token, key are all."),
    ],
    hints=["Two tokens of a row see each other if they have one number. Which number does not count? What "
           "becomes of a token that sees nothing?",
           "`numbers[:, :, None] == numbers[:, None, :]`, and the key's number is not -1; then let each see "
           "itself, `torch.eye(length, dtype=torch.bool, device=numbers.device)`."],
)


def _seen(boxes: int, *placement: float) -> tuple:
    """Boxes somewhere in a frame of about 100 pixels; the first one begins at its edge, in the padding."""
    first = 80 * torch.rand(boxes, 2)
    first[0] = torch.tensor([-1.5, 2.25])
    return torch.cat([first, first + 1 + 40 * torch.rand(boxes, 2)], dim=1), Placement(*placement)


exercise(coordinates.to_picture, gradient=("boxes",),
    cases=lambda: [
        _seen(3, 0.5, 0.4, 20, 12), _seen(5, 0.75, 2.5, 0, 0), _seen(2, 1.6, 1.6, 0, 31),
        _seen(7, 0.3, 0.3, 17.5, 0), _seen(1, 1.0, 1.0, 9, 5),
    ],
    slips=[
        (_BACK, "boxes / scale - shift",
         "the padding is taken off last; it is measured in pixels of the frame, so it goes first."),
        (_BACK, "boxes * scale + shift",
         "this is the way there, from the picture to the frame; the way back is asked for."),
        (_BACK, "(boxes + shift) / scale", "the padding is added once more; it is taken off."),
        (_BACK, "(boxes - shift) * scale", "it is multiplied by the scale; on the way back it is divided."),
        (_BACK, "boxes * scale - shift",
         "each sign is turned, but not the order, and it is still multiplied; move back first, then divide."),
        (_BACK, "boxes / scale", "the padding is forgotten: boxes lie too far to the right or too low."),
        (_BACK, "boxes - shift", "the scale is forgotten; a pixel of the frame is no pixel of the picture."),
        (_SCALES, "[placement.scale_y, placement.scale_x]",
         "the two scales are exchanged; x comes first in a box."),
        (_PADDING, "[placement.top, placement.left]",
         "left and top padding are exchanged; x comes first in a box."),
        ((_SCALES, "[placement.scale_y, placement.scale_x]"), (_PADDING, "[placement.top, placement.left]"),
         "x and y are exchanged, in scale and padding; a box begins with left, which is x."),
        (_SCALES, "[placement.scale_x, placement.scale_x]",
         "y is divided by the scale of x; each has its own."),
        (_SCALES, "[placement.scale_y, placement.scale_y]",
         "x is divided by the scale of y; each has its own."),
        ("[placement.left, placement.top] * 2", "[placement.left, placement.top, 0, 0]",
         "right and bottom are not moved, as if they were width and height; they are edges, too."),
        (_BACK, "((boxes - shift) / scale).clamp(min=0)",
         "what lies in the padding is held at the edge; it is left where it comes out, beyond."),
        (_BACK, "((boxes - shift) / scale).round()",
         "edges are rounded to whole pixels; they stay as they come out."),
        (("[placement.scale_x, placement.scale_y] * 2",
          "[placement.scale_x, placement.scale_x, placement.scale_y, placement.scale_y]"),
         ("[placement.left, placement.top] * 2",
          "[placement.left, placement.left, placement.top, placement.top]"),
         "a box is taken as two x and two y; it is left, top, right, bottom."),
    ],
    hints=["On the way there a box was scaled, then moved. Which of the two steps is undone first?",
           "Take left and top off, then divide by `scale_x` and `scale_y`; in a box x and y take turns, "
           "so each of the two lists comes twice."],
)

exercise(coordinates.spell_box,
    cases=lambda: [
        ((12, 31, 57, 90), (110, 64)), ((0, 0, 256, 64), (64, 256)),
        ((100.5, 7.199, 230, 199.9), (200, 333)), ((3, 5, 6, 8), (9, 7)),
        ((640, 360, 1279, 1079), (1080, 1920)), ((1, 2, 63.98, 47.99), (48, 64)),
        ((8, 32, 16, 96), (128, 64)), ((0.1, 0.2, 0.3, 511.7), (512, 1024)), ((40, 10, 90, 70), (100, 90)),
    ],
    slips=[
        (_SHARES, "(top / height, left / width, bottom / height, right / width)",
         "y stands before x; a box is left, top, right, bottom."),
        (("left, top, right, bottom = box", "top, left, bottom, right = box"), (_INSIDE, "False"), _Y_FIRST),
        ("left, top, right, bottom = box", "top, left, bottom, right = box", _Y_FIRST),
        (_SPELLED, "int(share * THOUSANDTHS)",
         "the far edge becomes 1000; numbers go to 999, so what ends there counts to the last thousandth."),
        (_SPELLED, "min(round(share * THOUSANDTHS), THOUSANDTHS - 1)",
         "thousandths are rounded; a coordinate gets the one in which it lies, so round down."),
        (_SPELLED, "round(share * (THOUSANDTHS - 1))",
         "shares are multiplied by 999 and rounded; there are 1000 thousandths: times 1000, round down."),
        (_SPELLED, "int(share * (THOUSANDTHS - 1))",
         "shares are multiplied by 999; there are 1000 thousandths, from 0 to 999."),
        (_SHARES, "(left / width, top / height, right / width - 1e-9, bottom / height - 1e-9)",
         "right and bottom on a line get the thousandth before it, as in chapter 16; here the one behind."),
        (_SPELLED, "min(int(-(-share * THOUSANDTHS // 1)), THOUSANDTHS - 1)",
         "thousandths are rounded up; a coordinate gets the one in which it lies, so round down."),
        (("height, width = size", "width, height = size"), (_INSIDE, "False"), _WIDTH_FIRST),
        ("height, width = size", "width, height = size", _WIDTH_FIRST),
        (_SHARES, "(left / width, top / height, (right - left) / width, (bottom - top) / height)",
         "width and height of the box stand where its right and bottom edge belong."),
        (_SHARES, "(left / THOUSANDTHS, top / THOUSANDTHS, right / THOUSANDTHS, bottom / THOUSANDTHS)",
         "these are pixels; divide by width or height, so that the picture's size does not matter."),
        (_SHARES, "(left / width, top / width, right / width, bottom / width)",
         "y is divided by the width, too; it belongs to the height."),
        ("', '.join", "','.join", "behind each comma a space is missing."),
        (_TEXT, "({', '.join(map(str, numbers))})", "these are round brackets; a box stands in square ones."),
        (_TEXT, "{', '.join(map(str, numbers))}",
         "the brackets are missing; `read_boxes` finds a box by them."),
        (_SPELLED, "round(share, 3)", "these are shares, from 0 to 1; thousandths are whole numbers."),
        (_SHARES, "(left / width, top / height, (right - 1) / width, (bottom - 1) / height)",
         "right and bottom are taken one pixel back; they are edges, not the last pixels inside."),
        ("return f\"[{', '.join(map(str, numbers))}]\"", "return numbers",
         "this is a list of numbers; the text of it is asked for."),
    ],
    hints=["Which share of the width, or of the height, is each coordinate? In which thousandth does it lie?",
           "`int(left / width * 1000)`, and 999 where that gives 1000; y is divided by the height. Then "
           "`\"[\" + \", \".join(...) + \"]\"`."],
)


def _tied(batch: int, tokens: int, kinds: int) -> torch.Tensor:
    return torch.randint(-1, kinds - 1, (batch, tokens)).float()


exercise(pruning.keep_tokens,
    cases=lambda: [
        (torch.randn(2, 9), 4), (_tied(3, 33, 3), 10), (torch.randn(3, 5), 5), (torch.randn(4, 7), 1),
        (_tied(2, 7, 2), 3), (1e-6 * torch.rand(2, 12), 5),
        (torch.tensor([[-1e4, -200.0, -300, 5, 90, -1e-3], [1, 1.0002, 1.0001, -2, 1.0004, 1.0003]]), 4),
        (torch.zeros(2, 40), 7), (1000 * _tied(5, 21, 4), 13),
    ],
    slips=[
        (_GIVEN, "return best",
         "the places come in the order of their scores; they come in their own, from first to last."),
        ("descending=True", "descending=False",
         "the tokens with the lowest scores are kept; keep those with the highest."),
        (_BEST, "scores.topk(k, dim=1).indices",
         "`topk` leaves open which of equal scores it takes; take the first ones, as a stable sort does."),
        ((_BEST, "scores.topk(k, dim=1).indices"), (_GIVEN, "return best"),
         "`topk` gives places by their scores, any of equal ones; take the first ones, and sort the places."),
        (", stable=True", "",
         "without `stable=True` equal scores change places in long rows; the first ones stay."),
        (_BEST, "scores.shape[1] - 1 - scores.flip(1).argsort(dim=1, descending=True, stable=True)[:, :k]",
         "of equal scores the last are taken; the first stay."),
        (_GIVEN, "return scores.gather(1, best.sort(dim=1).values)",
         "these are scores; the places of the tokens are asked for."),
        (_GIVEN, "return torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True)",
         "this is a mask of all tokens; the places of those kept are asked for."),
        (_GIVEN, "return best.sort(dim=1).indices",
         "these are the places in the sorted list; the sorted places themselves are asked for."),
        (_GIVEN, "return best.sort(dim=1, descending=True).values",
         "the places come from last to first; they come from first to last."),
        (_BEST, "scores.abs().argsort(dim=1, descending=True, stable=True)[:, :k]",
         "signs are forgotten; a score far below 0 is a low one."),
        ("[:, :k]", "[:, k:]", "the places of the tokens that go are given; give those that stay."),
        ("[:, :k]", "[:, : k - 1]", "one token too few is kept."),
        ("[:, :k]", "[:, : k + 1]", "one token too many is kept."),
        (_BEST, "scores.softmax(dim=1).argsort(dim=1, descending=True, stable=True)[:, :k]",
         "low scores become probabilities of 0, all alike, and lose their order; compare the scores."),
    ],
    hints=["First which tokens, by their scores; then in which order, by their places. Two sorts.",
           "`scores.argsort(dim=1, descending=True, stable=True)` leaves equal ones in their order. Of these "
           "the first k, then `.sort(dim=1).values`."],
)

quiz(1, "A model that reads printed words gets a quarter of the image tokens that they need. It answers in "
        "whole words, without a pause. What do you know of its answers?", [
    ("That they are right: a model that cannot read a word says so, or stammers.", False,
     "Nothing in training taught it to. Where letters are gone, the language model writes what is likely."),
    ("That they are fluent. How many are right has to be measured.", True,
     "Fluency comes from the language model, which lost nothing. Which letters they were, only the "
     "picture knows."),
    ("That they are wrong: with so few tokens nothing can be read.", False,
     "Large things survive, and some words are likely anyway. Only a count tells how many."),
])
quiz(2, "Pictures are read in a square letterbox. A model's boxes fit on square ones. On wide ones left and "
        "right fit, but top and bottom are too near to the middle of the picture. Which mistake is it?", [
    ("x and y are exchanged.", False,
     "Then x would be wrong, too, and on square pictures as well: boxes would be mirrored."),
    ("Its numbers are thousandths of the frame with its padding, read as those of the picture.", True,
     "Only above and below a wide picture there is padding; it presses all heights towards the middle."),
    ("Its numbers are pixels, read as thousandths.", False,
     "Then both axes would be wrong: below 1000 pixels, boxes lie too near to the top left corner."),
])
quiz(3, "Two pictures are cut into tiles of 4 × 4 patches: 2 × 3 tiles for one, 3 × 2 for the other, a "
        "thumbnail for each, nothing padded. How many tokens does `lay_tiles` make of them, and why?", [
    ("112 each: 7 pictures of 16 patches.", False,
     "So it would be without separators, and nothing in the row would tell one grid from the other."),
    ("118 each: 112, and one separator for each tile.", False,
     "Tiles are put together before they are read; what ends is a line of the whole picture."),
    ("120 and 124: 112, and one separator for each of 8 and 12 lines.", True,
     "A line is a row of patches through all tiles. The picture of 3 × 2 tiles has 12 of them, so the count "
     "itself tells the grids apart."),
])
