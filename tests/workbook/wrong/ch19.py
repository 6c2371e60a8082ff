"""Wrong answers to the exercises of chapter 19."""

import math

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong
from vlmcourse.models import native, tiles


@wrong("tiles.choose_grid", "as in a comparison of tuples")
def the_largest_tuple(height, width, grids, side):
    """Where effective and wasted pixels are equal, the grid itself is compared."""
    rated = []
    for rows, columns in grids:
        scale = min(rows * side / height, columns * side / width)
        effective = min(int(height * scale) * int(width * scale), height * width)
        rated.append((effective, effective - rows * columns * side**2, (rows, columns)))
    return max(rated)[2]


@wrong("tiles.choose_grid", "`(effective, -rows * columns)` in its place")
def the_shortest_edges(height, width, grids, side):
    """The waste is told by the sum of rows and columns."""

    def worth(grid):
        rows, columns = grid
        scale = min(rows * side / height, columns * side / width)
        effective = min(int(height * scale) * int(width * scale), height * width)
        return effective, -rows - columns

    return max(grids, key=worth)


@wrong("tiles.choose_grid", "parts of pixels count")
def the_product_cut_once(height, width, grids, side):
    """The area is cut to a whole number, not each edge."""

    def worth(grid):
        scale = min(grid[0] * side / height, grid[1] * side / width)
        effective = min(int(height * scale * width * scale), height * width)
        return effective, effective - grid[0] * grid[1] * side**2

    return max(grids, key=worth)


@wrong("tiles.choose_grid", "* side` in its place")
def a_scale_without_the_side(height, width, grids, side):
    """The frame is taken to have one pixel for each tile."""

    def worth(grid):
        scale = min(grid[0] / height, grid[1] / width)
        effective = min(int(height * scale) * int(width * scale), height * width)
        return effective, effective - grid[0] * grid[1]

    return max(grids, key=worth)


def whole(tokens, grid):
    """Tokens of the tiles, put together: (line, place in it, width)."""
    side = math.isqrt(tokens.shape[1])
    blocks = tokens[1:].reshape(*grid, side, side, -1)
    return blocks.transpose(1, 2).reshape(grid[0] * side, grid[1] * side, -1)


def without_padding(lines, size):
    """Lines without those of mere padding."""
    if size is None:
        return lines
    down, right = tiles.empty_lines(size, lines.shape[:2])
    return lines[down : len(lines) - down, right : lines.shape[1] - right]


@wrong("tiles.lay_tiles", "the last line has no separator")
def separators_between(tokens, grid, separator, size=None):
    """A separator stands between lines only."""
    if len(tokens) == 1:
        return tokens[0]
    row = [tokens[0]]
    for number, line in enumerate(without_padding(whole(tokens, grid), size)):
        row += [separator[None], line] if number else [line]
    return torch.cat(row)


@wrong("tiles.lay_tiles", "`torch.cat([lines, ends], dim=1)` in its place")
def separators_in_place_of_tokens(tokens, grid, separator, size=None):
    """The separator takes the place of the last token of a line."""
    if len(tokens) == 1:
        return tokens[0]
    lines = without_padding(whole(tokens, grid), size)
    ends = separator.expand(len(lines), 1, -1)
    lines = torch.cat([lines[:, :-1], ends], dim=1)
    return torch.cat([tokens[0], lines.flatten(0, 1)])


@wrong("tiles.lay_tiles", "`number + 1` in its place")
def a_separator_for_each_row_of_tiles(tokens, grid, separator, size=None):
    """Only the last line of a row of tiles has a separator."""
    if len(tokens) == 1:
        return tokens[0]
    side, row = math.isqrt(tokens.shape[1]), [tokens[0]]
    for number, line in enumerate(without_padding(whole(tokens, grid), size)):
        row.append(line)
        if (number + 1) % side == 0:
            row.append(separator[None])
    return torch.cat(row)


@wrong("tiles.lay_tiles", "right for `tokens.roll(1, 0)` in place of `tokens`")
def the_thumbnail_taken_from_the_end(tokens, grid, separator, size=None):
    """The last picture is taken for the thumbnail, as in Idefics3."""
    if len(tokens) == 1:
        return tokens[0]
    side = math.isqrt(tokens.shape[1])
    lines = tokens[:-1].reshape(*grid, side, side, -1).transpose(1, 2)
    lines = without_padding(lines.reshape(grid[0] * side, grid[1] * side, -1), size)
    lines = torch.cat([lines, separator.expand(len(lines), 1, -1)], dim=1)
    return torch.cat([tokens[-1], lines.flatten(0, 1)])


@wrong("native.pack_pictures", "rows and columns of the grids are exchanged")
def places_counted_by_the_rows(pictures, grids, length):
    """A patch's row and column are counted in a grid as wide as it is high."""
    rows, numbers, places = [], [], []
    for members in native.first_fit([len(tokens) for tokens in pictures], length):
        tokens, number, place = torch.cat([pictures[each] for each in members]), [], []
        for each in members:
            high, wide = grids[each]
            patch = torch.arange(high * wide)
            place.append(
                F.pad(
                    torch.stack([patch // high, patch % high]),
                    (len(pictures[each]) - high * wide, 0),
                    value=-1,
                )
            )
            number += [each] * len(pictures[each])
        free = length - len(tokens)
        rows.append(F.pad(tokens, (0, 0, 0, free)))
        numbers.append(F.pad(torch.tensor(number), (0, free), value=-1))
        places.append(F.pad(torch.cat(place, dim=1), (0, free), value=-1))
    return torch.stack(rows), torch.stack(numbers), torch.stack(places, dim=1)


@wrong("native.picture_mask", "padding sees nothing")
def padding_without_itself(numbers):
    """Padding is left out both as query and as key."""
    real = numbers >= 0
    return (numbers[:, :, None] == numbers[:, None]) & real[:, None] & real[:, :, None]


@wrong("native.picture_mask", "`numbers` in its place")
def padding_as_picture_one(numbers):
    """The sign of padding is dropped, so it looks at picture 1."""
    whose = numbers.abs()
    same = (whose[:, :, None] == whose[:, None]) & (numbers >= 0)[:, None]
    return same | torch.eye(numbers.shape[1], dtype=torch.bool, device=numbers.device)


@wrong("native.picture_mask", "`mask` in its place")
def a_mask_that_looks_ahead(numbers):
    """A token looks only at those behind it."""
    mask = (numbers[:, :, None] == numbers[:, None]) & (numbers >= 0)[:, None]
    mask = mask | torch.eye(numbers.shape[1], dtype=torch.bool, device=numbers.device)
    return mask.triu()


@wrong("coordinates.to_picture", "the padding is taken off last")
def padding_in_pixels_of_the_picture(boxes, placement):
    """The padding is scaled, too, before it is taken off."""
    scale = boxes.new_tensor([placement.scale_x, placement.scale_y] * 2)
    shift = boxes.new_tensor([placement.left, placement.top] * 2)
    return (boxes - shift * scale) / scale


@wrong("coordinates.to_picture", "Right: side 0, 1; wrong: side 2, 3")
def width_and_height_in_place_of_edges(boxes, placement):
    """The box ends with its width and height."""
    scale = boxes.new_tensor([placement.scale_x, placement.scale_y])
    shift = boxes.new_tensor([placement.left, placement.top])
    first, last = (boxes[:, :2] - shift) / scale, (boxes[:, 2:] - shift) / scale
    return torch.cat([first, last - first], dim=1)


@wrong("coordinates.spell_box", "with `min(int(at * (1000 / edge)), 999)`")
def whole_thousandths_for_a_pixel(box, size):
    """How many thousandths a pixel has is cut to a whole number."""
    edges = (size[1], size[0], size[1], size[0])
    return str([min(int(at * (1000 // edge)), 999) for at, edge in zip(box, edges, strict=True)])


@wrong("coordinates.spell_box", "`min(int(at / edge * 1000), 999)` in its place")
def thousandths_from_one(box, size):
    """Thousandths are counted from 1."""
    edges = (size[1], size[0], size[1], size[0])
    return str([min(int(at / edge * 1000) + 1, 999) for at, edge in zip(box, edges, strict=True)])


@wrong("pruning.keep_tokens", "of equal scores the last are taken")
def the_end_of_a_rising_sort(scores, k):
    """Sorted from low to high, the last k are taken."""
    return scores.argsort(dim=1, stable=True)[:, -k:].sort(dim=1).values


@wrong("pruning.keep_tokens", "[:, :k]")
def places_sorted_before_the_cut(scores, k):
    """All places are sorted, so the first k of the row are kept."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    return order.sort(dim=1).values[:, :k]


@wrong("pruning.keep_tokens", ".argsort(-1) < k` in its place")
def places_for_ranks(scores, k):
    """The sorted places are read as the ranks of the tokens."""
    kept = scores.argsort(dim=1, descending=True, stable=True) < k
    return kept.nonzero()[:, 1].view(len(scores), k)
