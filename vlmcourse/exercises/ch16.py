"""Exercises of chapter 16: frames and their places in a row, M-RoPE, location tokens."""

import torch
from torch import Tensor

from vlmcourse.exercises.base import chapter
from vlmcourse.models import frames, locations, mrope

exercise, quiz = chapter("16_multi_image_video")

exercise(frames.interleave,
    cases=lambda: [
        ([5, 9, 6, 9, 9, 7], 9, [2, 1, 3]),
        ([4, 4, 8, 1, 4], 4, [3, 2, 5]),
        ([9, 3, 9], 9, [1, 4]),
        ([2, 5, 7], 9, []),
        ([7, 3, 3, 5], 3, [0, 2]),
    ],
    slips=[
        ("len(row)))", "len(row) - 1))",
         "the second place of a span is the picture's last; it is the first one behind the picture."),
        ("begin = len(row)", "begin = len(row) + len(spans)",
         "each span begins one later for every picture before it; the row says where it begins."),
        ("sizes[len(spans)]", "sizes[-1 - len(spans)]",
         "the sizes are taken from the end; the first one belongs to the first marker."),
        ("sizes[len(spans)]", "sizes[0]", "every picture has the first one's size; each has its own."),
        ("[marker] * sizes[len(spans)]", "[marker] * (sizes[len(spans)] + 1)",
         "the marker stays beside its places, so every picture has one too many."),
        ("[marker] * sizes[len(spans)]", "[marker]",
         "a marker stays one place; it becomes as many as the picture has tokens."),
        ("spans.append((begin, len(row)))", "spans.append((begin, sizes[len(spans)]))",
         "a span holds where the picture begins and how long it is; the second number is a place, too."),
        ("return row, spans", "places = [place for place, one in enumerate(ids) if one == marker]\n"
         "    return row, [(place, place + size) for place, size in zip(places, sizes)]",
         "the spans are counted in the short row; pictures before push the later ones on."),
        ("return row, spans", "words = [one for one in row if one != marker]\n"
         "    return [marker] * sum(sizes) + words, spans",
         "all pictures stand in front of the words; each stays where its marker was."),
        ("return row, spans", "return row, spans[::-1]", "the spans come in reverse order."),
        ("[marker] * sizes[len(spans)]", "[marker] * max(1, sizes[len(spans)])",
         "a picture without tokens keeps a place; it leaves none, and its span is empty."),
        ("return row, spans", "row, spans = list(ids), []\n    for size in sizes:\n"
         "        begin = row.index(marker)\n        row[begin : begin + 1] = [marker] * size\n"
         "        spans.append((begin, begin + size))\n    return row, spans",
         "the next marker is looked for from the beginning, and found in the picture before; "
         "go on behind that."),
        ("            row.append(one)\n", "            pass\n",
         "the words are gone; everything but the markers stays as it was."),
    ],
    hints=["Walk through the ids. A word goes into the new row as it is; what happens at a marker?",
           "`begin = len(row)`, then `row += [marker] * size`, then note `(begin, len(row))`. "
           "How many spans there are already tells which size is next."],
)

exercise(frames.sample_frames,
    cases=lambda: [(8, 4), (10, 4), (9, 1), (7, 3), (4, 9), (6, 6), (100, 12), (3, 2), (5, 4), (9000, 7)],
    slips=[
        ("2 * torch.arange(budget) + 1", "2 * torch.arange(budget)",
         "these are the first frames of the spans; take those in the middle."),
        ("2 * torch.arange(budget) + 1", "2 * torch.arange(budget) + 2",
         "these are the ends of the spans, so the last frame lies behind the clip."),
        ("return middles * count // (2 * budget)", "return torch.linspace(0, count - 1, budget).long()",
         "these run from the very first frame to the very last; take the middle of each span."),
        ("return middles * count // (2 * budget)", "return torch.arange(budget)",
         "only the beginning of the clip is seen; spread the frames over all of it."),
        ("return middles * count // (2 * budget)", "return torch.arange(count - budget, count)",
         "only the end of the clip is seen; spread the frames over all of it."),
        ("middles * count // (2 * budget)", "torch.arange(budget) * (count // budget)",
         "the step is rounded before it is multiplied, so the end of the clip is never seen."),
        ("middles * count // (2 * budget)", "torch.arange(budget) * (count // budget) + count // budget // 2",
         "the step is rounded before it is multiplied, so the frames come earlier and earlier."),
        ("return middles * count // (2 * budget)", "ends = torch.arange(budget + 1) * count // budget\n"
         "    return (ends[:-1] + ends[1:]) // 2",
         "the ends of the spans are rounded before their middle is taken; round once, in the end."),
        ("return middles * count // (2 * budget)", "return torch.linspace(0, count, budget + 2)[1:-1].long()",
         "these are the lines between one span more than there may be frames; take the middles of spans."),
        ("return middles * count // (2 * budget)", "step = torch.tensor(count / budget).half()\n"
         "    return ((torch.arange(budget) + 0.5).half() * step).long()",
         "in 16 bits whole numbers above 2,048 are rounded, and long clips have more frames."),
        ("middles * count // (2 * budget)", "-(-middles * count // (2 * budget))",
         "the middles are rounded up; round them down."),
        ("    if budget >= count:\n        return torch.arange(count)\n", "",
         "a short clip gives some frames twice; if the budget allows it, take each frame once."),
        ("return torch.arange(count)\n", "return torch.arange(budget).clamp(max=count - 1)\n",
         "a short clip is filled up with its last frame; take each frame once."),
        ("return torch.arange(count)\n", "return torch.arange(budget)\n",
         "a short clip has no more frames than it has; take each once."),
    ],
    hints=["Cut the clip into as many equal spans as the budget allows frames. "
           "Where is the middle of span k?",
           "Span k runs from k · count / budget to (k + 1) · count / budget; its middle, in whole numbers, "
           "is `(2 * k + 1) * count // (2 * budget)`."],
)

exercise(frames.pool_frame, gradient=("tokens",),
    cases=lambda: [
        (torch.randn(2, 24, 5), 2, (4, 6)),
        (torch.randn(3, 36, 4), 3, None),
        (torch.randn(2, 27, 5), 3, (9, 3)),
        (torch.randn(4, 15, 2), 1, (3, 5)),
        (torch.randn(1, 16, 3).clamp(min=0), 2, None),
    ],
    slips=[
        (".mean(dim=(2, 4))", ".sum(dim=(2, 4))", "the patches of a square are added up; take their mean."),
        (".mean(dim=(2, 4))", ".amax(dim=(2, 4))", "the largest number of a square is kept; take the mean."),
        (".mean(dim=(2, 4))", "[:, :, 0, :, 0]",
         "only the first patch of each square is kept; the others count as much."),
        (".mean(dim=(2, 4))", ".mean(dim=(1, 3))",
         "patches at the same place in different squares are averaged; average inside each square."),
        (".mean(dim=(2, 4))", ".sum(dim=(2, 4)) / (squares != 0).sum(dim=(2, 4)).clamp(min=1)",
         "zeros are left out of the mean; they count like any number."),
        (("tokens.reshape(", "tokens.reshape(frame, width, -1).mT.reshape("),
         "width is read as if it stood before the patches; transpose moves an axis, reshape does not."),
        ("squares.mean(dim=(2, 4)).flatten(1, 2)", "tokens.reshape(frame, -1, side * side, width).mean(2)",
         "neighbours in the row of tokens are averaged; a square holds patches of several rows."),
        ("rows // side, side, columns // side, side", "columns // side, side, rows // side, side",
         "rows and columns of the grid are exchanged."),
        (".flatten(1, 2)", ".transpose(1, 2).flatten(1, 2)",
         "the squares come column by column; they go row by row."),
        (".mean(dim=(2, 4)).flatten(1, 2)", ".transpose(2, 3).reshape(frame, -1, width * side**2)",
         "the patches of a square stand side by side, as in pixel_shuffle; pooling takes their mean."),
        (".mean(dim=(2, 4))", ".mean(dim=2)[:, :, :, 0]",
         "the first column of each square is averaged; a square has more columns."),
        (".flatten(1, 2)", "", "rows and columns of squares are two axes still; put them together."),
    ],
    hints=["Give the patches back their grid, and cut rows and columns into pieces of `side`.",
           "`tokens.reshape(frame, rows // side, side, columns // side, side, width)`; "
           "two of these axes lie inside a square. Average over those."],
)

exercise(mrope.mrope_positions,
    cases=lambda: [
        (9, [(3, 7)], [(1, 2, 2)]),
        (14, [(1, 9), (11, 14)], [(1, 2, 4), (1, 3, 1)]),
        (17, [(2, 14)], [(3, 2, 2)]),
        (13, [(0, 4), (4, 10)], [(4, 1, 1), (1, 3, 2)]),
        (5, [], []),
    ],
    slips=[
        ("start = end, int(picture.max()) + 1", "start = end, start + end - place",
         "behind a picture the words count on as if each of its tokens were a word; "
         "they stand one behind its largest number."),
        ("start = end, int(picture.max()) + 1", "start = end, int(picture[1:].max()) + 1",
         "the frames of a clip are forgotten where the words go on; its last time counts, too."),
        ("int(picture.max()) + 1", "int(picture.max())",
         "the first word behind a picture stands where the picture's last token stands; go one further."),
        ("int(picture.max()) + 1", "int(picture[:2].max()) + 1",
         "columns are forgotten where the words go on; the last one may have the largest number."),
        ("int(picture.max()) + 1", "int(picture[::2].max()) + 1",
         "rows are forgotten where the words go on; the last one may have the largest number."),
        ("int(picture.max()) + 1", "int(picture[0].max()) + 1",
         "only the time counts where the words go on; rows and columns may have larger numbers."),
        ("grid_positions(start + begin - place, grid)", "grid_positions(0, grid)",
         "every picture starts at 0; it starts where the words before it end."),
        ("grid_positions(start + begin - place, grid)", "grid_positions(begin, grid)",
         "a picture starts at its place in the row; "
         "pictures before it took up fewer numbers than they have tokens."),
        ("grid_positions(start + begin - place, grid)", "grid_positions(start, grid)",
         "a picture starts beside the words before it; it starts behind them."),
        ("grid_positions(start + begin - place, grid)",
         "torch.arange(start + begin - place, start + end - place).expand(3, -1)",
         "the tokens of a picture are counted like words; each stands at its time, row and column."),
        ("grid_positions(start + begin - place, grid)",
         "grid_positions(start + begin - place, grid)[[0, 2, 1]]",
         "row and column are exchanged."),
        ("grid_positions(start + begin - place, grid)",
         "grid_positions(start + begin - place, grid) - torch.tensor([start + begin - place, 0, 0])[:, None]",
         "the time of a picture starts at 0; all three numbers start where the words before it end."),
        ("torch.arange(start, start + length - place)", "torch.arange(place, length)",
         "the last words stand at their places in the row; "
         "they stand behind the largest number before them."),
    ],
    hints=["Keep one number: where the next word would stand. Words raise it by one each. And a picture?",
           "Words from `start` on, `torch.arange(...).expand(3, -1)`; then `mrope.grid_positions(...)`; then "
           "`start = picture.max() + 1`. At the end `torch.cat(parts, dim=1)`."],
)

exercise(mrope.pair_axes,
    cases=lambda: [((1, 2, 3), False), ((4, 2, 1), True), ((3, 3, 3), True), ((5, 1, 3), True),
                   ((4, 2, 2), False), ((24, 20, 20), True)],
    slips=[
        ("if not interleaved:", "if True:",
         "the pairs are in three chunks in either way; interleaved, the three take turns."),
        ("if not interleaved:", "if interleaved:", "the two ways are exchanged."),
        ("for axis in (1, 2)", "for axis in (2, 1)[:1]",
         "interleaved, the row turns no pair; it has a section, too."),
        ("axes[axis : 3 * sections[axis] : 3]", "axes[axis::3]",
         "row and column take every third pair to the end; they have no more than their sections."),
        ("axes[axis : 3 * sections[axis] : 3]", "axes[axis : sections[axis] : 3]",
         "the sections are taken as places; a section of n pairs, every third, ends at 3 · n."),
        ("axes[axis : 3 * sections[axis] : 3]", "axes[axis - 1 : 3 * sections[axis] : 3]",
         "row and column begin one pair too early; the first pair of each three is the time's."),
        ("= axis", "= 3 - axis", "interleaved, row and column are exchanged."),
        ("torch.zeros(sum(sections), dtype=torch.long)", "torch.full((sum(sections),), 2)",
         "what row and column leave over goes to the column; it is the time's."),
        ("torch.arange(3).repeat_interleave(torch.tensor(sections))",
         "torch.arange(3).repeat_interleave(torch.tensor(sections).flip(0))",
         "in chunks, the sections are taken from the end; the first one is the time's."),
        ("torch.arange(3).repeat_interleave(torch.tensor(sections))",
         "(torch.arange(sum(sections)) % 3)",
         "in chunks, the three take turns; each has its pairs side by side."),
    ],
    hints=["In chunks: sections[0] zeros, sections[1] ones, sections[2] twos. `repeat_interleave` does that.",
           "Interleaved: begin with zeros; then `axes[1 : 3 * sections[1] : 3] = 1`, and the same for 2."],
)


def _boxes(*corners: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(corners)


def _scattered(count: int) -> Tensor:
    """Random boxes, of a width and a height of at least a twentieth."""
    first = 0.9 * torch.rand(count, 2)
    return torch.cat([first, first + 0.05 + torch.rand(count, 2) * (0.95 - first)], dim=1)


exercise(locations.box_to_locations,
    cases=lambda: [
        (_boxes((0.3, 0.6, 0.8, 0.9), (0.0, 0.0, 1.0, 1.0), (0.25, 0.5, 0.5, 0.75)), 4),
        (_scattered(7), 32),
        (_scattered(6), 8),
        (_boxes((0.2499, 0.4999, 0.5001, 0.7501)), 16),
        (_boxes((0.0, 0.125, 0.25, 1.0), (0.5, 0.0, 0.625, 0.875), (0.11, 0.12, 0.13, 0.14)), 16),
    ],
    slips=[
        ("last[:, 1] * bins + last[:, 0]", "last[:, 0] * bins + last[:, 1]",
         "of the second corner row and column are exchanged; a cell is row · bins + column."),
        (("first[:, 1] * bins + first[:, 0]", "first[:, 0] * bins + first[:, 1]"),
         ("last[:, 1] * bins + last[:, 0]", "last[:, 0] * bins + last[:, 1]"),
         "row and column are exchanged; a cell is row · bins + column."),
        (".ceil().long() - 1", ".floor().long()",
         "an edge on a line counts to the cell behind it, in which the box has no pixel; "
         "round up and take the cell before."),
        (".ceil().long() - 1", ".ceil().long()",
         "the lower right corner is one cell too far, to the right and down."),
        (".floor()", ".ceil()", "the upper left corner is rounded up, so the box begins a cell too late."),
        (".floor()", ".round()", "the upper left corner is rounded to the nearest line; round it down."),
        (".ceil()", ".round()", "the lower right corner is rounded to the nearest line; round it up."),
        (("first = (", "boxes = boxes.half()\n    first = ("),
         "in 16 bits an edge close to a line lands on it; keep the numbers as they come."),
        (".ceil().long() - 1", ".sub(1e-3 * bins).floor().long()",
         "a fixed margin is taken from right and bottom, so an edge just behind a line loses its cell."),
        ((":2] * bins", ":2] * (bins - 1)"), ("2:] * bins", "2:] * (bins - 1)"),
         "the grid has one cell too few; there are `bins` to a side."),
        ("last = (boxes[:, 2:] * bins)", "last = (boxes.view(-1, 2, 2).sum(1) * bins)",
         "right and bottom are taken as width and height; they are places already."),
        ("    return torch.stack([first[:, 1] * bins + first[:, 0], last[:, 1] * bins + last[:, 0]], dim=1)",
         "    return torch.stack([last[:, 1] * bins + last[:, 0], first[:, 1] * bins + first[:, 0]], dim=1)",
         "the two cells are exchanged; the upper left one comes first."),
        ("dim=1)", "dim=0)",
         "the cells of all first corners stand in one row; each box has a row of its own."),
    ],
    hints=["Times `bins`, a share becomes a place among the cells. Which cell is it in, row by row?",
           "Upper left: `(boxes[:, :2] * bins).floor().long()`, x and y; the cell is y · bins + x. Lower "
           "right: an edge on a line belongs to the cell before it, so `.ceil().long() - 1`."],
)

exercise(locations.locations_to_boxes,
    cases=lambda: [
        (torch.tensor([[9, 15], [9, 9], [9, 11], [1, 9], [0, 15]]), 4),
        (torch.tensor([[44, 863], [5, 911], [0, 1023]]), 32),
        (torch.tensor([[3, 38], [17, 50], [0, 8], [2, 58], [20, 20]]), 8),
    ],
    slips=[
        ("torch.where(thin, 1.0, 0.5)", "1.0",
         "the last cell counts to its far edge; the corner may have been anywhere in it, "
         "so take its middle."),
        ("torch.where(thin, 0.0, 0.5)", "0.0",
         "the first cell counts from its near edge; the corner may have been anywhere in it, "
         "so take its middle."),
        (("torch.where(thin, 0.0, 0.5)", "0.0"), ("torch.where(thin, 1.0, 0.5)", "1.0"),
         "every box runs from edge to edge; only thin ones do, the others from middle to middle."),
        (("torch.where(thin, 0.0, 0.5)", "0.5"), ("torch.where(thin, 1.0, 0.5)", "0.5"),
         "a box within one row or column has no area; let it span its cells from edge to edge."),
        ("columns, rows = locations % bins, locations // bins",
         "rows, columns = locations % bins, locations // bins",
         "row and column are exchanged; a cell is row · bins + column."),
        (".any(dim=1)", ".all(dim=1)",
         "a box is thin only where both corners lie in one cell; one row or one column is enough."),
        (".any(dim=1)[:, None]", "", "width and height are judged apart; "
         "a box that is thin in one direction spans its cells in both."),
        (" / bins", " / (bins - 1)", "the cells are a little too large; there are `bins` to a side."),
        (" / bins", "", "the box is told in cells; divide by `bins` for shares of the picture."),
        ("torch.cat([first, last], dim=1)", "torch.cat([first, last - first], dim=1)",
         "width and height stand where right and bottom belong."),
        ("torch.cat([first, last], dim=1)", "torch.cat([last, first], dim=1)",
         "the two corners are exchanged; the upper left one comes first."),
        (("torch.where(thin, 0.0, 0.5)", "0.0"), ("torch.where(thin, 1.0, 0.5)", "0.0"),
         "each corner is the near edge of its cell; take the middle."),
    ],
    hints=["Row and column of a cell: `// bins` and `% bins`. The middle of a cell is half a cell further.",
           "Middles: add 0.5 to both corners. Thin (same row *or* same column): add 0 to the first and 1 to "
           "the last, in both directions. `torch.where(thin, ...)`, then divide by `bins`."],
)

quiz(1, "In new clips a thing crosses the picture on a straight line, left, right, up or down. A model says "
        "which way in 95 % of them, and with the frames shuffled still in 50 %. What does that show?", [
    ("Half of its answers come from the order of the frames, the other half from luck.", False,
     "Luck alone gives 25 %. Something in the shuffled frames helps."),
    ("Frames in any order still show along which line the thing moved, "
     "so one of two directions is left to guess.", True,
     "That is why section 5 also has a walk that begins and ends at one place: "
     "there shuffled frames say nothing at all."),
    ("It does not look at the order at all.", False,
     "Then shuffling would change nothing, and it would be right as often as before."),
])
quiz(2, "A picture of 4 × 6 tokens stands behind three words. Where does M-RoPE put the next word?", [
    ("At 27, the 28th token of the row.", False, "So RoPE would. A picture takes up as many numbers as its "
     "longest side has tokens, not as many as it has tokens."),
    ("At 9: the picture starts at 3 and its last column is 8.", True,
     "Time stays at 3, rows go from 3 to 6, columns from 3 to 8; the word stands one behind the largest."),
    ("At 4, since a picture has one time.", False,
     "Then the word would stand among the picture's rows and columns, in all three numbers."),
])
quiz(3, "Clips get four times as many frames. How do you keep the number of image tokens?", [
    ("Pool each frame's patches in squares of 2 × 2.", True,
     "A quarter of the tokens for each frame. What is lost is where inside its square something was; "
     "measure whether your questions need it."),
    ("Take the first quarter of the frames.", False,
     "That keeps their number, too, but what happens later in the clip is never seen."),
    ("Write the times as text.", False, "Times make the row longer; they say when, not more briefly."),
])
