# %% [markdown] id="title" lang="en"
# # 19 · Resolution and coordinates
#
# **130 minutes.** Everything runs on two CPU cores; a GPU is not needed.
#
# Pictures so far were squares, most of 64 × 64 pixels. Invoices, screens and road signs are not. This chapter reads pictures of any size, asks what that costs, and where on the picture an answer points.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Chapter 02 cut a square picture into patches. Chapter 07 paid for each of them in the language model. Chapter 16 let words point.
#
# ## After this you can
#
# - **choose** a grid of tiles, and lay their tokens out as one row,
# - **pack** pictures of different sizes into one row, and keep them apart,
# - **measure** accuracy against tokens, beside a blind control,
# - **carry** a box through a resize and back, and name a model's mistake there,
# - **prune** image tokens, and say what falls first.

# %% id="setup"
import numpy as np, torch
import matplotlib.pyplot as plt
from vlmcourse.workbook import *
from vlmcourse.models import native, pruning, tiles
from vlmcourse.data import coordinates
begin("19_resolution_and_coordinates", lang="en")

# %% id="map"
course_map("vision")

# %% [markdown] id="q-cost" lang="en"
# ## 1 · What does a picture cost?
#
# `nano-native` is `nano-vlm`, trained further on **pages**: small marks, words, tables and charts, of twelve sizes. A square of 16 × 16 pixels, four patches of its eye, is one token. Letters are equally small on all pages.
#
# A page of 64 × 256 pixels has 4 · 16 squares: 64 tokens. Squashed to 64 × 64, it has 16. **Predict:** which of the two can you still read?

# %% id="load"
from vlmcourse.families import native as family
from vlmcourse.families import resolving, sights
from vlmcourse.world import pages

speaker, card = family.load_native()
size = sum(weight.numel() for weight in speaker.model.parameters()) / 1e6
print(f"{size:.1f} M parameters, one token for {sights.SQUARE} × {sights.SQUARE} pixels")

wide = pages.sample_pages("test", 4, kind="tables", sizes=[(64, 256)])
page = wide.pictures[0]
fig, axes = plt.subplots(1, 2, figsize=(7, 1.9), layout="constrained", width_ratios=[4, 1])
for ax, way, tokens in zip(axes, ("native", "squash"), (64, 16)):
    seen = sights.see_page(page, way, tokens)
    assert seen.plan.tokens == tokens
    ax.imshow(seen.pieces[0]); ax.axis("off"); ax.set_title(f"{way}, {tokens} tokens")
figure(fig, alt="A wide page with a table of numbers; squashed to a square its digits are "
                "grey smudges")

# %% id="cost-table"
costs = {}
for height, width in ((64, 64), (64, 256), (128, 256), (1024, 1024)):
    tokens = height * width // 16**2
    costs[height, "×", width] = tokens, tokens * (tokens + 1) // 2
tabulate({f"{height} × {width}": row for (height, _, width), row in costs.items()}, "page",
         tokens=",", pairs_in_causal_attention=",")
small, large = costs[64, "×", 64], costs[1024, "×", 1024]
assert large[0] == 256 * small[0] and large[1] > 60_000 * small[1]

# %% [markdown] id="cost-lesson" lang="en"
# Twice the edge, four times the tokens, about sixteen times the pairs that attention compares. So there are three ways to read a page. **Squash** it into one square. Cut it into **tiles**, each such a square, and add a small whole. Or read it **native**, as it is, with an eye that takes any size.
#
# ## 2 · Tiles
#
# An eye that reads 64 × 64 can read a large page in pieces. Which pieces? LLaVA-NeXT chooses a grid for each picture from a list (Liu et al. 2024). By hand, a picture 64 high and 128 wide, scaled to fit; what it does not fill is wasted:
#
# | grid | frame | scale | picture in it | effective pixels | wasted |
# |---|---|---|---|---|---|
# | 1 × 1 | 64 × 64 | ½ | 32 × 64 | 2,048 | 2,048 |
# | 1 × 2 | 64 × 128 | 1 | 64 × 128 | 8,192 | 0 |
# | 2 × 2 | 128 × 128 | 1 | 64 × 128 | 8,192 | 8,192 |
#
# ### Your turn: `choose_grid` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `height`, `width` | of the picture, in pixels |
# | `grids` | a list of (rows, columns) |
# | `side` | of a tile, in pixels |
# | out | (rows, columns): the grid with the most effective pixels |
#
# One number scales the picture, up or down, until it fits into the frame. Each scaled edge is cut to a whole number (`int`); their product is what the picture covers. **Effective** is that, but never more than the picture has pixels. Of equal grids take the one that wastes least (frame pixels less effective ones), of those the first in the list.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="choose_grid"
@exercise(tiles.choose_grid)
def choose_grid(height, width, grids, side):
    """64, 128, [(1, 1), (1, 2), (2, 2)], 64 -> (1, 2)"""
    # for each grid: 1. frame   2. scale   3. effective   4. wasted; then compare
    raise NotImplementedError

# %% id="grid-tried"
grids = tiles.grids_within(256, 4)             # 256 tokens at most, 4 × 4 of them for a tile
chosen = {f"{height} × {width}": choose_grid(height, width, grids, 64)
          for height, width in ((64, 64), (64, 256), (256, 64), (100, 300), (128, 128))}
tabulate(chosen, "page", rows="", columns="")
assert chosen["64 × 256"] == (1, 4) and chosen["256 × 64"] == (4, 1)
assert choose_grid(64, 128, [(1, 1), (1, 2), (2, 2)], 64) == (1, 2)

broad = pages.sample_pages("test", 40, kind="marks", sizes=[(128, 256)])
seen = sights.see_page(broad.pictures[0], "tiles", 256)
fig = plt.figure(figsize=(7, 2.1), layout="constrained")
axes = fig.subplot_mosaic([["small", 1, 2, 3, 4], ["small", 5, 6, 7, 8]],
                          width_ratios=[2.2, 1, 1, 1, 1])
for (name, ax), piece in zip(axes.items(), seen.pieces):
    ax.imshow(piece, extent=(0, 4, 4, 0)); ax.set(xticks=range(5), yticks=range(5))
    ax.grid(color=roles.image, lw=0.8); ax.tick_params(length=0, labelbottom=False, labelleft=False)
    ax.set_title("thumbnail" if name == "small" else f"tile {name}")
figure(fig, alt="A page of 128 by 256 pixels as a thumbnail and eight tiles in two rows; each has "
                "four by four squares, one token each")
assert seen.plan.grid == (2, 4) and seen.plan.tokens == 9 * 16

# %% [markdown] id="ex-lay" lang="en"
# Thumbnail and tiles become **one row** of tokens. LLaVA-NeXT puts the tiles together again: a line of tokens runs through all tiles of a row. Behind each line stands a learned vector, the **separator**.
#
# By hand: 1 × 2 tiles of 2 × 2 tokens. The thumbnail is t t / t t, the left tile a b / c d, the right one e f / g h. The row: t t t t, a b e f |, c d g h |.
#
# ### Your turn: `lay_tiles` · difficulty 4/5 · 15 min
#
# | | shape |
# |---|---|
# | `tokens` | `(picture, patch, width)`: the thumbnail, then the tiles row by row; patch is a square number, row by row |
# | `grid` | rows and columns of tiles |
# | `separator` | `(width,)` |
# | `size` | height and width of the picture, or None |
# | out | `(token, width)`: the thumbnail, then line by line, each with its separator |
#
# A grid of 1 × 1 has no tiles: the thumbnail's tokens alone, without a separator. A picture that does not fill its frame leaves lines of mere padding. With a `size`, `tiles.empty_lines(size, (lines, tokens of a line))` gives two numbers, counted in the whole frame: lines to leave out above **and** below, tokens to leave out left **and** right. Either may be 0. With None, leave out none.

# %% id="lay_tiles"
@exercise(tiles.lay_tiles)
def lay_tiles(tokens, grid, separator, size=None):
    """(picture, patch, width), (rows, columns), (width,) -> (token, width)"""
    # 1. tiles as (rows, columns, down, across, width)   2. bring rows and down together
    # 3. cut the padding off   4. a separator behind each line   5. thumbnail in front
    raise NotImplementedError

# %% id="lay-tried"
letters = "tabcdefgh"
numbers = torch.tensor([[[0.0]] * 4, [[1.0], [2], [3], [4]], [[5.0], [6], [7], [8]]])
row = lay_tiles(numbers, (1, 2), torch.tensor([-1.0])).flatten().int().tolist()
print(" ".join(letters[number] if number >= 0 else "|" for number in row))
assert row == [0] * 4 + [1, 2, 5, 6, -1, 3, 4, 7, 8, -1]

# %% [markdown] id="q-separator" lang="en"
# ### Break it on purpose: the separator is forgotten
#
# Two pictures: 6 lines of 4 tokens, and 4 lines of 6. **Predict:** without separators, can their rows be told apart?

# %% id="no-separator"
THUMBNAIL, SEPARATOR, GRIDS = 0, 2, [(3, 2), (2, 3), (1, 6)]    # tiles of 2 × 2: 24 tokens each

def rows_of(cells, grid, kept=True, by_column=False):
    """Ids of 24 cells, (batch, 24), cut into tiles -> rows as a model reads them."""
    places = torch.arange(24.0).reshape(grid[0], 2, grid[1], 2).transpose(1, 2)
    places = (places.transpose(0, 1) if by_column else places).reshape(-1, 4, 1)
    small, mark = torch.full((1, 4, 1), 24.0), torch.tensor([25.0])
    order = lay_tiles(torch.cat([small, places]), grid, mark)[:, 0].long()
    others = torch.tensor([THUMBNAIL, SEPARATOR]).expand(len(cells), 2)
    return torch.cat([cells, others], dim=1)[:, order if kept else order[order != 25]]

same = torch.arange(24)[None] + 10
one, other, *_ = (rows_of(same, grid, kept=False) for grid in GRIDS)
print("without separators the two rows are equal:", torch.equal(one, other))
assert torch.equal(one, other) and rows_of(same, GRIDS[0]).shape != rows_of(same, GRIDS[1]).shape

# %% [markdown] id="separator-train" lang="en"
# What does that cost? One cell of 24 holds a mark: in which **line**? Pictures of 6 × 4, 4 × 6 and 2 × 12 cells take turns. Two tiny LLaMAs (chapter 05) learn it, one on each kind of row. The second knows only a cell's place in the row; count how often it can be right at best. **Predict** both.

# %% id="separator-learn"
from torch.nn import functional as F
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.training.loop import train
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear

lines_for = budget(cpu=dict(steps=100), gpu=dict(steps=100))

def marked(count, grid, dice):
    """Cells of which one is the mark, 1; others are 3 to 7 by lot. And in which line it stands."""
    cells = torch.randint(3, 8, (count, 24), generator=dice)
    place = torch.randint(24, (count,), generator=dice)
    cells[torch.arange(count), place] = 1
    return cells, place // (2 * grid[1])

def learn_lines(kept):
    torch.manual_seed(0)
    dice, model = torch.Generator().manual_seed(0), Llama(LlamaConfig(34, 64, 2, 2))
    steps = lines_for.steps
    batches = [(*marked(64, GRIDS[k % 3], dice), GRIDS[k % 3]) for k in range(steps)]
    def loss_of(model, batch):
        cells, line, grid = batch
        return F.cross_entropy(model(rows_of(cells, grid, kept))[:, -1, 8:14], line)
    train(model, batches, loss_of, steps=steps, optimizer=MuonAdamW(model, 0.02, 4e-3),
          schedule=warmup_linear(steps, 10), name="in which line" + " (no separators)" * (not kept))
    return model.eval()

# %% id="separator-found"
@torch.no_grad()
def lines_right(model, *order):
    dice, right = torch.Generator().manual_seed(9), []
    for grid in GRIDS:
        cells, line = marked(300, grid, dice)
        scores = model(rows_of(cells, grid, *order))[:, -1, 8:14]
        right.append(scores.argmax(-1) == line)
    return torch.cat(right).float().mean().item()

with_them = learn_lines(True)
found = {"separators": lines_right(with_them), "none": lines_right(learn_lines(False), False)}
likely = [max(np.unique([place // (2 * wide) for _, wide in GRIDS], return_counts=True)[1])
          for place in range(24)]
found["none, at best"] = np.mean(likely) / len(GRIDS)
tabulate(found, "in which line?", right=".0%")
assert found["separators"] > 0.9 and found["none"] < found["none, at best"] + 0.06

# %% [markdown] id="q-columns" lang="en"
# ### Break it on purpose: tiles in column order
#
# Two nested loops change places: tiles are cut column by column, and everything behind counts row by row. Shapes fit, nothing is raised. We ask `nano-native`, which reads tile after tile, *what* it sees: a colour, a shape. And the tiny LLaMA that knows its separators *where* the mark is: in which line. **Predict** which of the two suffers.

# %% id="columns"
from vlmcourse.models.generation import write_greedily

@torch.no_grad()
def answers_in_tiles(pieces, questions):
    """What the model says about pages that are given as thumbnail and tiles."""
    model, words = speaker.model, speaker.words
    seen = sights.collect_sights(model, pieces)
    ids, real = words.prompts(questions, [int(count) for count in seen.tokens()])
    prompt = model.embed(ids, features=model.connect(sights.sight_features(model, *seen)))
    return words.decode(write_greedily(model.language, prompt, real, 8, words.end))

asked = [(number, one) for kind in ("colour", "shape")
         for number, one in enumerate(pages.ask_pages(broad, kind=kind)) if one]
in_rows = [sights.show_page(broad.pictures[number], "tiles", 256) for number, _ in asked]
columns_first = [0, *(1 + torch.arange(8).reshape(2, 4).T.flatten()).tolist()]

# %% id="columns-found"
def what_right(pieces):
    said = answers_in_tiles(pieces, [one.text for _, one in asked])
    return np.mean([text == one.answer for text, (_, one) in zip(said, asked)])

ordered = what_right(in_rows), lines_right(with_them)
mixed = what_right([tile[columns_first] for tile in in_rows]), lines_right(with_them, True, True)
tabulate({"row by row": ordered, "column by column": mixed}, "tiles", what=".0%", which_line=".0%")
assert mixed[0] > ordered[0] - 0.05 and mixed[1] < ordered[1] - 0.2

# %% [markdown] id="columns-lesson" lang="en"
# What a tile shows can be told without knowing where it lies: *what* stays. *Where* breaks. Only a question about places, or a text across tiles, finds this mistake.
#
# ## 3 · As it is
#
# Tiles cut through letters. A ViT takes any number of patches, so why not the page itself? But pages of a batch differ in size. NaViT **packs**: several pictures share a row (Dehghani et al. 2023, section 2.1).
#
# By hand, rows of 8 and pictures of 5, 6, 2 and 3 tokens. Each goes into the first row with room. 5 opens row one, 6 row two, 2 fits into row one, 3 fits nowhere and opens row three.
#
# ### Your turn: `pack_pictures` · difficulty 4/5 · 14 min
#
# | | shape |
# |---|---|
# | `pictures` | a list of `(tokens, width)`: patches row by row; in front of them there may be others, such as a class token |
# | `grids` | a list of (rows, columns) of each one's patches |
# | `length` | of every row |
# | out: rows | `(row, length, width)`: the tokens, then zeros |
# | out: numbers | `(row, length)`, integers: whose token it is, from 0; −1 for padding |
# | out: places | `(2, row, length)`, integers: row and column of a patch in its picture; −1 for all that is no patch |
#
# `native.first_fit(counts of tokens, length)` says which pictures share a row. `native.places_of(grid)` gives `(2, patch)`.

# %% id="pack_pictures"
@exercise(native.pack_pictures)
def pack_pictures(pictures, grids, length):
    """list of (tokens, width), list of (rows, columns), a number -> rows, numbers, places"""
    # for each row: 1. its tokens, one picture behind the other   2. numbers and places beside them
    # 3. fill all three up; then stack the rows
    raise NotImplementedError

# %% id="pack-tried"
sizes = [(1, 5), (2, 3), (1, 2), (3, 1)]
some = [torch.ones(rows * columns, 4) * k for k, (rows, columns) in enumerate(sizes)]
rows, numbers, places = pack_pictures(some, sizes, 8)
tabulate({f"row {k + 1}": " ".join("·" if n < 0 else str(n) for n in row.tolist())
          for k, row in enumerate(numbers)}, "", picture="")
assert numbers[0].tolist() == [0, 0, 0, 0, 0, 2, 2, -1] and places[:, 1, 4].tolist() == [1, 1]

# %% [markdown] id="ex-mask" lang="en"
# In row one stand two pictures, and a token may look only at those of its own. Padding needs something to look at, or its softmax is 0 / 0.
#
# ### Your turn: `picture_mask` · difficulty 2/5 · 6 min
#
# | | shape |
# |---|---|
# | `numbers` | `(row, length)`, as above; −1 is padding |
# | out | `(row, length, length)`, bool: may this query (first) look at this key (last)? |
#
# True within a picture. A padding token sees itself and nothing else, and no other token sees it.

# %% id="picture_mask"
@exercise(native.picture_mask)
def picture_mask(numbers):
    """(row, length) -> (row, length, length)"""
    # 1. whose numbers are equal?   2. not between paddings   3. but each token itself
    raise NotImplementedError

# %% id="mask-figure"
fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.2), layout="constrained")
shades = [roles.image, roles.first, roles.learned, roles.second, roles.masked]
for ax, row, seen in zip(axes, numbers, picture_mask(numbers)):
    draw_mask(ax, seen, [shades[number] for number in row])
    ax.set_title(" and ".join(f"picture {n}" for n in row.unique().tolist() if n >= 0))
figure(fig, alt="Three packed rows of eight tokens: each picture is a filled square on the "
                "diagonal, padding sees itself alone, everything else is hatched")
assert picture_mask(numbers).sum().item() == 25 + 36 + 4 + 9 + 1 + 2 + 5

# %% [markdown] id="positions-intro" lang="en"
# Where does a patch stand? The eye learned a position for each cell of an 8 × 8 grid. SigLIP 2 (NaFlex) **stretches** such a grid to the picture's own, `native.resize_positions` (Tschannen et al. 2025, section 2.4.2). Qwen2-VL turns queries and keys by row and column: 2-D RoPE, `native.axial_angles`.
#
# Is the packing right? transformers' `Siglip2VisionModel`, small and random, lends our ViT its weights. Theirs reads five pictures padded, ours packed with *your* two functions. **Predict** what leaving out the mask does to the first picture.

# %% id="packing-real"
import transformers
from vlmcourse.interop import siglip2 as carry
from vlmcourse.models.attention import run_blocks

torch.manual_seed(3)
theirs = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(hidden_size=32,
    intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, patch_size=4,
    num_patches=16)).eval()
for weight in theirs.parameters():
    torch.nn.init.normal_(weight, 1.0 if weight.dim() == 1 else 0.0, 0.2)
eye, five = carry.from_transformers(theirs), [(3, 7), (5, 2), (4, 4), (1, 6), (9, 5)]
pictures = [torch.randn(3, 4 * high, 4 * wide) for high, wide in five]

# %% id="packing-equal"
with torch.no_grad():
    inputs = carry.naflex_inputs(pictures, 4)
    library = carry.naflex_outputs(theirs(**inputs).last_hidden_state, inputs).vectors
    eye.length = 64
    gap = (eye.norm(eye.read_row(eye.cut(pictures)).vectors) - library).abs().max().item()
    tokens, numbers, places = pack_pictures(eye.embed_row(eye.cut(pictures)), five, 64)
    mixed = eye.norm(run_blocks(eye.blocks, tokens, mask=None))[0, :21]
without = (mixed - library[:21]).abs().max().item()
padded, packed = 5 * 45, tokens.shape[0] * 64
print(f"packed with the mask {gap:.0e} off, without {without:.2f}; "
      f"{packed} places in place of {padded}")
assert gap < 1e-4 < 0.1 < without and packed < 0.6 * padded

# %% [markdown] id="packing-lesson" lang="en"
# **What you just proved.** A packed picture is read as if alone. Without the mask, answers depend on who else is in the batch.
#
# ## 4 · What does a token buy?
#
# One question for each of 120 new pages, seen in three ways at several budgets. In training `nano-native` saw tiles and smaller pages, but none squashed. Beside them the **blind control**: the same questions about empty pages. **Predict** the order of the curves.

# %% id="budgets"
exam = resolving.about_pages(pages.sample_pages("test", 120))
ways = [("squash", 16), ("tiles", 64), ("tiles", 256)]
ways += [("native", most) for most in (16, 32, 64, 128)]
bought = {way: resolving.page_scores(speaker, exam, *way) for way in ways}
bought["blank", 128] = resolving.page_scores(speaker, exam.blank(), "native", 128)
kinds = ("tokens", "all", "marks", "words", "tables", "charts")
tabulate({f"{way} {most}": [row[kind] for kind in kinds] for (way, most), row in bought.items()},
         "at most", mean_tokens=".0f", right=".0%", marks=".0%", words=".0%", tables=".0%",
         charts=".0%")
right = {way: row["all"] for way, row in bought.items()}
assert right["native", 128] > right["native", 16] + 0.2
assert right["native", 128] > max(right["squash", 16], right["blank", 128]) + 0.2
assert bought["native", 128]["words"] < 0.15 and 0.7 < bought["native", 128]["marks"]

# %% id="budgets-figure"
fig, ax = plt.subplots(figsize=(5.4, 2.9), layout="constrained")
looks = dict(squash=("s", roles.second, ""), tiles=("^", roles.first, "--"),
             native=("o", roles.learned, "-"))
for name, (marker, colour, line) in looks.items():
    own = [row for (way, _), row in bought.items() if way == name]
    ax.plot([row["tokens"] for row in own], [row["all"] for row in own], line, marker=marker,
            color=colour, label=name)
ax.axhline(right["blank", 128], color=roles.control, ls=":", label="blank pages")
ax.set(xlabel="tokens of a page, on average", ylabel="right answers", ylim=(0, 1)); ax.legend()
figure(fig, alt="Right answers over tokens: the native curve rises with the budget, tiles lie "
                "below it, squash is a point at 16 tokens, blank pages a line at the bottom")

# %% [markdown] id="budgets-lesson" lang="en"
# In our run: squashed 20 %, native 22 % at 15 tokens and 62 % at 67. Tiles pay more and get less, most so in tables and charts, which they cut. From 67 tokens to 49 marks fall from 94 to 72 %, cells of tables from 77 to 58. **Words stay near nothing**: one counts only if all of its letters are right.
#
# ### Does the model say so?
#
# At 16 tokens most of a page is lost. Each question has a possible kind of answer: a colour, a number, a word of four to six consonants. **Predict** three columns: right, of the possible kind, and the probability that the model gives its own answer.

# %% id="fluent"
import re
from vlmcourse.world.printed import CONSONANTS
from vlmcourse.world.scenes import COLOURS, SHAPES

FORMS = {"What colour|Which": "|".join(COLOURS), "What shape": "|".join(SHAPES),
         "What is written": f"[{CONSONANTS}]{{4,6}}", "How|What is in": r"\d\d?"}

def possible(question, answer):
    form = next(form for begin, form in FORMS.items() if re.match(begin, question))
    return re.fullmatch(form, answer) is not None

def fluency(pictures, budget, count=50):
    told = [sights.answer_sight(speaker, picture, question, "native", budget)
            for picture, question in zip(pictures[:count], exam.questions)]
    texts, chances = zip(*told)
    kind = [possible(question, text) for question, text in zip(exam.questions, texts)]
    return np.mean([a == b for a, b in zip(texts, exam.answers)]), np.mean(kind), np.mean(chances)

assert all(map(possible, exam.questions, exam.answers))

# %% id="fluent-found"
fluent = {"128 tokens": fluency(exam.pictures, 128), "16 tokens": fluency(exam.pictures, 16),
          "blank pages": fluency(exam.blank().pictures, 128)}
tabulate(fluent, "a page seen with", right=".0%", of_the_possible_kind=".0%", own_probability=".0%")
assert fluent["16 tokens"][0] < fluent["128 tokens"][0] - 0.2
assert fluent["16 tokens"][1] > 0.9 and fluent["blank pages"][1] > 0.6
assert fluent["16 tokens"][2] < fluent["128 tokens"][2] - 0.15

# %% [markdown] id="fluent-lesson" lang="en"
# **A budget too small loses the marks, and the model answers as fluently as before.** No text shows that its page was shrunk. The share of right answers does: 24 % in place of 62 in our run, and 12 % on blank pages. Its own probability falls, too; few applications show it.
#
# ## 5 · How well does it read?
#
# Right or wrong, word by word, hides much. The **character error rate** counts letters to insert, delete or exchange, for each letter that there is to read. By hand: "bcdg" for "bcdf" is 25 %. Saying nothing is 100 %; saying too much can be more.

# %% id="reading"
from vlmcourse.evaluation.spelling import character_error_rate

assert character_error_rate(["bcdg", ""], ["bcdf", "wxyz"]) == 5 / 8
errors = resolving.reading_errors(speaker, pages.sample_pages("test", 100, kind="words"))
tabulate(errors, "words on pages", letters_wrong=".0%")
assert errors["native"] < 0.65 * errors["squash"] and errors["blank"] > 0.75

# %% [markdown] id="reading-lesson" lang="en"
# So it does read: 44 % of the letters wrong in our run, beside 90 % squashed and 93 % without a page. Of a letter's five pixels across, one or two are left when a page 192 or 256 wide is squashed.
#
# `nano-vlm`'s eye never saw a letter. Does it help to show it letters at full size, **frozen** as it is? One linear layer on it names the letters of each patch. Train the layer alone; then, from the beginning again, the eye with it. **Predict** both.

# %% id="eyes"
from vlmcourse.families.nano import optimized
from vlmcourse.recipes.nano_native import NANO_NATIVE
from vlmcourse.training.patchwise import PatchReader, letters_right, teach_patches

printed = pages.sample_pages("train", 640, kind="words", sizes=[(64, 64)])
unread = pages.sample_pages("test", 60, kind="words", sizes=[(64, 64)])
reading = budget(cpu=dict(steps=140), gpu=dict(steps=140))

def taught(frozen):
    torch.manual_seed(0)
    reader = PatchReader(family.new_native().vision)
    reader.eye.requires_grad_(not frozen)
    options = optimized(NANO_NATIVE.stage("eye"), reader)
    options["schedule"] = warmup_linear(reading.steps, 10)
    history = teach_patches(reader, printed.pictures, printed.shown, size=16, steps=reading.steps,
                            name="eye frozen" if frozen else "eye learns", **options)
    return 1 - letters_right(reader.eval(), unread)

misread = {"frozen": taught(True), "learns": taught(False)}
tabulate(misread, "nano-vlm's eye", letters_wrong=".0%")
assert misread["learns"] < misread["frozen"] - 0.1

# %% [markdown] id="eyes-lesson" lang="en"
# Frozen, it is hardly better than a guess among twenty consonants. Training it is the first stage of `nano-native` (`vlmcourse train nano-native`). Its card keeps what failed: answers alone taught it no word, in 500 steps without this stage or 1,500 behind it. What worked: writing **all** that stands on a page.
#
# ## 6 · Where is it?
#
# A picture is resized and padded on its way to the model, and its boxes with it. By hand: a picture 64 high and 128 wide, in a letterbox of 64 × 64. It is scaled by ½ to 32 × 64, with 16 lines of padding above and below. A box (40, 10, 60, 20) becomes (20, 5 + 16, 30, 10 + 16). And back, **last step first**: subtract the padding, then divide by the scale.
#
# ### Your turn: `to_picture` · difficulty 2/5 · 6 min
#
# | | shape |
# |---|---|
# | `boxes` | `(box, 4)`: left, top, right, bottom in pixels of the frame |
# | `placement` | has `scale_x`, `scale_y` (frame pixels for one of the picture), `left`, `top` (padding before it, in frame pixels) |
# | out | the same boxes in pixels of the picture |
#
# What lies in the padding comes out beyond the picture's edges; leave it so.

# %% id="to_picture"
@exercise(coordinates.to_picture)
def to_picture(boxes, placement):
    """(box, 4), placement -> (box, 4)"""
    # left and right belong to x, top and bottom to y
    raise NotImplementedError

# %% id="there-and-back"
place = coordinates.place_in_letterbox((64, 128), (64, 64))
boxes = torch.tensor([[40.0, 10, 60, 20]])
there = coordinates.to_model(boxes, place)
print(there.tolist(), "and back", to_picture(there, place).tolist())
assert there.tolist() == [[20, 21, 30, 26]] and torch.equal(to_picture(there, place), boxes)

# %% [markdown] id="ex-spell" lang="en"
# How does a model *write* a box? Chapter 16 gave it new words; many models write numbers as text (Chen et al. 2023). In **thousandths of the picture**, a box is written alike at whatever size the picture is seen.
#
# By hand: x = 40 of 128 pixels is 0.3125, in thousandths 312: cut, not rounded. The right edge, 128 of 128, would be 1000; it gets the last thousandth, 999.
#
# ### Your turn: `spell_box` · difficulty 2/5 · 8 min
#
# | | |
# |---|---|
# | `box` | left, top, right, bottom in pixels of the picture |
# | `size` | **height, width** of the picture |
# | out | `"[312, 156, 468, 312]"`: whole numbers from 0 to 999, a comma and a space between them |
#
# The reference also refuses a box that leaves the picture or ends before it begins; you need not.

# %% id="spell_box"
@exercise(coordinates.spell_box)
def spell_box(box, size):
    """(40, 10, 60, 20), (64, 128) -> "[312, 156, 468, 312]" """
    # (1. is it within the picture?)   2. shares   3. thousandths, at most 999   4. text
    raise NotImplementedError

# %% id="spell-tried"
text = spell_box((40, 10, 60, 20), (64, 128))
read = coordinates.read_boxes(f"It is at {text}.", (64, 128))[0]
print(text, "is read as", [round(edge, 1) for edge in read.tolist()])
assert text == "[312, 156, 468, 312]" and (read - boxes[0]).abs().max() < 0.1

# %% [markdown] id="boxes-intro" lang="en"
# Does `nano-native` point? We ask where the word is, a number of a table, a bar, a mark. The baseline is the **mean box** of pages it learned from, as shares of the page, told every time. A mark has 7 × 7 pixels; an overlap (IoU) of one half allows an error of a pixel or two. **Predict:** at which of the four is it best, and at which is the baseline?

# %% id="boxes-found"
pointed = {}
for kind in ("words", "tables", "charts", "marks"):
    there, known = (pages.sample_pages(split, 60, kind=kind) for split in ("test", "train"))
    pointed[kind] = resolving.page_boxes(speaker, there, known)
tabulate({kind: [row[f"{who}: {what}"] for what in ("mean IoU", "middle in the box")
                 for who in ("told", "blank", "mean box")] for kind, row in pointed.items()},
         "where is it on", IoU=".2f", IoU_blank=".2f", IoU_mean_box=".2f", points_into_it=".0%",
         blank=".0%", mean_box=".0%")
for kind in ("words", "tables", "charts"):
    told_well, by_mean = (pointed[kind][f"{who}: mean IoU"] for who in ("told", "mean box"))
    assert told_well > 3 * by_mean and told_well > pointed[kind]["blank: mean IoU"] + 0.05
assert pointed["marks"]["told: mean IoU"] < 0.5 * pointed["tables"]["told: mean IoU"]

# %% [markdown] id="q-mistakes" lang="en"
# It points, and roughly: into the word on every second page of our run, with an overlap of 0.3, where the mean box has 0.04. A mark of 7 pixels it hits once in twenty.
#
# ### Three mistakes, three signatures
#
# Boxes go wrong in ways that raise no error:
#
# - **exchanged**: (y, x) for (x, y). A size is height, width; a box begins with x,
# - **absolute for normalised**: pixels are written and read as thousandths,
# - **before instead of after the resize**: numbers of the frame, after resize and padding, are read as those before.
#
# Which one does a model make? Look at *middles*, in shares of the page: where does the told one go if the true one moves right, or down? Least squares tells (`pointing.centre_fit`). *x by y* is how far it goes right for a step down, *x always* what x gets in any case. **Predict** the four rows below: a model without a mistake and one with each, otherwise perfect. Pages are 64 × 192, the frame is 256 × 256.

# %% id="signatures"
from vlmcourse.diagnostics import pointing
from vlmcourse.families import mistaking

def as_thousandths(numbers, sizes):
    edges = torch.tensor([[width, height, width, height] for height, width in sizes])
    return numbers / 1000 * edges

strips = pages.sample_pages("test", 60, kind="marks", sizes=[(64, 192)])
exact = resolving.things_to_point_at(strips)
fits = {}
for mistake in pointing.MISTAKES:
    numbers = pointing.write_mistaken(mistake, exact.true, (64, 192), mistaking.FRAME)
    boxes = as_thousandths(numbers, exact.sizes)
    fits[mistake] = pointing.centre_fit(boxes, exact.true, exact.sizes)
tabulate({name: [fit[0, 0], fit[1, 0], fit[2, 0], fit[0, 1], fit[1, 1], fit[2, 1]]
          for name, fit in fits.items()}, "the told middle", x_by_x="+.2f", x_by_y="+.2f",
         x_always="+.2f", y_by_x="+.2f", y_by_y="+.2f", y_always="+.2f")
none, exchanged, absolute, before = fits.values()
assert torch.allclose(none, torch.eye(3)[:, :2], atol=0.01)
assert torch.allclose(exchanged, torch.eye(3)[:, [1, 0]], atol=0.01)
assert absolute.diagonal()[0] < 0.25 and before[1, 1] < 0.4 and before[2, 1] > 0.25

# %% id="signatures-figure"
fig, axes = plt.subplots(1, 4, figsize=(7, 2.3), layout="constrained", sharex=True, sharey=True)
middles = (exact.true[:, :2] + exact.true[:, 2:]) / 2 / torch.tensor([192, 64])
for ax, (name, fit) in zip(axes, zip(("none", "exchanged", "absolute", "before"), fits.values())):
    told = torch.cat([middles, torch.ones(len(middles), 1)], dim=1) @ fit
    ax.quiver(*middles.T, *(told - middles).T, angles="xy", scale_units="xy", scale=1, width=0.008,
              color=roles.accent)
    ax.scatter(*middles.T, s=6, color=roles.ink)
    ax.set(title=name, xlim=(0, 1), ylim=(1, 0), xticks=[0, 1], yticks=[0, 1])
figure(fig, alt="Arrows from true middles to told ones: none; mirrored at the diagonal; drawn "
                "towards the top left corner; drawn towards a horizontal line in the middle")

# %% [markdown] id="students-intro" lang="en"
# 0.19 is 192/1000, 0.06 is 64/1000, one third 64/192. Now three real models: `nano-native`, taught 100 steps with boxes of words that contain one mistake, by lot. **Name each one's mistake** from its row, before the cell after it does.

# %% id="students"
import copy
from vlmcourse.speak import Speaker

lessons = pages.sample_pages("train", 240, kind="words", sizes=[(64, 128), (64, 192)])
trial = pages.sample_pages("test", 60, kind="words", sizes=[(64, 192)])
lot = np.random.default_rng(5).permutation(pointing.MISTAKES[1:])
teaching, told = budget(cpu=dict(steps=100), gpu=dict(steps=100)), {}
for name, mistake in zip("ABC", lot):
    student = Speaker(copy.deepcopy(speaker.model))
    mistaking.teach_boxes(student, lessons, mistake, steps=teaching.steps, lr=0.006,
                          name=f"model {name}")
    told[name] = mistaking.told_numbers(student, trial)

# %% id="students-fits"
rows = {}
for name, (numbers, true, sizes) in told.items():
    fit = pointing.centre_fit(as_thousandths(numbers, sizes), true, sizes)
    rows[name] = [fit[0, 0], fit[1, 0], fit[2, 0], fit[0, 1], fit[1, 1], fit[2, 1]]
tabulate(rows, "model", x_by_x="+.2f", x_by_y="+.2f", x_always="+.2f", y_by_x="+.2f", y_by_y="+.2f",
         y_always="+.2f")

# %% id="students-named"
named = {name: pointing.name_mistake(*one, mistaking.FRAME) for name, one in told.items()}
tabulate({name: [*one.overlap.values(), one.name] for name, one in named.items()},
         "mean IoU if undone", none=".2f", exchanged=".2f", absolute=".2f", before=".2f", named="")
assert [one.name for one in named.values()] == lot.tolist()

# %% [markdown] id="students-lesson" lang="en"
# A hundred steps teach a mistake roughly, so overlaps are small; which one is largest is enough. `name_mistake` undoes each mistake in turn. Do that with any model whose boxes look odd: perhaps only your reading is wrong. On squares, before and after the resize are the same, so take other pictures.
#
# ## 7 · Which tokens can go?
#
# A page of 128 tokens, most of them white. FastV reads all in the first layers, then drops those that are little looked at (Chen et al. 2024, section 4). What is kept stays in its order.
#
# By hand: scores 0.1, 0.4, 0.3, 0.4. Keep two: places 1 and 3. Keep three: 1, 2, 3, not 1, 3, 2.
#
# ### Your turn: `keep_tokens` · difficulty 2/5 · 6 min
#
# | | shape |
# |---|---|
# | `scores` | `(batch, token)` |
# | `k` | how many to keep |
# | out | `(batch, k)`, integers: places of the k highest scores, from first to last |
#
# Of equal scores those that stand first are kept.

# %% id="keep_tokens"
@exercise(pruning.keep_tokens)
def keep_tokens(scores, k):
    """[[0.1, 0.4, 0.3, 0.4]], 3 -> [[1, 2, 3]]"""
    # 1. sort, stably, the highest first   2. the first k   3. back in order
    raise NotImplementedError

# %% id="keep-figure"
score = torch.tensor([[0.1, 0.4, 0.3, 0.4]])
assert keep_tokens(score, 2).tolist() == [[1, 3]] and keep_tokens(score, 3).tolist() == [[1, 2, 3]]
fig, axes = plt.subplots(1, 2, figsize=(5, 1.6), layout="constrained")
for ax, (title, own) in zip(axes, {"evenly": pruning.spread_scores(8, 16)[None],
                                   "at random": pruning.random_scores(1, 128, 0)}.items()):
    kept = torch.zeros(128)
    kept[keep_tokens(own, 32)[0]] = 1
    ax.imshow(kept.reshape(8, 16), cmap="Greys", vmin=-0.3, vmax=1.6)
    ax.axis("off"); ax.set_title(title)
figure(fig, alt="32 of 8 by 16 tokens: a regular lattice, and places by lot with holes")

# %% [markdown] id="prune-intro" lang="en"
# Three ways to choose, behind the first of four layers: by **attention** (how much the last token looks at each), **evenly**, and **at random**. The latter two never look at the page. **Predict:** what does attention win at a quarter of the tokens?

# %% id="prune-ways"
short = resolving.about_pages(pages.sample_pages("test", 80, start=5000))
pruned = {1.0: [resolving.pruned_scores(speaker, short, 1.0)["all"]] * 3}
for share in (0.5, 0.25):
    pruned[share] = [resolving.pruned_scores(speaker, short, share, way)["all"]
                     for way in ("attention", "evenly", "random")]
tabulate({f"{share:.0%}": row for share, row in pruned.items()}, "tokens kept", by_attention=".0%",
         evenly=".0%", at_random=".0%")
assert pruned[1.0][0] > pruned[0.25][0] > max(pruned[0.25][1:]) + 0.05

# %% [markdown] id="prune-falls" lang="en"
# With a quarter of the tokens 47 % are right in our run, with all of them 64, and chosen without looking about 30.
#
# What falls first? **Predict** the order: how many marks, a mark's colour, the highest bar, how high a bar is, a cell of a table.

# %% id="prune-kinds"
def about(kind, count=40):
    """An exam of one kind of question."""
    holders = dict(count="marks", colour="marks", highest="charts", height="charts", cell="tables")
    batch = pages.sample_pages("test", count, start=7000, kind=holders.get(kind, "words"))
    asked = pages.ask_pages(batch, kind=kind)
    have = [number for number, one in enumerate(asked) if one]
    texts, answers = zip(*((asked[number].text, asked[number].answer) for number in have))
    part = batch[have]
    return resolving.PageExam(part.pictures, tuple(part.kinds), texts, answers)

falls = {}
for kind in ("cell", "colour", "count", "height", "highest"):
    falls[kind] = [resolving.pruned_scores(speaker, about(kind), share)["all"]
                   for share in (1.0, 0.5, 0.25)]
tabulate(falls, "question", all_tokens=".0%", half=".0%", a_quarter=".0%")
lost = {kind: (row[0] - row[2]) / max(row[0], 0.01) for kind, row in falls.items()}
assert lost["cell"] > max(lost["colour"], lost["count"]) + 0.15

# %% [markdown] id="prune-lesson" lang="en"
# Cells fall first, from 82 to 43 % in our run: the row's letter, the column's and the number must all survive. Counting, which needs **every** mark, hardly falls, against what we expected; it was weak from the start.
#
# And what is saved? With a quarter kept, three layers in four read a quarter of the page. **Predict** the share of time that remains, for a page of 256 × 512.

# %% id="prune-time"
import time
from vlmcourse.diagnostics.alternatives import one_thread

giant = pages.sample_pages("test", 4, kind="marks", sizes=[(256, 512)]).pictures
ids, _ = speaker.words.prompts(["What colour is the star?"] * 4, 512)
begins, language = int((ids[0] == speaker.words.image).nonzero()[0]), speaker.model.language
image_tokens = speaker.model.connect(speaker.features(giant))
prompt = speaker.model.embed(ids, features=image_tokens).detach()

@one_thread()
@torch.inference_mode()
def seconds(reader, repeats=8):
    ticks = [time.perf_counter()]
    for _ in range(repeats):
        reader.hidden(prompt)
        ticks.append(time.perf_counter())
    return np.diff(ticks).min()

readers = {k: pruning.PrunedReader(language, 1, (begins, begins + 512), k) for k in (256, 128, 64)}
spent = {k: seconds(reader) for k, reader in ({512: language} | readers).items()}
length = ids.shape[1]
layers = {k: (1 + 3 * (k + length - 512) / length) / 4 for k in spent}
tabulate({k: (took / spent[512], layers[k]) for k, took in spent.items()}, "of 512 tokens",
         time=".0%", tokens_times_layers=".0%")
assert spent[64] < 0.9 * spent[512] and layers[128] < 0.5

# %% [markdown] id="prune-time-lesson" lang="en"
# The first layer is paid in full, so nothing gets below a quarter here. Deeper models gain more: half of the tokens save 45 % of the operations in LLaVA-1.5-13B (FastV), 37 % here.
#
# ## 8 · A page, its tokens, its price
#
# Change the way and the budget. **Click** on a page to ask where the nearest thing is. Look for a page that is read at 64 tokens and not at 32.

# %% id="reader"
from vlmcourse.widgets.pages import PageReader

PageReader(*sights.sights_for(speaker), pages.sample_pages("test", 12, start=40), way="native",
           budget=64)

# %% [markdown] id="real-intro" lang="en"
# ## 9 · Is this the real thing?
#
# Four published rules, from transformers, beside yours and ours.

# %% id="real-equal"
from transformers.models.idefics3 import image_processing_idefics3 as idefics
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    get_image_size_for_max_num_patches)

drawn = np.random.default_rng(0).integers(40, 1500, (200, 2)).tolist()
pinpoints = transformers.LlavaNextConfig().image_grid_pinpoints
lists = [(height // 336, width // 336) for height, width in pinpoints]
split = transformers.Idefics3ImageProcessor(size=dict(longest_edge=1456), do_pad=False,
                                            max_image_size=dict(longest_edge=364))
for number, size in enumerate(drawn):
    assert choose_grid(*size, lists, 336) == get_anyres_image_grid_shape(size, pinpoints, 336)
    assert tiles.smart_size(*size, 28, 56 * 56, 10**6) == smart_resize(*size, 28, 56 * 56, 10**6)
    assert native.fit_patches(*size, 16, 256) == get_image_size_for_max_num_patches(*size, 16, 256)
    if number < 4:
        image = torch.zeros(3, *size)
        made = split(image, return_tensors="pt", return_row_col_info=True)
        first = idefics.get_resize_output_image_size(image, 1456)
        assert tiles.covering_grid(*first, 364) == (made["rows"][0][0], made["cols"][0][0])
print("equal on", len(drawn), "sizes, Idefics3 on four of them")

# %% id="real-cost"
photo, blank = (480, 640), torch.zeros(3, 480, 640)          # predict the dearest
grid = choose_grid(*photo, lists, 336)
rows, columns = tiles.covering_grid(*idefics.get_resize_output_image_size(blank, 1456), 364)
qwen, flex = tiles.smart_size(*photo, 28, 3136, 12_845_056), native.fit_patches(*photo, 16, 256)
price = {"LLaVA-1.5: padded to 336 × 336": 24 * 24,
         f"LLaVA-NeXT: {grid[0]} × {grid[1]} tiles": tiles.tile_tokens(grid, 24, photo),
         f"Idefics3: {rows} × {columns} tiles": (1 + rows * columns) * 169,
         f"Qwen2-VL: {qwen[0]} × {qwen[1]}": qwen[0] * qwen[1] // 28**2,
         f"SigLIP 2 NaFlex: {flex[0]} × {flex[1]}": flex[0] * flex[1] // 16**2}
tabulate(price, "a photo of 480 × 640", image_tokens=",")
assert price["LLaVA-NeXT: 2 × 2 tiles"] == 2340 and price["Qwen2-VL: 476 × 644"] == 391

# %% [markdown] id="real-differs" lang="en"
# | | pictures | lines known by | coordinates |
# |---|---|---|---|
# | LLaVA-NeXT | thumbnail, tiles of 336 | a learned vector | not stated |
# | Idefics3 | tiles of 364, 169 tokens each | text: each tile's row and column | not stated |
# | SigLIP 2 NaFlex | native, so many patches at most | – (an eye alone) | – |
# | Qwen2-VL | native, 28 × 28 pixels a token | M-RoPE | thousandths of the picture |
# | Qwen2.5-VL | the same | the same | **pixels of the resized picture** |
# | Qwen3-VL | native, 32 × 32 a token | M-RoPE, interleaved | thousandths again |
# | `nano-native` | native, 16 × 16 a token | nothing | thousandths |
#
# Neighbours of one family write boxes in different units. Change the model, keep the reader, and you make mistake two.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Tokens grow with the area, attention with its square. Squash, tiles and native are three ways to pay.
# 2. Tiles become one row, line by line. Order and separators say *where*; *what* survives without them.
# 3. Packing reads pictures of any size with little padding; the mask keeps them apart.
# 4. A budget too small loses small things, and answers stay fluent. Accuracy beside a blind control shows it.
# 5. Coordinates have an order, a unit and a frame; each mistake has its signature. Pruning costs first what needs several places at once.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("19_resolution_and_coordinates/1")

# %% id="quiz-2"
quiz("19_resolution_and_coordinates/2")

# %% id="quiz-3"
quiz("19_resolution_and_coordinates/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Liu et al. 2024, *LLaVA-NeXT*, [blog](https://llava-vl.github.io/blog/2024-01-30-llava-next/): any resolution. Liu et al. 2023 (LLaVA-1.5), [arXiv:2310.03744](https://arxiv.org/abs/2310.03744): section 3.4, tiles.
# - Laurençon et al. 2024 (Idefics3), [arXiv:2408.12637](https://arxiv.org/abs/2408.12637).
# - Dehghani et al. 2023, *Patch n' Pack* (NaViT), [arXiv:2307.06304](https://arxiv.org/abs/2307.06304): section 2.1, packing and its mask.
# - Tschannen et al. 2025, *SigLIP 2*, [arXiv:2502.14786](https://arxiv.org/abs/2502.14786): section 2.4.2, NaFlex.
# - Wang et al. 2024, *Qwen2-VL*, [arXiv:2409.12191](https://arxiv.org/abs/2409.12191): section 2.1, sizes and 2-D RoPE. Bai et al. 2025, *Qwen2.5-VL*, [arXiv:2502.13923](https://arxiv.org/abs/2502.13923). Bai et al. 2025, *Qwen3-VL*, [arXiv:2511.21631](https://arxiv.org/abs/2511.21631).
# - Chen et al. 2023, *Shikra*, [arXiv:2306.15195](https://arxiv.org/abs/2306.15195): section 3, boxes as plain text.
# - Chen et al. 2024 (FastV), [arXiv:2403.06764](https://arxiv.org/abs/2403.06764): section 4.
#
# **Next:** [20 · Preferences and rewards](20_preferences_and_rewards.ipynb)
