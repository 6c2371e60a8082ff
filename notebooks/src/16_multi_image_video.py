# %% [markdown] id="title" lang="en"
# # 16 · Many images and video
#
# **115 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# One picture and one question were enough so far. But people compare two pictures, leaf through pages, watch clips. All of that is one thing to a language model: **a longer row of tokens**. What must change? Less than you may think, and the rest decides everything: which picture is which, when it was taken, and what it costs.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Chapter 08 put one picture's tokens among the words. Chapter 09 let words look at many pictures from outside. Here many pictures stand *in* the row.
#
# ## After this you can
#
# - **write** a row with several pictures, and say where each of them stands,
# - **choose** the frames of a clip and the tokens of a frame, and say what they cost,
# - **test** whether a model sees motion: shuffle its frames, freeze them, swap them,
# - **give** each token its time, row and column, with M-RoPE as in Qwen2-VL and Qwen3-VL,
# - **point** with words, as Kosmos-2 does, and measure how well the boxes fit.

# %% id="setup"
import numpy as np, torch
import matplotlib.pyplot as plt
from vlmcourse.workbook import *
from vlmcourse.models import frames, locations, mrope
from vlmcourse.world import changes, motion, pointing, scenes
begin("16_multi_image_video", lang="en")

# %% id="map"
course_map("language")

# %% [markdown] id="q-pair" lang="en"
# ## 1 · What changed?
#
# Three pairs of pictures. In each, **one** thing is different. Say what, before you run the cell after the next.

# %% id="pairs"
pairs = changes.sample_changes("test", 200, start=1000)
both = pairs.pictures()
fig, axes = plt.subplots(1, 6, figsize=(7, 1.5), layout="constrained")
for ax, picture, title in zip(axes, both[:3].reshape(6, 64, 64, 3), ["first", "second"] * 3):
    ax.imshow(picture); ax.axis("off"); ax.set_title(title)
figure(fig, alt="Three pairs of scenes; in each pair one thing changed its look or place, "
                "came or went")

# %% id="told"
print("\n".join(pairs.sentences()[:3]))
assert all(changes.read_change(told) for told in pairs.sentences())

# %% [markdown] id="row-intro" lang="en"
# No single picture can answer this. A model must see both, **at once**, and know which one came first. By hand: a row in which each picture is one marker, and what it becomes when the first has two tokens and the second three.

# %% id="row-hand"
short = ["first", "<image>", "second", "<image>", "what changed?"]
long = ["first", "<image>", "<image>", "second", "<image>", "<image>", "<image>", "what changed?"]
print("before:", *short)
tabulate({place: word for place, word in enumerate(long)}, "place", word="")
assert long[1:3] == ["<image>"] * 2 and long[4:7] == ["<image>"] * 3

# %% [markdown] id="ex-interleave" lang="en"
# The first picture's **span** is (1, 3): from place 1 up to, but not including, place 3. The second's is (4, 7).
#
# ### Your turn: `interleave` · difficulty 2/5 · 8 min
#
# | | |
# |---|---|
# | `ids` | a list of token ids, in which each picture is one `marker` |
# | `sizes` | how many tokens each picture has, in order |
# | out | `(row, spans)`: the longer list, and a list of pairs `(begin, end)` |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="interleave"
@exercise(frames.interleave)
def interleave(ids, marker, sizes):
    """[5, 9, 6, 9], 9, [2, 1] -> ([5, 9, 9, 6, 9], [(1, 3), (4, 5)])"""
    # walk through the ids: a word goes on as it is, a marker becomes as many as its picture has
    raise NotImplementedError

# %% id="interleave-proved"
from vlmcourse.data.text import IMAGE, load_tokenizer

text = "<user>first picture<image>second picture<image>What changed?<assistant>"
ids = load_tokenizer().encoder.encode(text).ids
row, spans = interleave(ids, IMAGE, [16, 16])
print(f"{len(ids)} tokens became {len(row)}; the pictures stand at {spans}")
assert [row[begin:end] == [IMAGE] * 16 for begin, end in spans] == [True, True]

# %% [markdown] id="interleave-lesson" lang="en"
# **What you just proved.** A row is all there is. Nothing marks the second picture as second but its place, and the words before it. Interleaved pages, pairs, albums and clips are the same kind of row.
#
# ## 2 · Does it know which is which?
#
# The course ships `nano-video`: chapter 08's small VLM, trained further on pictures, pairs and clips (`vlmcourse train nano-video` makes it). Its rows go through *your* `interleave`.
#
# Ask "In the second picture, is there a blue square?", or for a size or colour, always where the two pictures have different answers. Then exchange the pictures, and ask the same. **Predict:** what must happen to the answers? And what is left when both pictures are blank?

# %% id="load"
from vlmcourse.families import video, watching

speaker, card = video.load_video()
size = sum(weight.numel() for weight in speaker.model.parameters()) / 1e6
print(f"{size:.1f} M parameters, {speaker.model.tokens_per_frame} tokens for each picture of a row")

# %% id="which"
which = watching.which_controls(speaker, pairs)
tabulate(which, "questions about one of two pictures", right=".0%")
assert min(which["first picture"], which["second picture"], which["swapped"]) > 0.85

# %% [markdown] id="which-lesson" lang="en"
# "Swapped" counts, among its right answers, those that turn into the *other* picture's answer when the pictures are exchanged. A model that only found *a* picture fitting the question would not do that. Blank pictures leave a third, since most of these questions have but two answers.
#
# Now the harder question, about both at once: "What changed?" Its answer is a whole sentence, and counts only word for word. **Predict** the last three lines: the pictures exchanged but the old answer wanted, the first picture shown twice, and no pictures at all.

# %% id="changed"
changed = watching.change_controls(speaker, pairs)
tabulate(changed, "what changed?", right=".0%")
said = [changes.read_change(told) for told in watching.about_pairs(pairs).says(speaker)]
parts = {"the thing": lambda told, true: told.who == true.who,
         "the kind of change": lambda told, true: told.kind == true.kind}
shares = {part: np.mean([told is not None and fits(told, true)
                         for told, true in zip(said, pairs.truths())])
          for part, fits in parts.items()}
tabulate(shares, "of its sentences", right=".0%")
assert min(changed["right"], changed["swapped"]) > 0.8 and min(shares.values()) >= changed["right"]
assert max(changed["still right when swapped"], changed["same picture twice"]) < 0.1
assert changed["blank"] < 0.1

# %% [markdown] id="break-order-intro" lang="en"
# Some **nine in ten**, word for word. It does compare: no control gets anywhere, and exchanged pictures get their own, reversed sentence as often. It was hard to teach, though: finding *which* of all things differs, with nobody naming it, is a search over both pictures. After 900 steps it told two in five, named another thing half of the time, and never said "moved"; its card keeps these trials. A sentence begins with how a thing *looked*, and what vanished is nowhere in the second picture. What helped: in training, each token of the second picture also had to say what stood in its place **before**. Only the second can: attention is causal, so it may look back at the first.
#
# ### Break it on purpose: a loader that sorts pictures by name
#
# A real and common mistake: pictures reach the model in another order than their markers. Shapes fit, no error, the loss is a number. What does the model say?

# %% id="break-order"
exam = watching.about_pairs(pairs[:3])
wrong_order = exam.shown(exam.images[:, ::-1]).says(speaker)
tabulate(dict(zip(exam.answers, zip(exam.says(speaker), wrong_order))), "true",
         it_says="", pictures_in_the_wrong_order="")
assert sum(a == b for a, b in zip(exam.says(speaker), wrong_order)) <= 1

# %% [markdown] id="break-order-lesson" lang="en"
# Fluent, and where it makes sense, the change runs backwards. Only a question whose answer depends on the order can find this mistake. Keep one in your tests.

# %% [markdown] id="q-sample" lang="en"
# ## 3 · Which frames?
#
# A clip is pictures in order. A minute has 1,800 of them, at 30 a second; a row has no room for that. Take the **middle** frame of equal spans. Eight frames, budget four, by hand:

# %% id="sample-hand"
spans_of_8 = {f"frames {2 * k} and {2 * k + 1}": (2 * k, 2 * k + 2, 2 * k + 1) for k in range(4)}
tabulate(spans_of_8, "span", begins="", ends="", middle="")

# %% [markdown] id="ex-sample" lang="en"
# ### Your turn: `sample_frames` · difficulty 2/5 · 6 min
#
# `count` frames in the clip, `budget` of them wanted: a tensor of frame numbers. Round middles down. If the budget allows it, take every frame once.

# %% id="sample_frames"
@exercise(frames.sample_frames)
def sample_frames(count, budget):
    """8, 4 -> tensor([1, 3, 5, 7])"""
    raise NotImplementedError

# %% id="sample-figure"
ways = {"middles": sample_frames(48, 6), "the beginning": torch.arange(6),
        "first of each span": torch.arange(6) * 8, "first to last": torch.linspace(0, 47, 6).long()}
fig, ax = plt.subplots(figsize=(7, 1.7), layout="constrained")
for place, (name, chosen) in enumerate(ways.items()):
    ax.scatter(chosen, [place] * 6, color=roles.accent if place == 1 else roles.image,
               marker="x" if place == 1 else "o")
ax.set(yticks=range(4), yticklabels=ways, xlabel="frame of 48", xlim=(-1, 48), ylim=(3.5, -0.5))
figure(fig, alt="Six of 48 frames, chosen in four ways: three are spread over the clip, "
                "the one called the beginning sees its first eighth alone")
gaps = {name: max(chosen[0] + 1, 48 - chosen[-1]).item() for name, chosen in ways.items()}
assert gaps["the beginning"] == 43 and gaps["middles"] == 5

# %% [markdown] id="sample-lesson" lang="en"
# Real models differ here. Qwen2-VL's processor takes the first frame of each span, LLaVA-Video's code goes from the very first to the very last, TSN's takes middles when it is tested (Wang et al. 2016). All three see the whole clip. The one with crosses does not, and its price is measured in section 5.
#
# ## 4 · How many tokens for a frame?
#
# `nano-vlm` reads 64 tokens for a picture. Sixteen frames would be 1,024. Neighbouring patches show nearly the same, so average them in squares: **pooling**. Chapter 07's `pixel_shuffle` kept every number and made tokens wider; this keeps the width and forgets.
#
# Two rows of four patches, one number each, in squares of 2 × 2. **Predict** the two means.
#
# | 0 | 1 | 2 | 3 |
# |---|---|---|---|
# | 4 | 5 | 6 | 7 |
#
# ### Your turn: `pool_frame` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `tokens` | `(frame, patch, width)`, patches row by row |
# | `side` | of the squares |
# | `grid` | rows and columns; a square grid if None |
# | out | `(frame, fewer, width)`, the means of the squares, row by row |

# %% id="pool_frame"
@exercise(frames.pool_frame)
def pool_frame(tokens, side, grid=None):
    """(frame, patch, width) -> (frame, patch / side², width)"""
    # 1. the grid back   2. cut rows and columns into pieces of side   3. mean inside   4. one axis
    raise NotImplementedError

# %% id="pool-proved"
means = pool_frame(torch.arange(8.0).reshape(1, 8, 1), 2, (2, 4)).flatten()
print(means.tolist())
assert means.tolist() == [2.5, 4.5]

# %% [markdown] id="cost-intro" lang="en"
# It is at work in `nano-video`: 64 tokens become 16. Now the bill: for 2 to 16 frames, each as 64, 16, 4 or 1 token. Every row holds words and timestamps, too. **Predict:** which grows in proportion to the frames, which faster: the row, the seconds? And how well does a model trained at 4 × 16 answer elsewhere?

# %% id="costs"
bill = watching.frame_costs(speaker, 24, frames=(2, 4, 8, 16), sides=(1, 2, 4, 8))
tabulate({f"{line['frames']} × {line['tokens a frame']}":
          (line["tokens"], 1000 * line["CPU seconds"], line["right"]) for line in bill},
         "frames × tokens", tokens_of_the_row=",", CPU_ms_an_answer=".0f", right=".0%")

# %% id="costs-figure"
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for number, (marker, line) in zip((64, 16, 4, 1), zip("osD^", ("-", "--", "-.", ":"))):
    own = [one for one in bill if one["tokens a frame"] == number]
    for ax, what in zip(axes, ("tokens", "CPU seconds")):
        ax.plot([one["frames"] for one in own], [one[what] for one in own], line, marker=marker,
                label=f"{number} a frame")
        ax.set(xlabel="frames", ylabel=what, xticks=[2, 4, 8, 16], ylim=(0, None))
axes[0].legend()
figure(fig, alt="Tokens of a row and seconds for an answer over the frames, for 64, 16, 4 and 1 "
                "token a frame; tokens are straight lines, seconds with 64 bend upward")
row_of = {(one["frames"], one["tokens a frame"]): one["tokens"] for one in bill}
for n in (64, 16):                                            # twice the frames, twice the tokens
    assert row_of[16, n] - row_of[8, n] == 2 * (row_of[8, n] - row_of[4, n])
assert row_of[16, 16] < 0.45 * row_of[16, 64] and row_of[16, 4] < row_of[4, 64]
right = {(one["frames"], one["tokens a frame"]): one["right"] for one in bill}
assert right.pop((4, 16)) > 0.9 > 0.85 > max(right.values()) and np.mean(list(right.values())) < 0.4
assert row_of[8, 4] - row_of[4, 4] == 4 * (4 + 11)             # a timestamp has 11 tokens

# %% [markdown] id="costs-lesson" lang="en"
# Tokens grow with frames × tokens of a frame: straight lines, and pooling sets the slope. Seconds grow faster where rows are long, since every token meets every other. With 16 frames at 4 tokens the row is shorter than 4 frames unpooled. What does not shrink are the timestamps: 11 tokens each in our tokenizer, soon more than the picture.
#
# The column "right" says something else: only 4 × 16, on which it was trained, is answered well. The others lie far above and far *below* a quarter, which is chance. Nought of 24 is no bad luck: the model looks at fixed places of the row (section 5), and something else stands there now. Other frames or tokens are to be **trained** for. This table says what they cost, not what they could do.

# %% [markdown] id="q-motion" lang="en"
# ## 5 · Which way does it move?
#
# The simplest question that needs time. There are two kinds of clips. **Straight:** a thing crosses the picture. **Round:** it walks around a square, back to its start; asked is where it goes *first*.

# %% id="motion-figure"
films = {path: motion.sample_clips("test", 200, start=1000, path=path) for path in motion.PATHS}
fig, axes = plt.subplots(2, 4, figsize=(5, 2.9), layout="constrained")
for line, film in zip(axes, films.values()):
    for ax, picture, stamp in zip(line, film[3].pictures()[0], film.stamps()):
        ax.imshow(picture); ax.axis("off"); ax.set_title(stamp.strip("<>"))
figure(fig, alt="Two clips of four frames: in the upper one a thing goes straight on, "
                "in the lower one it goes around the corners of a square")

# %% [markdown] id="motion-predict" lang="en"
# Four directions are equally common. Three controls show what the answer comes from: frames **shuffled**, a **single frame** in all four places, and **blank** frames. **Predict** chance for each, for straight and for round. One of the six is not 25 %.

# %% id="motion"
seen = {path: watching.motion_controls(speaker, film) for path, film in films.items()}
tabulate({what: [one[what] for one in seen.values()] for what in seen["round"]}, "direction",
         straight=".0%", round=".0%")
assert min(one["right"] for one in seen.values()) > 0.82
assert seen["straight"]["shuffled"] < 0.65 and seen["round"]["shuffled"] < 0.4
assert max(one["single frame"] for one in seen.values()) < 0.4

# %% [markdown] id="motion-lesson" lang="en"
# It sees motion: right on nine of ten new clips, and no better than chance as soon as the order is gone. Mind the one exception. A straight clip in *any* order still shows the line, and one of two senses is left to guess: 50 %. In our run the model reached 37 %: what a control still shows, and what a model takes from it, are two numbers. Only the round walk takes everything away. **Before you call a control "chance", ask what it still shows.**
#
# ### When was that?
#
# Order is not time: frames may lie a second apart, or an hour. Qwen3-VL writes the time in front of each frame, in **words**: `<0.5 seconds>`. So do we. Where an encoder joins two frames into one, the text says the middle of both.

# %% id="stamps"
tabulate({"every frame": frames.timestamps([0, 12, 24, 36], 24),
          "two joined": frames.timestamps([0, 12, 24, 36], 24, merge=2) + ["", ""]},
         "24 frames a second", first="", second="", third="", fourth="")
assert frames.timestamps([0, 12, 24, 36], 24, merge=2) == ["<0.2 seconds>", "<1.2 seconds>"]

# %% [markdown] id="when-intro" lang="en"
# Does the model read these texts, or only count frames? Ask "where is it at 2.0 seconds?", and play the film backwards in two ways: frames and times reversed **together**, so that everything said is still true; and frames reversed under the old times. **Predict** both, for a model that reads, and for one that counts.

# %% id="when"
def asked_when(film, reverse_frames=False, reverse_times=False):
    """An exam about where the thing is at some time."""
    asked = motion.ask_when(film, seed=5)
    kept = [number for number, one in enumerate(asked) if one]
    pictures, times = film.pictures()[kept], tuple(film.stamps())
    return watching.FrameExam(pictures[:, ::-1] if reverse_frames else pictures,
                              times[::-1] if reverse_times else times,
                              *zip(*(asked[number] for number in kept)))

when = {"as filmed": asked_when(films["round"]),
        "frames and times reversed": asked_when(films["round"], True, True),
        "frames alone reversed": asked_when(films["round"], True)}
when = {name: exam.score(speaker) for name, exam in when.items()}
tabulate(when, "where is it at ... seconds?", right=".0%")
assert when["as filmed"] > 0.9 and max(list(when.values())[1:]) < 0.5

# %% [markdown] id="when-lesson" lang="en"
# **It counts.** Nearly always right as filmed, and lost in both reversals alike: what stands in front of a frame makes no difference. No wonder: in its training "2.0 seconds" was always the third frame, so the text told it nothing that the place did not. A text is read if training makes it *matter*: films of many rates and lengths would. The table also warns about us: had we stopped at 99 %, we would have told you that it reads the time.
#
# ### Break it on purpose: only the beginning
#
# The film at sixteen frames, four of them shown: middles, or the first four. **Predict.**

# %% id="break-begin"
dense = motion.sample_clips("test", 200, start=1000, frames=16)
shown = {"middles": frames.sample_frames(16, 4), "the first four": torch.arange(4)}
found = {}
for name, chosen in shown.items():
    times = tuple(frames.timestamps(chosen.tolist(), dense.rate))
    exam = watching.FrameExam(dense.pictures()[:, chosen], times, tuple(dense.questions()),
                              tuple(dense.answers()))
    found[name] = exam.score(speaker)
tabulate(found, "four of sixteen frames", right=".0%")
assert found["middles"] > 0.75 and found["the first four"] < found["middles"] - 0.1

# %% [markdown] id="q-attention" lang="en"
# Half right: the first four of sixteen show a fifth of the way.
#
# ## 6 · Which frame does the answer look at?
#
# Ask where the thing is at 0, 1, 2 and 3 seconds. The **last** token answers. **Predict:** how much of its attention to frames goes to the frame it was asked about? A quarter would mean that it does not care.

# %% id="attention"
def looks(film, times=("0.0", "1.0", "2.0", "3.0"), last=11):
    """Attention of the last tokens, (asked time, token, layer, frame), and these tokens."""
    table = []
    for at in times:
        asked = [f"Where is the {who} at {at} seconds?" for who in film.moving()]
        rows = [watching.look_at_row(speaker, seen, film.stamps(), question)
                for seen, question in zip(film.pictures(), asked)]
        table.append(torch.stack([torch.stack([row.shares(token) for row in rows]).mean(0)
                                  for token in range(-last, 0)]))
    return torch.stack(table), rows[0].tokens[-last:]

shares, words = looks(films["round"][:12])
words[1] = "0 … 3"                                              # the digit that was asked about
of_frames = shares / shares.sum(-1, keepdim=True)              # what goes to words is left out
on_asked = torch.stack([of_frames[k, ..., k] for k in range(4)]).mean(0)     # (token, layer)
names = [f"{place + 1}: {word or '<assistant>'}" for place, word in enumerate(words)]
tabulate({name: row.tolist() for name, row in zip(names, on_asked)}, "on the asked frame",
         layer_1=".0%", layer_2=".0%", layer_3=".0%", layer_4=".0%")
assert on_asked[1].max() > 0.5 and (on_asked[-1] - 0.25).abs().max() < 0.05

# %% id="attention-figure"
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained", sharey=True)
for ax, (token, title) in zip(axes, ((-1, "the last token"), (1, "the digit of the time"))):
    image = ax.imshow(of_frames[:, token, 1], vmin=0, vmax=1)
    ax.set(title=f"{title}, layer 2", xlabel="frame at ... seconds")
    ax.set(xticks=range(4), yticks=range(4))
axes[0].set_ylabel("asked about ... seconds")
fig.colorbar(image, label="share of its attention to frames")
figure(fig, alt="Two tables of four by four, asked time against frame: the last token looks at the "
                "same frames whatever was asked, the digit of the time at the frame of its time")

# %% [markdown] id="attention-lesson" lang="en"
# The last token does not care. Had you watched it alone, you would have found nothing. But the **digit** of the question looks where it is asked: it fetches the frame, and so does the first token behind the number. Later tokens read from them. **Look at every token, not only at the one that answers.** And look at what the digit knows: a place in the row, not what the frame's timestamp says.

# %% [markdown] id="q-mrope" lang="en"
# ## 7 · Where does a token stand?
#
# To plain RoPE a clip is a queue. The patch *below* is eight places away, the same patch one frame *later* sixty-four; in a larger picture both change. **M-RoPE** gives each token three numbers: its **time, row and column**. A word has the same number three times, so text is read as ever (Wang et al. 2024, section 2.1).
#
# A picture of 2 × 2 tokens behind three words, by hand: it starts at 3.

# %% id="mrope-hand"
grid = mrope.grid_positions(3, (1, 2, 2))
tabulate({name: numbers.tolist() for name, numbers in zip(("time", "row", "column"), grid)}, "",
         token_1="", token_2="", token_3="", token_4="")
assert grid.tolist() == [[3, 3, 3, 3], [3, 3, 4, 4], [3, 4, 3, 4]]

# %% [markdown] id="ex-mrope" lang="en"
# And the next word? One behind the **largest** number of the picture: 5. Four tokens, but the text moved on by two.
#
# ### Your turn: `mrope_positions` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `length` | of the row |
# | `spans` | where its pictures stand, as `interleave` told |
# | `grids` | of each: frames, rows, columns |
# | out | `(3, length)`: time, row and column of every token |
#
# `mrope.grid_positions(start, grid)` is yours to call.

# %% id="mrope_positions"
@exercise(mrope.mrope_positions)
def mrope_positions(length, spans, grids):
    """9, [(3, 7)], [(1, 2, 2)] -> times 0 1 2 3 3 3 3 5 6, and so on"""
    # keep one number: where the next word would stand
    raise NotImplementedError

# %% id="mrope-figure"
row_places = mrope_positions(20, [(2, 8), (10, 18)], [(1, 2, 3), (2, 2, 2)])
flat = torch.arange(20).expand(3, -1)
fig, axes = plt.subplots(2, 1, figsize=(7, 2.6), layout="constrained")
for ax, places, title in zip(axes, (flat, row_places), ("RoPE", "M-RoPE")):
    image = torch.zeros(20, dtype=torch.bool); image[2:8] = image[10:18] = True
    draw_mask(ax, torch.ones(3, 20).bool(), [roles.image if one else roles.text for one in image])
    for (line, token), number in np.ndenumerate(places.numpy()):
        ax.text(token + 0.5, line + 0.5, number, ha="center", va="center")
    ax.set(title=title, yticks=[0.5, 1.5, 2.5], yticklabels=["time", "row", "column"])
figure(fig, alt="Three numbers for each of 20 tokens: two words, a picture of 2 by 3, two words, a "
                "clip of two frames of 2 by 2, two words; RoPE runs to 19, M-RoPE to 10")
assert int(row_places.max()) == 10 and row_places[:, 8].tolist() == [5, 5, 5]

# %% [markdown] id="mrope-proved" lang="en"
# **What you just proved.** Twenty tokens, and the last one stands at 10. A picture takes up as many numbers as its longest side. One frame later is *one* step in time, whatever the picture's size.
#
# ### Three numbers, one rotation
#
# RoPE turns each pair of a head's numbers by one angle. M-RoPE shares the pairs out: some turn by the time, some by the row, some by the column. Early pairs turn fast, late ones slowly. Qwen2-VL cuts three **chunks**, so the time gets the fast pairs only. Qwen3-VL **interleaves** them, so that each of the three has fast and slow ones (Bai et al. 2025, section 2.1).
#
# ### Your turn: `pair_axes` · difficulty 3/5 · 8 min
#
# | | |
# |---|---|
# | `sections` | how many pairs the time, the row and the column get |
# | out, chunks | 0 for the time's pairs, then 1, then 2: `(1, 2, 3)` → `0 1 1 2 2 2` |
# | out, `interleaved` | 0 1 2 0 1 2 …; once the row or column has its pairs, the time takes its turns: `(4, 2, 1)` → `0 1 2 0 1 0 0` |

# %% id="pair_axes"
@exercise(mrope.pair_axes)
def pair_axes(sections, interleaved):
    """(1, 2, 3), False -> tensor([0, 1, 1, 2, 2, 2])"""
    raise NotImplementedError

# %% id="axes-figure"
fig, axes = plt.subplots(2, 1, figsize=(7, 2.6), layout="constrained")
shades, heights = np.array([roles.first, roles.second, roles.learned]), np.array([1, 0.7, 0.4])
for ax, (name, sections, mixed) in zip(axes, [("Qwen2-VL", (16, 24, 24), False),
                                              ("Qwen3-VL", (24, 20, 20), True)]):
    turned = pair_axes(sections, mixed).numpy()
    for axis, word in enumerate(("time", "row", "column")):
        own = (turned == axis).nonzero()[0]
        ax.bar(own, heights[axis], width=0.9, color=shades[axis], label=word)
    ax.set(title=name, yticks=[], xticks=[0, 63], xticklabels=["fast", "slow"])
axes[0].legend(loc="upper right", ncols=3)
figure(fig, alt="The 64 pairs of a head by what turns them: in Qwen2-VL 16 for time, then 24 for "
                "rows, 24 for columns; in Qwen3-VL they take turns, and the last four are time's")
assert pair_axes((24, 20, 20), True).bincount().tolist() == [24, 20, 20]

# %% [markdown] id="train-intro" lang="en"
# ### Does it help? Train it
#
# A tiny world: a picture of dots, three frames; one dot moves a step each, another rests. Which way? Pictures come in **five sizes**, from 3 × 4 to 4 × 4. Two equal models (`models/qwen.py`: chapter 05's LLaMA with your positions), same seed, same clips. One counts its tokens like text, the other has time, row and column. Then both see sizes that are new. **Predict** both halves of the table.

# %% id="dots"
MOVES = torch.tensor([[0, -1], [0, 1], [-1, 0], [1, 0]])      # (row, column): left, right, up, down

def dots(count, dice, rows, columns):
    """Rows of ids, (clip, 3 · rows · columns + 1), and directions; 1 is a dot, 2 the question."""
    def somewhere(edge):
        inside = [torch.randint(edge, side - edge, (count,), generator=dice)
                  for side in (rows, columns)]
        return torch.stack(inside, dim=1)

    way, middle, resting = torch.randint(4, (count,), generator=dice), somewhere(1), somewhere(0)
    where = middle[:, None] + torch.tensor([-1, 0, 1])[:, None] * MOVES[way][:, None]
    film, clip = torch.zeros(count, 3, rows, columns, dtype=torch.long), torch.arange(count)
    film[clip, :, resting[:, 0], resting[:, 1]] = 1
    film[clip[:, None], torch.arange(3), where[..., 0], where[..., 1]] = 1
    return torch.cat([film.flatten(1), torch.full((count, 1), 2)], dim=1), way

# %% id="train"
from torch.nn import functional as F
from vlmcourse.models.look import causal
from vlmcourse.models.qwen import Qwen, QwenConfig
from vlmcourse.training.loop import train
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear

SIZES = [(3, 4), (4, 3), (3, 5), (5, 3), (4, 4)]
sizes = budget(cpu=dict(steps=300), gpu=dict(steps=300))

def stand(kind, rows, columns):
    length = 3 * rows * columns + 1
    if kind == "like text": return causal(length)
    return mrope.mrope_look([mrope_positions(length, [(0, length - 1)], [(3, rows, columns)])])

def learn_dots(kind):
    torch.manual_seed(0)
    dice, looks = torch.Generator().manual_seed(0), {size: stand(kind, *size) for size in SIZES}
    model = Qwen(QwenConfig(8, width=64, depth=2, heads=2, groups=2, base=100.0, sections=(6, 5, 5),
                            interleaved=True))
    def loss_of(model, batch):
        ids, way, number = batch
        scores = model(ids, looks[SIZES[number]])[:, -1, 4:]       # of ids 4 to 7, the directions
        return F.cross_entropy(scores, way)
    batches = [(*dots(64, dice, *SIZES[step % 5]), step % 5) for step in range(sizes.steps)]
    train(model, batches, loss_of, steps=sizes.steps, name=f"positions {kind}",
          optimizer=MuonAdamW(model, 0.015, 4e-3), schedule=warmup_linear(sizes.steps, 20))
    return model.eval()

# %% id="train-exam"
learned = {kind: learn_dots(kind) for kind in ("like text", "by time, row, column")}

def dots_right(model, kind, *size):
    ids, way = dots(600, torch.Generator().manual_seed(9), *size)
    with torch.no_grad():
        return (model(ids, stand(kind, *size))[:, -1, 4:].argmax(-1) == way).float().mean().item()

new = [(4, 5), (5, 4), (5, 5), (6, 6)]
table = {size: [dots_right(model, kind, *size) for kind, model in learned.items()]
         for size in SIZES + new}
tabulate({f"{rows} × {columns}{' (new)' * ((rows, columns) in new)}": line
          for (rows, columns), line in table.items()}, "size",
         **{"like text": ".0%", "M-RoPE": ".0%"})
known, other = (np.mean([table[size] for size in group], axis=0) for group in (SIZES, new[:2]))
assert known.min() > 0.6 and other[0] < 0.48 and other[1] > other[0] + 0.15

# %% [markdown] id="train-lesson" lang="en"
# Surprising at first: on sizes they have seen, the two are about as good, in our run. The place in the queue *is* enough, if "below" is always five tokens on. In a picture of another size it is six, and the model that counted like text falls to chance. With rows and columns, most of the skill carries over to a size nobody trained on. Not without end: at 6 × 6 most of it is lost.
#
# `nano-video` sees pictures of one size only, so it does well with plain RoPE. Qwen2-VL takes pictures of *any* size; that is why it needs M-RoPE.

# %% [markdown] id="q-point" lang="en"
# ## 8 · Can words point?
#
# "Where is the red circle?" A model that writes words can answer with a **box**, if boxes are words. Kosmos-2 lays a grid of 32 × 32 cells over the picture and gives each cell a word (Peng et al. 2023, section 3.1). Two words, for the upper left and the lower right corner, make a box. No new layer, no detector.
#
# By hand on a 4 × 4 grid: a box from (0.3, 0.6) to (0.8, 0.9), as shares of the picture. Times 4 that is (1.2, 2.4) and (3.2, 3.6): column 1 in row 2, and column 3 in row 3. Row by row the cells are 2 · 4 + 1 = 9 and 3 · 4 + 3 = 15.
#
# An edge that lies *on* a line belongs to the cell inside the box: from 0.25 to 0.5 is one cell of four, not two.
#
# ### Your turn: `box_to_locations` · difficulty 2/5 · 8 min
#
# `boxes` is `(box, 4)`: left, top, right, bottom, each 0…1. Out: `(box, 2)`, the cells of the two corners, counted row by row: row · bins + column.

# %% id="box_to_locations"
@exercise(locations.box_to_locations)
def box_to_locations(boxes, bins):
    """[[0.3, 0.6, 0.8, 0.9]], 4 -> [[9, 15]]"""
    raise NotImplementedError

# %% [markdown] id="ex-boxes" lang="en"
# And back. A corner may have been anywhere in its cell, so take the cell's **middle**. One exception: if both corners lie in one row or one column, that box would have no area. Let such a box span its cells from edge to edge, in both directions.
#
# ### Your turn: `locations_to_boxes` · difficulty 3/5 · 8 min
#
# `locations` is `(box, 2)`; out: `(box, 4)`, shares of the picture.

# %% id="locations_to_boxes"
@exercise(locations.locations_to_boxes)
def locations_to_boxes(locations, bins):
    """[[9, 15]], 4 -> [[0.375, 0.625, 0.875, 0.875]]"""
    # 1. rows and columns of both cells   2. which boxes are thin?   3. middles, or edges
    raise NotImplementedError

# %% id="bins"
from vlmcourse.evaluation.boxes import box_iou

drawn = scenes.sample("test", 300, start=2000)
true = torch.tensor(pointing.true_boxes(drawn)).float()
true = true[true.sum(1) > 0]
kept = {bins: box_iou(locations_to_boxes(box_to_locations(true / 64, bins), bins) * 64, true)
        .diagonal().mean().item() for bins in (4, 8, 16, 32)}
tabulate({f"{bins} × {bins}": (bins**2, fit) for bins, fit in kept.items()}, "grid",
         new_words=",", mean_IoU_of_box_there_and_back=".2f")
assert kept[4] < kept[8] < kept[16] < kept[32]

# %% [markdown] id="bins-lesson" lang="en"
# No model can point better than its grid. `nano-video` has 16 × 16 cells of 4 pixels each: 256 new words, `<loc_0>` to `<loc_255>`. What does it do with them? The baseline is the **mean box** of all true boxes, told for every question. **Predict:** is that 0?

# %% id="point"
pointed = watching.pointing_scores(speaker, drawn)
tabulate({who: (pointed[f"{who}: mean IoU"], pointed[f"{who}: IoU over 0.5"])
          for who in ("told", "blank", "mean box", "best possible")},
         "boxes", mean_IoU=".2f", IoU_over_a_half=".0%")
assert pointed["told: mean IoU"] > 2 * pointed["mean box: mean IoU"]
assert pointed["told: mean IoU"] > pointed["blank: mean IoU"] + 0.2

# %% id="point-figure"
from vlmcourse.world.render import render

few = scenes.sample("test", 5, start=2000)
asked = [talk[0] for talk in pointing.point_talks(few)]
said = speaker.answer(render(few), [question for question, _ in asked], 4)
fig, axes = plt.subplots(1, 5, figsize=(7, 2), layout="constrained")
for ax, picture, (question, answer), told in zip(axes, render(few), asked, said):
    ax.imshow(picture); ax.axis("off")
    ax.set_title(question.removeprefix("Where is the ").split("?")[0])
    for words, colour, line in ((answer, roles.ink, ":"), (told, roles.accent, "-")):
        if box := pointing.read_box(words):
            x, y, right, bottom = box
            sides = right - x, bottom - y
            ax.add_patch(plt.Rectangle((x, y), *sides, fill=False, ec=colour, ls=line))
figure(fig, alt="Five scenes with the true box dotted and the told box in solid lines")
print(said[0], "is", pointing.read_box(said[0]), "in pixels")

# %% [markdown] id="real-intro" lang="en"
# ## 9 · Is this the real thing?
#
# `Qwen2VLForConditionalGeneration`, small and random. Its language model's weights go into yours; its `get_rope_index` is asked about a row with a picture and a clip; then both read the row.

# %% id="real-build"
import transformers
from vlmcourse.interop import qwen as carry

turned = {"rope_theta": 5000.0, "rope_type": "default", "mrope_section": [2, 3, 3]}
words = dict(vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, rope_parameters=turned,
             bos_token_id=None, eos_token_id=None)
eye = dict(depth=1, embed_dim=32, hidden_size=64, num_heads=2, patch_size=8, spatial_merge_size=2)
torch.manual_seed(3)
theirs = transformers.Qwen2VLForConditionalGeneration(transformers.Qwen2VLConfig(
    text_config=words, vision_config=eye, image_token_id=90, video_token_id=91)).eval()
for weight in theirs.parameters():
    torch.nn.init.normal_(weight, 1.0 if weight.dim() == 1 else 0.0, 0.1)
yours = carry.from_transformers(theirs)

# %% id="real-equal"
kinds = torch.tensor([[0] * 3 + [1] * 6 + [0] * 2 + [2] * 12 + [0] * 4])    # words, picture, clip
library, _ = theirs.model.get_rope_index(torch.ones_like(kinds), kinds,
    image_grid_thw=torch.tensor([[1, 4, 6]]), video_grid_thw=torch.tensor([[2, 4, 6]]))
own = mrope_positions(27, [(3, 9), (11, 23)], [(1, 2, 3), (2, 2, 3)])
vectors = torch.randn(1, 27, 64)
with torch.no_grad():
    scores = theirs(inputs_embeds=vectors, position_ids=library).logits
    gap = (yours(vectors, mrope.mrope_look([own])) - scores).abs().max().item()
    without = (yours(vectors) - scores).abs().max().item()
print(f"scores differ by {gap:.0e}; with positions as in a text by {without:.2f}")
assert torch.equal(own, library[:, 0]) and gap < 1e-4 < 0.1 < without

# %% id="real-kosmos"
from transformers.models.kosmos2 import processing_kosmos2 as kosmos

told = kosmos.coordinate_to_patch_index((0.39, 0.04, 0.98, 0.83), 32)
assert box_to_locations(torch.tensor([[0.39, 0.04, 0.98, 0.83]]), 32).tolist() == [list(told)]
print(locations.write_locations(torch.tensor([[0.39, 0.04, 0.98, 0.83]])), "in Kosmos-2's words")

# %% [markdown] id="real-differs" lang="en"
# The published ones, and what each adds:
#
# | | several pictures | time | tokens |
# |---|---|---|---|
# | Flamingo | cross-attention, interleaved pages | a learned vector for each frame's place | 64 latents, however many frames |
# | Kosmos-1, Kosmos-2 | in the row, interleaved | – | 64 latents a picture; Kosmos-2 has 1,024 location words |
# | LLaVA-OneVision | in the row | order alone | 196 a frame, by bilinear pooling |
# | Qwen2-VL | in the row | M-RoPE in chunks; two frames joined | 2 × 2 patches to one, any resolution |
# | Qwen3-VL | in the row | timestamps as text, M-RoPE interleaved | the same; DeepStack feeds layers of the eye into early blocks |
# | yours | in the row | order, timestamps as text | 16 a frame |
#
# One trap, found while these lines were tested: behind a clip with more frames than a frame has rows or columns, the paper resumes the text behind the *largest* number, as you do. transformers 5 resumes it behind the longer side of a *frame*, inside the clip's time. Qwen3-VL, which splits clips into frames, never meets the case.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Several pictures are one longer row; places, and the words before them, say which is which. Test with questions whose answer depends on the order.
# 2. Frames come from all of the clip. A row costs frames × tokens of a frame; pooling sets that price.
# 3. Motion is proved by controls: shuffled, single and blank frames. Ask what each control still shows before you call it chance.
# 4. M-RoPE gives time, row and column; text goes on behind the largest. Timestamps as text say when.
# 5. Location tokens let a model point with words. The grid bounds what it can say; the mean box is what it must beat.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("16_multi_image_video/1")

# %% id="quiz-2"
quiz("16_multi_image_video/2")

# %% id="quiz-3"
quiz("16_multi_image_video/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Wang et al. 2024, *Qwen2-VL*, [arXiv:2409.12191](https://arxiv.org/abs/2409.12191): section 2.1, M-RoPE.
# - Bai et al. 2025, *Qwen3-VL Technical Report*, [arXiv:2511.21631](https://arxiv.org/abs/2511.21631): sections 2.1 to 2.3.
# - Peng et al. 2023, *Kosmos-2*, [arXiv:2306.14824](https://arxiv.org/abs/2306.14824): section 3.1. Huang et al. 2023, *Language Is Not All You Need* (Kosmos-1), [arXiv:2302.14045](https://arxiv.org/abs/2302.14045).
# - Li et al. 2024, *LLaVA-OneVision*, [arXiv:2408.03326](https://arxiv.org/abs/2408.03326): section 3.2. Zhang et al. 2024, *Video Instruction Tuning with Synthetic Data* (LLaVA-Video), [arXiv:2410.02713](https://arxiv.org/abs/2410.02713).
# - Alayrac et al. 2022, *Flamingo*, [arXiv:2204.14198](https://arxiv.org/abs/2204.14198): section 2.1, frames and interleaved pages.
# - Wang et al. 2016, *Temporal Segment Networks*, [arXiv:1608.00859](https://arxiv.org/abs/1608.00859): frames from equal spans.
# - Park et al. 2019, *Robust Change Captioning*, [arXiv:1901.02527](https://arxiv.org/abs/1901.02527); Jhamtani and Berg-Kirkpatrick 2018, *Spot-the-Diff*, [arXiv:1808.10584](https://arxiv.org/abs/1808.10584).
#
# **Next:** [17 · Real models](17_real_models.ipynb)
