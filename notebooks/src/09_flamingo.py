# %% [markdown] id="title" lang="en"
# # 09 · Flamingo: a language model that looks, and learns from examples
#
# **100 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# LLaVA put image tokens among the words, and taught the language model to read them. Flamingo leaves the language model as it is. New layers between its blocks look at the images, behind gates that start closed. So it keeps what it could before, and that includes the most useful thing language models can do: pick up a task from a few examples.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Chapter 06 named three places where image and words can meet. Chapters 07 and 08 took the input. This one takes the middle: **mid fusion**, by cross-attention.
#
# ## After this you can
#
# - **write** the media mask, the resampler's step, the gated block and prompts with examples,
# - **show** what closed gates change in a language model, and what open ones cost,
# - **measure** what a model takes from examples: the task, or only the form of the answers,
# - **find** a mask that looks right and is not,
# - **choose** between LLaVA and Flamingo, with numbers.

# %% id="setup"
import copy, numpy as np, torch
from vlmcourse.workbook import *
from vlmcourse.data import chat
from vlmcourse.models import flamingo
from vlmcourse.world import captions, render, scenes
begin("09_flamingo", lang="en")

# %% id="map"
course_map("connector")

# %% [markdown] id="q-riddle" lang="en"
# ## 1 · What does "dax?" mean?
#
# A made-up word, asked about five pictures. Four have been answered. **Answer the fifth yourself.**

# %% id="riddle"
import matplotlib.pyplot as plt
from vlmcourse.world.riddles import WORD, riddles

single = scenes.sample("train", 1000, objects=(1, 1))
pictures = render.render(single)
told = riddles(single, 960, seed=5)
fig, axes = plt.subplots(1, 5, figsize=(7, 1.8), layout="constrained")
for place, (ax, number) in enumerate(zip(axes, told.pictures[1])):
    ax.imshow(pictures[number]); ax.axis("off")
    ax.set_title(told.answers[1][place] if place < 4 else WORD)
figure(fig, alt="Five pictures of one thing each; above four of them an answer, above the last one "
                "the question dax?")
print("the answer:", told.answers[1][-1], "since dax? asks for the", told.kinds[1])
assert len(set(told.kinds)) == 4 and told.pictures.shape == (960, 5)

# %% [markdown] id="riddle-lesson" lang="en"
# In another riddle the same word asks for something else: the colour, the shape, the size or the place. **Only the examples tell.** No amount of training can answer "dax?" about a single picture; a model must read the examples, at the moment it is asked. That is **few-shot learning in context**, and no weight changes.
#
# The drawing has the whole chapter. Lit is what you write.

# %% id="drawing"
drawing("flamingo")

# %% [markdown] id="ex-few-shot" lang="en"
# ## 2 · How do examples become a prompt?
#
# Images and texts take turns: **interleaved**. Each instruction stands behind its own image, and the last one waits for an answer.
#
# ### Your turn: `few_shot` · difficulty 1/5 · 5 min
#
# | | |
# |---|---|
# | `examples` | list of `(instruction, answer)` |
# | `instruction` | what is asked at the end |
# | out | list of turns `(role, text)`: for each example one of `user`, `<image>` and the instruction, and one of `assistant`; at the end one more of `user`, again with `<image>` |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="few_shot"
@exercise(chat.few_shot)
def few_shot(examples, instruction):
    """[("dax?", "red")], "dax?" -> a user's turn, an assistant's, a user's: pairs (role, text)"""
    raise NotImplementedError

# %% id="few-shot-proved"
from vlmcourse.data.text import IMAGE, load_tokenizer
from vlmcourse.training.riddles import write_out

tokenizer, rows = load_tokenizer(), write_out(told)           # every answer is a label
print(" ".join(tokenizer.tokens(rows.ids[1])))
assert (rows.ids == IMAGE).sum() == 5 * len(told.answers)
assert (rows.labels >= 0).sum(1).min() >= 10                  # five answers and their ends

# %% [markdown] id="one-token" lang="en"
# An image takes up **one** token of the text: a mark that says where it stands. What it shows waits outside.
#
# A row with four examples is five lessons: the first answer must be guessed, the second has one example before it, and so on. All five are learned.

# %% [markdown] id="q-mask" lang="en"
# ## 3 · Which image does a word look at?
#
# Flamingo's rule: **only the last image before it**. By hand, with two images: count how many have begun.

# %% id="mask-hand"
words = ["<user>", "<image>", "dax?", "red", "<image>", "dax?"]
begun = torch.tensor([word == "<image>" for word in words]).cumsum(0)
tabulate({f"{place}: {word}": (count, count or "none")
          for place, (word, count) in enumerate(zip(words, begun.tolist()))},
         "token", images_begun="", looks_at_image="")
assert begun.tolist() == [0, 1, 1, 1, 2, 2]

# %% [markdown] id="ex-mask" lang="en"
# Two questions that people ask about this rule:
#
# - **Why only the last?** A model trained with up to five images can then be asked about many more: it never sees more than one at once. Flamingo's authors found it better, too (Alayrac et al. 2022, section 2.3). Earlier images are still known, through the words that stood behind them. Idefics, the open Flamingo of section 11, leaves the mask to its processor, which makes this one.
# - **And text before the first image?** It may look at nothing. Attention over nothing would be 0/0, so the course's `Attention` returns zeros there, which add nothing. The MLP behind it still runs for these words.
#
# ### Your turn: `media_mask` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `starts` | `(batch, token)`, True at the placeholders |
# | `images` | how many images there are to look at; a text may have fewer |
# | `last_only` | True: the last image at or before the token. False: all images at or before it |
# | out | `(batch, token, image)`, True where a token may look |

# %% id="media_mask"
@exercise(flamingo.media_mask)
def media_mask(starts, images, last_only):
    """(batch, token) -> (batch, token, image), bool"""
    # 1. how many images have begun at each token: cumsum
    # 2. number the images from 1   3. compare: == or <=
    raise NotImplementedError

# %% id="mask-figure"
shown, starts = tokenizer.tokens(rows.ids[1])[:24], (rows.ids == IMAGE)[1:2, :24]
both = {"only the last image": media_mask(starts, 3, True)[0],
        "all images before": media_mask(starts, 3, False)[0]}
fig, axes = plt.subplots(1, 2, figsize=(7, 4.6), layout="constrained")
for ax, (title, seen) in zip(axes, both.items()):
    draw_mask(ax, seen, roles.image)
    ax.set(aspect=0.3, title=title, yticks=np.arange(24) + 0.5, yticklabels=shown,
           xticks=np.arange(3) + 0.5, xticklabels=[1, 2, 3], xlabel="image")
figure(fig, alt="Tokens of a prompt with three images, from top to bottom: with the first mask "
                "each sees the image before it, with the second one more with every image")
assert not both["only the last image"][0].any() and both["only the last image"][-1].sum() == 1

# %% [markdown] id="ex-beside" lang="en"
# ## 4 · Where are the images?
#
# The images of a batch come in one long list: first those of text 1, then those of text 2. Texts have different numbers of them. Each text needs its own in **one row**, to look at.
#
# ### Your turn: `side_by_side` · difficulty 3/5 · 10 min
#
# | | shape |
# |---|---|
# | `latents` | `(picture, latent, features)`: the vectors of all images of all texts |
# | `counts` | `(batch,)`: images of each text; their sum is `picture` |
# | out | `(batch, read, features)`: image behind image; zeros behind those of a text that has fewer |

# %% id="side_by_side"
@exercise(flamingo.side_by_side)
def side_by_side(latents, counts):
    """(picture, latent, features) -> (batch, most images · latent, features)"""
    # 1. zeros (batch, image, latent, features)   2. which places are real?
    # 3. fill them   4. merge image and latent
    raise NotImplementedError

# %% id="beside-proved"
numbers = torch.arange(1.0, 7).reshape(3, 2, 1)              # three images of two vectors
row = side_by_side(numbers, torch.tensor([1, 2]))
print(row[..., 0])
assert row[..., 0].tolist() == [[1, 2, 0, 0], [3, 4, 5, 6]]

# %% [markdown] id="q-resample" lang="en"
# ## 5 · How many vectors is an image worth?
#
# The eye gives 65 vectors: 64 patches and the class token. All of them could be looked at. But a larger picture has more, a video far more, and every gated block would pay. The **perceiver resampler** asks for a fixed number: learned *latents* look at all patches, and come back with what they saw. Flamingo has 64 of them; we take 16.
#
# The latents look at each other, too, so that not all of them fetch the same.
#
# ### Your turn: `resample` · difficulty 2/5 · 8 min
#
# `attend(asking, context)` is an attention to call; `norm_latents` and `norm_patches` are layers. The context is patches **and** latents, both normalised. Out: the latents, plus what they saw, `(picture, latent, features)`.

# %% id="resample"
@exercise(flamingo.resample)
def resample(latents, patches, norm_latents, norm_patches, attend):
    """latents + attend(norm(latents), [norm(patches), norm(latents)])"""
    raise NotImplementedError

# %% id="resample-proved"
from vlmcourse.data.text import IMAGE
from vlmcourse.families import nano

nano_vlm, _ = nano.load_vlm("nano-vlm")
config = flamingo.FlamingoConfig(nano_vlm.config.vision, nano_vlm.config.language, IMAGE,
                                 latents=16, resampler_depth=1)
torch.manual_seed(0)
resampler = flamingo.Resampler(width=96, latents=16, depth=1, heads=4, part=32)
shapes = {f"{n} patches": tuple(resampler(torch.randn(2, n, 96)).shape) for n in (65, 260, 1000)}
tabulate(shapes, "in", pictures="", vectors="", width="")
assert len(set(shapes.values())) == 1

# %% [markdown] id="q-gate" lang="en"
# ## 6 · How can new layers do no harm?
#
# Chapter 06 put a gate before each new layer, and the language model stayed what it was. A new block of Flamingo has two steps, and a gate for each: what the step adds is multiplied by **tanh of the gate**, one number that starts at 0.
#
# ### Your turn: `gated_block` · difficulty 2/5 · 8 min
#
# Two steps of the residual stream: first `look` (norm and cross-attention), then `think` (norm and MLP), each times tanh of its own gate. You call both: `(batch, token, width)` in, the same out.

# %% id="gated_block"
@exercise(flamingo.gated_block)
def gated_block(tokens, look, think, look_gate, think_gate):
    """tokens plus what look sees, then plus what think makes of that; gates of 0 change nothing"""
    raise NotImplementedError

# %% [markdown] id="closed-intro" lang="en"
# Is a gate of 0 *nearly* nothing, or nothing? Build a whole Flamingo around the course's language model. **Predict:** the largest difference of its scores from those of the language model alone.

# %% id="closed"
def new_flamingo(language, gate=0.0):
    """The course's eye and a language model, resampler and gated blocks between them."""
    torch.manual_seed(0)
    model = flamingo.Flamingo(config)
    model.vision.load_state_dict(nano_vlm.vision.state_dict())
    model.language.load_state_dict(language.state_dict())
    for block in model.gated:
        block.look_gate.data.fill_(gate); block.think_gate.data.fill_(gate)
    return model.eval()

plain, _ = nano.load_vlm("nano-words")
closed, opened = new_flamingo(plain.language), new_flamingo(plain.language, gate=10)
some = render.to_tensor(pictures[told.pictures[:2].flatten()])
with torch.no_grad():
    alone = plain.language(rows.ids[:2])
    gaps = {name: (model(rows.ids[:2], some) - alone).abs().max().item()
            for name, model in (("closed", closed), ("open", opened))}
tabulate(gaps, "gates", largest_difference=".3g")
assert torch.equal(closed(rows.ids[:2], some), plain.language(rows.ids[:2])) and gaps["open"] > 1

# %% [markdown] id="first-step" lang="en"
# **Bit for bit the same.** It is the language model, with images in its hands and its eyes shut.
#
# But then nothing comes through the gates, so what can the first step learn? Look at the gradients.

# %% id="gradients"
from vlmcourse.training.riddles import riddle_loss

two = told._replace(pictures=told.pictures[:2], answers=told.answers[:2])
riddle_loss(closed, nano.features(closed, pictures), two, write_out(two)).backward()
first = {"gates": max(block.look_gate.grad.abs().item() for block in closed.gated),
         "cross-attention": closed.gated[0].attention.project_in.weight.grad.abs().max().item(),
         "resampler": closed.resampler.latents.grad.abs().max().item()}
tabulate(first, "largest gradient", at_the_first_step=".2g")
assert first["gates"] > 0 and first["cross-attention"] == first["resampler"] == 0

# %% [markdown] id="gradients-lesson" lang="en"
# Only the gates. The gradient of what stands behind a gate is multiplied by tanh(gate), and that is 0. So gates move first, one way or the other; then the layers behind them begin to learn. **If they never open**, because somebody froze them or their rate is tiny, *nothing* learns, and no error says so. Watch them.

# %% [markdown] id="q-text" lang="en"
# ## 7 · Train it
#
# Flamingo's few-shot ability comes from its language model, Chinchilla, which learned it from text. Ours is small and has never met an example. So first it gets a text to read: riddles **without pictures**, and captions so that it keeps them. The `<image>` marks stand in the text, but nobody loads the images. **Predict:** what can it learn about "dax?", blind?

# %% id="text-model"
from vlmcourse.training.riddles import learn_texts
from vlmcourse.world.instructions import FULL, turns

sizes = budget(cpu=dict(words=60, steps=80, batch=12), gpu=dict(words=60, steps=80, batch=12))
texts = captions.captions(scenes.sample("train", 320), "full")
mixed = write_out(told, also=[turns(FULL, text) for text in texts])
language = copy.deepcopy(plain.language)
read = learn_texts(language, mixed, steps=sizes.words, size=16, name="reads without pictures")

# %% [markdown] id="exam-intro" lang="en"
# The exam: 200 riddles about pictures never seen. For each answer in a row, would the model write it, word for word? And is what it would write at least **of the right kind**, a colour where colours are asked for?

# %% id="exam"
from vlmcourse.evaluation.riddles import grade_riddles, share_of
from vlmcourse.world.riddles import ASKED_FOR

new = scenes.sample("validation", 400, objects=(1, 1))
new_pictures = render.render(new)
exam = {how: riddles(new, 200, seed=2, spoiled=how) for how in ("right", "wrong", "another")}

# %% id="text-exam"
right, in_kind = (m.float().mean(0).tolist() for m in grade_riddles(language, exam["right"]))
tabulate(dict(enumerate(zip(right, in_kind))), "examples before it", right=".0%",
         of_the_right_kind=".0%")
prior = np.mean([1 / len(names) for names in ASKED_FOR.values()])
print(f"guessing within the kind: {prior:.0%}")
assert in_kind[4] > 0.9 > 0.5 > in_kind[0] and right[4] < prior + 0.1

# %% [markdown] id="text-lesson" lang="en"
# It has learned what can be learned without eyes: **after an example it answers in kind**, and within the kind it guesses. Without an example it does not even know the kind. This model now gets images, and is itself frozen.

# %% [markdown] id="train-intro" lang="en"
# ### With gates, and without
#
# Two Flamingos, the same but for one number. In the first, gates start at 0. In the second they stand at 10, where tanh is 1 and does not move: no gate at all. Only resampler and gated blocks learn. **Predict** the loss of both at step 1, beside the text model's.

# %% id="train"
from vlmcourse.training.riddles import learn_riddles

seen = nano.features(closed, pictures)                        # the frozen eye is asked once

def train_flamingo(gate, name):
    """A Flamingo that learned riddles, its run, and tanh of its gates after every step."""
    model, kept = new_flamingo(language, gate), []

    def note(step, **numbers):
        kept.append([[b.look_gate.tanh().item(), b.think_gate.tanh().item()] for b in model.gated])

    model.requires_grad_(False)
    model.resampler.requires_grad_(True), model.gated.requires_grad_(True)
    options = dict(steps=sizes.steps, size=sizes.batch, watch=note, name=name)
    return model, learn_riddles(model, seen, told, **options), np.array(kept)

# %% id="run"
looking, run, gates = train_flamingo(0.0, "gates start at 0")
_, ungated_run, _ = train_flamingo(10.0, "no gates")

# %% id="first-loss"
from vlmcourse.training.losses import answer_loss

with torch.no_grad():
    blind = answer_loss(language.hidden(rows.ids), rows.labels, language.head).item()
at = {name: (each.losses[0], np.mean(each.losses[-10:]))
      for name, each in (("gates start at 0", run), ("no gates", ungated_run))}
tabulate(at | {"the text model, blind": (blind, blind)}, "loss", step_1=".2f", last_steps=".2f")
assert abs(run.losses[0] - blind) < 0.3 and ungated_run.losses[0] > 2 * blind
assert at["gates start at 0"][1] < 0.6 * blind

# %% id="losses"
fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
ax.plot(run.losses, color=roles.learned, label="gates start at 0")
ax.plot(ungated_run.losses, "--", color=roles.accent, label="no gates")
ax.axhline(blind, color=roles.text, lw=1, ls=":", label="the text model, blind")
ax.set(xlabel="step", ylabel="loss (nats)", yscale="log"); ax.legend(ncols=3, loc="upper right")
figure(fig, alt="Loss over steps: with gates it starts at the text model's and falls below it; "
                "without gates it starts far above, and ends about as low")

# %% [markdown] id="train-lesson" lang="en"
# With gates at 0 it starts where the text model stood, 0.82 in our run, and 0.84 over all riddles. Without gates it starts at 2.60: new random layers shout into a stream that expects nobody. (For OpenFlamingo somebody reported a loss of 12 without the gates, 6 with them: open_flamingo, issue 286.)
#
# And then a surprise, reported as it is: **the ungated model recovers, and ends no worse**. With 80 steps and a small model, the damage is repaired within ten. The zero start is insurance: a large model trained for weeks cannot afford to be broken first. Flamingo's authors saw worse results and unstable training without it (section 3.3).

# %% id="gates"
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained", sharey=True)
for ax, title, kind in zip(axes, ("look: cross-attention", "think: MLP"), (0, 1)):
    for block, line in enumerate(("-", "--", "-.", ":")):
        ax.plot(np.abs(gates[:, block, kind]), line, label=f"before block {block + 1}")
    ax.set(title=title, xlabel="step")
axes[0].set_ylabel("|tanh(gate)|"); axes[0].legend()
figure(fig, alt="How far the gates are open over the steps: all start at 0; some open to more than "
                "a half, one stays nearly closed")
assert np.abs(gates[0]).max() < 0.05 and np.abs(gates[-1, :, 0]).max() > 0.3

# %% [markdown] id="gates-lesson" lang="en"
# The sign does not matter: the layer behind a gate can turn its own. What matters is how far it opens. Before the first block it stays almost shut; there a token knows only itself, not yet what is asked. Later blocks know, and look. For a third of the training nothing seems to happen, then the loss falls within twenty steps. Whoever stops at step 30 reports that Flamingo does not learn.

# %% [markdown] id="q-shots" lang="en"
# ## 8 · What do examples tell it?
#
# Now with eyes. Beside right examples, two spoiled sets: **wrong** answers of the right kind ("blue", where the thing is red), and true answers of **another** kind ("large", where the colour is asked for). The last picture and its right answer are the same in all. **Predict** the order of the three.

# %% id="shots"
new_seen = nano.features(looking, new_pictures)
marks = {how: grade_riddles(looking, each, new_seen)[0] for how, each in exam.items()}
table = {f"{count} right": share_of(marks["right"][:, count]) for count in (0, 1, 4)}
table |= {"4 wrong": share_of(marks["wrong"][:, 4]),
          "4 of another kind": share_of(marks["another"][:, 4])}
tabulate(table, "examples", right=".0%", give_or_take=".0%")
assert table["1 right"][0] > table["0 right"][0] + 0.4 and table["4 right"][0] > 0.8
assert table["4 wrong"][0] > table["0 right"][0] + 0.4
assert table["4 of another kind"][0] < table["0 right"][0]

# %% [markdown] id="shots-lesson" lang="en"
# One example is enough: from 28 to 94 %, since one answer gives the kind away; four bring 98 %, within the interval. Without any, a guess among four kinds could be right in a quarter of the cases.
#
# **Wrong answers help as much as right ones: 97 %.** Answers of another kind ruin it: 5 %, less than without any example. So it takes from examples *what kind of answer is wanted*, the form, and reads the answer itself off the last image. Is even the picture of an example needed? Exchange the pictures.

# %% id="pictures-exchanged"
here, other = exam["right"].pictures, np.roll(exam["right"].pictures, 1, axis=0)
shown = {"pictures as they are": here,
         "other pictures in the examples": np.concatenate([other[:, :4], here[:, 4:]], axis=1),
         "another picture in the question": np.concatenate([here[:, :4], other[:, 4:]], axis=1)}
swapped = {}
for name, numbers in shown.items():
    right, _ = grade_riddles(looking, exam["right"]._replace(pictures=numbers), new_seen)
    swapped[name] = share_of(right[:, 4])
tabulate(swapped, "4 examples", right=".0%", give_or_take=".0%")
assert swapped["other pictures in the examples"][0] > 0.75
assert swapped["another picture in the question"][0] < 0.5

# %% [markdown] id="exchanged-lesson" lang="en"
# Somebody asked OpenFlamingo's authors whether pictures are needed in examples at all, since captions came out as well without them (open_flamingo, issue 278). Here they are not. The question's picture is another matter: exchange it, and the model is as blind as the text model. **It looks, and it learns the form.** Min et al. (2022) found the same in language models: random labels in the examples hardly hurt.
#
# Is that all that examples *can* tell? No. A task that pairs new words with things, such as "this is a blicket", needs the pairs. Ours never does, so nothing taught the model to use them.

# %% [markdown] id="q-break" lang="en"
# ## 9 · Break it on purpose: `>=` for `==`
#
# A well-known implementation compared image numbers with `>=` where `==` belonged, until somebody read the paper (flamingo-pytorch, issue 6). Depending on which side stands left, that is one of two masks: **all images before**, or **the last and all that follow**. Nothing crashes. Put both into your trained model, without training. **Predict:** which answers suffer?

# %% id="break"
def text_above_image(starts, images, last_only):
    return starts.cumsum(1)[..., None] >= torch.arange(1, images + 1)

def image_above_text(starts, images, last_only):
    return torch.arange(1, images + 1) >= starts.cumsum(1)[..., None]

# %% id="broken"
mine = media_mask.active
masks = {"==": mine, "text >= image": text_above_image, "image >= text": image_above_text}
broken = {}
for name, mask in masks.items():
    media_mask.install(mask)
    right, _ = grade_riddles(looking, exam["right"], new_seen)
    broken[name] = right[:, 1:4].float().mean().item(), right[:, 4].float().mean().item()
media_mask.install(mine)
tabulate(broken, "mask", answers_2_to_4=".0%", the_last_answer=".0%")
assert abs(broken["image >= text"][1] - broken["=="][1]) < 0.06
assert broken["text >= image"][1] < broken["=="][1] - 0.2
assert broken["image >= text"][0] < broken["=="][0] - 0.2

# %% [markdown] id="break-lesson" lang="en"
# - **`text >= image`** sees all images before. In our run the last answer falls from 98 to 46 %: the model learned to find one image in front of it, and now it stands before five.
# - **`image >= text`** looks into the future. And the last answer, the only one that most evaluations read, is as right as before, 97 %: behind the last image there is no future. The earlier ones fall from 95 to 51 %. Trained with this mask, a model could come to lean on images that are not there yet when it writes.
#
# A score does not find that. **Perturb and look** does: change one image, and see which tokens notice.

# %% id="perturb"
ids = write_out(exam["right"]).ids[:1]
third = (ids[0] == IMAGE).nonzero()[2].item()

@torch.no_grad()
def noticed(mask):
    """How many tokens before the third image have other scores if it changes."""
    media_mask.install(mask)
    latents = looking.connect(new_seen[here[0]].float())
    before = looking(ids, features=latents)
    latents[2] += 1
    moved = (looking(ids, features=latents) - before).abs().amax(-1)[0] > 1e-4
    media_mask.install(mine)
    return int(moved[:third].sum())

early = {name: noticed(mask) for name, mask in masks.items()}
tabulate(early, "mask", tokens_that_notice_an_image_before_it_comes="")
assert early["=="] == early["text >= image"] == 0 < early["image >= text"]

# %% [markdown] id="q-llava" lang="en"
# ## 10 · LLaVA or Flamingo?
#
# Now the same text model, eye, riddles, steps and batches for a **LLaVA**: chapter 07's projector, folded to 16 tokens, as many vectors as Flamingo has latents. As in chapter 08, the projector and the language model learn. **Predict:** which one answers better, and which one can still write captions?

# %% id="llava"
from dataclasses import replace
from vlmcourse.models.llava import Llava

torch.manual_seed(0)
llava = Llava(replace(nano_vlm.config, shuffle=2))
llava.vision.load_state_dict(nano_vlm.vision.state_dict())
llava.language.load_state_dict(language.state_dict())
llava.projector.calibrate(seen[:200, 1:], nano.WORD_SIZE)     # without the class token
llava.vision.requires_grad_(False)
learn_riddles(llava, seen[:, 1:], told, steps=sizes.steps, size=sizes.batch, rate=2e-3,
              name="LLaVA")
assert torch.equal(nano.features(llava, pictures[:9]), seen[:9, 1:])   # the same eye

# %% [markdown] id="bill-intro" lang="en"
# The bill needs instruments (`diagnostics/cost.py`). **FLOPs**, additions and multiplications, are counted by watching the operations of torch, fused attention among them. **Memory** is everything that the backward pass must keep. **Text ability** is the perplexity of captions without images.

# %% id="instruments"
from vlmcourse.diagnostics import cost

def asking(images, words=1):
    """A question of so many words behind so many images."""
    return [("user", "<image>" * images + " red" * words)]

def reading(model, images, words=1):
    """A call that reads such a question; the eye apart."""
    ids = chat.encode([asking(images, words)], model.tokens_per_image).ids
    features = model.image_features(render.to_tensor(new_pictures[:images]))
    return lambda: model.hidden(ids, features=model.connect(features))

def learning(model, seen):
    """A call that computes the loss of twelve riddles."""
    some = told._replace(pictures=told.pictures[:12], answers=told.answers[:12])
    return lambda: riddle_loss(model, seen, some, write_out(some, model.tokens_per_image))

# %% id="answer-time"
from vlmcourse.data.text import END
from vlmcourse.models.generation import generate
from vlmcourse.world.riddles import WORD

def answering(model):
    """A call that sees five pictures, reads four examples and writes an answer."""
    shown = [(WORD, said) for said in exam["right"].answers[0][:4]]
    asked = chat.encode([few_shot(shown, WORD)], model.tokens_per_image, prompt=True)
    images = render.to_tensor(new_pictures[here[0]])
    return lambda: generate(model, asked.ids, mask=asked.mask, images=images, steps=4, eos=END)

# %% id="bill"
check = captions.captions(scenes.sample("validation", 150), "full")

def thousands(*parts):
    return sum(p.numel() for part in parts for p in part.parameters()) / 1e3

def bill(model, seen, new_seen, *learned):
    """Every line of the comparison."""
    right = [share_of(marks) for marks in grade_riddles(model, exam["right"], new_seen)[0].T]
    lines = {f"right with {n} examples (%)": 100 * right[n][0] for n in (0, 1, 4)}
    lines["give or take, with 4 examples"] = 100 * right[4][1]
    lines["parameters that learn (thousands)"] = thousands(*learned)
    lines["parameters in all (thousands)"] = thousands(model)
    lines["tokens of five images and words"] = write_out(told, model.tokens_per_image).ids.shape[1]
    one, *further = (cost.flops(reading(model, *sizes)) / 1e6 for sizes in ((1, 1), (5, 1), (1, 5)))
    lines["MFLOPs for a further image"] = (further[0] - one) / 4
    lines["MFLOPs for a further word"] = (further[1] - one) / 4
    lines["MB kept for a training step"] = cost.kept_bytes(learning(model, seen)) / 1e6
    lines["ms for an answer (CPU)"] = 1e3 * cost.cpu_seconds(answering(model))
    lines["perplexity of captions, no image"] = nano.caption_perplexity(model, check)
    return lines

# %% id="bills"
bills = {"Flamingo": bill(looking, seen, new_seen, looking.resampler, looking.gated),
         "LLaVA": bill(llava, seen[:, 1:], new_seen[:, 1:], llava.projector, llava.language)}
table = {line: [each[line] for each in bills.values()] for line in bills["LLaVA"]}
tabulate(table, "", Flamingo=",.1f", LLaVA=",.1f")
before = nano.caption_perplexity(new_flamingo(language), check)
kept = table["perplexity of captions, no image"]
assert kept[0] == before < 2 * before < kept[1]
assert table["MFLOPs for a further image"][0] < 0.7 * table["MFLOPs for a further image"][1]
assert table["MFLOPs for a further word"][0] > 1.3 * table["MFLOPs for a further word"][1]
assert min(table["right with 4 examples (%)"]) > 60 > 45 > max(table["right with 0 examples (%)"])

# %% [markdown] id="bill-lesson" lang="en"
# Equal budget here means the same text model, pictures, riddles and steps, one run each. Read the table with that in mind:
#
# - **Answers.** With four examples Flamingo is ahead. But one example lifts *both* by more than 60 points: few-shot learning comes from the language model and the data, not from cross-attention.
# - **Text ability.** Flamingo's perplexity of captions is what it was, to the last bit; LLaVA's is ruined. Chapter 08 has cures, a slow language model and captions among the lessons; here LLaVA got neither.
# - **Parameters.** About as many learn. But Flamingo's come on top: the price of leaving everything else alone.
# - **A further image** costs Flamingo half of LLaVA's work and one token of context in place of 16. **A further word** costs it twice as much: it passes the gated blocks as well. An example of one image and ten words costs the same in both.
# - **Memory and time** are alike.

# %% id="bill-figure"
counts, models = [1, 2, 3, 5, 8, 12, 20], {"LLaVA": llava, "Flamingo": looking}
work = {name: [cost.flops(reading(model, n)) / 1e6 for n in counts]
        for name, model in models.items()}
room = {name: [chat.encode([asking(n)], model.tokens_per_image).ids.shape[1] for n in counts]
        for name, model in models.items()}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for ax, lines, label in zip(axes, (work, room), ("MFLOPs to read", "tokens of context")):
    ax.plot(counts, lines["LLaVA"], "o-", color=roles.first, label="LLaVA, 16 tokens an image")
    ax.plot(counts, lines["Flamingo"], "s--", color=roles.second, label="Flamingo, 16 latents")
    ax.set(xlabel="images", ylabel=label, ylim=(0, None))
axes[0].legend()
figure(fig, alt="What reading costs over the number of images: Flamingo's lines rise more slowly "
                "than LLaVA's, in operations and in tokens of context")
assert work["Flamingo"][-1] < 0.8 * work["LLaVA"][-1]
assert room["Flamingo"][-1] < 0.6 * room["LLaVA"][-1]

# %% [markdown] id="choose" lang="en"
# ### When to choose which
#
# | you want | take | since |
# |---|---|---|
# | many images, long interleaved pages, video | Flamingo | an image costs one token of context, and blocks read 16 or 64 latents of it |
# | the language model exactly as it was, for texts without images | Flamingo | it is frozen; without images the gated blocks are not run |
# | to train on few machines, from existing parts | LLaVA | one small layer to begin with, the language model's own code, LoRA fits |
# | small print, charts, places | LLaVA | every patch can be a token; a resampler keeps what its latents asked for |
# | the language model to *adapt*, to new words and forms | LLaVA | it learns; Flamingo can only put something beside it |
# | least work per answer | it depends | many images and few words: Flamingo; long texts about one image: LLaVA |
#
# Most open models since 2023 follow LLaVA; Llama 3.2 Vision is a published exception, with cross-attention layers in a language model that stayed frozen. Idefics went from Flamingo's design to LLaVA's: its authors compared both. With frozen parts cross-attention won, with parts that learn image tokens did (Laurençon et al. 2024, arXiv:2405.02246, section 3).

# %% [markdown] id="side-intro" lang="en"
# ### Side by side
#
# The course ships a Flamingo too, `nano-flamingo`: 64 latents, all eight kinds of questions, 1,800 steps. Frozen in it is the language model of `nano-vlm`, which once read images as tokens. Its card also keeps a trial with one that never saw an image. **Predict:** does that matter, if the gated blocks do the looking?

# %% id="side-by-side"
from vlmcourse.diagnostics.alternatives import answers_for
from vlmcourse.families.making import load_speaker
from vlmcourse.widgets.playground import ScenePlayground

speakers, cards = zip(*(load_speaker(name) for name in ("nano-vlm", "nano-flamingo")))
deaf = cards[1]["tried"][0]                                    # its language model saw no image
asked = dict(all="answers", relation="answers: relation", twins="twins, both right")
silent = dict(all=deaf["right"], relation=deaf["relation"], twins=deaf["twins"])
tabulate({name: (*(card["metrics"][what] for card in cards), silent[name])
          for name, what in asked.items()}, "right, on their cards",
         nano_vlm=".0%", nano_flamingo=".0%", its_words_never_saw_an_image=".0%")
assert cards[1]["metrics"]["answers"] > 0.92 and cards[1]["metrics"]["answers: relation"] > 0.8
assert deaf["right"] < 0.9 and deaf["relation"] < 0.6
first, second = map(answers_for, speakers)
ScenePlayground(*first, scenes.sample("test", 6, start=100), name="nano-vlm",
                others={"nano-flamingo": second})

# %% [markdown] id="side-lesson" lang="en"
# Move an object, ask something else, and **click a model's name** to look at it closely.
#
# It matters. Behind words that never saw an image, relations are still at chance after 2,000 steps; behind the others, `nano-flamingo` passed 90 % of all answers after 300 (its card, `curve`). A likely reason: gated blocks bring to *circle* where the circle is, but from there to the question mark it must go through the frozen attention between them. That carries what its training had a use for, and texts alone had none for places. **Frozen does not mean indifferent**: a connector can only use what the language model already does. Flamingo's Chinchilla, with 70 billion parameters, does a lot.

# %% [markdown] id="real-intro" lang="en"
# ## 11 · Is this the real thing?
#
# `IdeficsForVisionText2Text` is Hugging Face's open Flamingo. We build a small one with random weights, **open its gates** (closed, every image would pass the test), copy all weights into yours, and compare scores: two texts, with two images and one.

# %% id="real-build"
import transformers
from vlmcourse.interop import flamingo as carry

eyes = dict(embed_dim=20, image_size=12, patch_size=4, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=4, hidden_act="gelu")
asks = dict(use_resampler=True, resampler_n_latents=5, resampler_depth=2, resampler_n_heads=3,
            resampler_head_dim=8)
small = transformers.IdeficsConfig(
    vocab_size=97, hidden_size=48, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4,
    cross_layer_interval=2, use_resampler=True, vision_config=eyes, perceiver_config=asks,
    tie_word_embeddings=False, rope_parameters={"rope_theta": 500.0, "rope_type": "default"},
    pad_token_id=None, bos_token_id=None, eos_token_id=None)
torch.manual_seed(3)
theirs = transformers.IdeficsForVisionText2Text(small).eval()
for name, parameter in theirs.named_parameters():
    if parameter.dim() > 1: torch.nn.init.normal_(parameter, std=0.3)
    if "alpha" in name: parameter.data.fill_(0.7)
yours = carry.from_transformers(theirs, image_token=96)

# %% id="real-equal"
ids = torch.randint(3, 96, (2, 14))
ids[0, [3, 8]], ids[1, 5] = 96, 96
three = torch.randn(3, 3, 12, 12)
padded = torch.stack([three[:2], torch.stack([three[2], torch.zeros(3, 12, 12)])])
may_look = media_mask(ids == 96, 2, True).long()
with torch.no_grad():
    difference = (yours(ids, three) - theirs(input_ids=ids, pixel_values=padded,
                  image_attention_mask=may_look).logits).abs().max().item()
    image_counts = (yours(ids, three.flip(0)) - yours(ids, three)).abs().max().item()
print(f"largest difference of scores {difference:.0e}; images in another order: {image_counts:.2f}")
assert difference < 1e-3 < 0.1 < image_counts

# %% [markdown] id="real-differs" lang="en"
# | | yours | Flamingo-80B | Idefics-80B |
# |---|---|---|---|
# | eye | ViT, frozen | NFNet-F6, frozen | CLIP-like ViT-H/14 |
# | vectors per image | 16 | 64 | 64 |
# | language model | 0.9 M | Chinchilla 70B, frozen | LLaMA 65B |
# | gated blocks | before each block | before every 7th | before every 4th |
# | mask | last image | last image | last image (its processor) |
#
# Not in yours: time embeddings for video frames (Flamingo, section 2.1), and norms of queries and keys, which some Idefics have; the conversion refuses those by name.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Flamingo looks between the blocks of a frozen language model: mid fusion. An image costs one token of context.
# 2. Gates at 0 leave the language model bit for bit as it was. They open first; until then nothing behind them learns.
# 3. A word sees the last image before it; words before the first image see none. Perturb and look: a wrong mask can leave the score as it is.
# 4. Examples told your model what kind of answer is wanted. Wrong ones helped as much, those of another kind misled it.
# 5. LLaVA is simple and lets the language model adapt, and forget; Flamingo keeps it, and images stay cheap.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("09_flamingo/1")

# %% id="quiz-2"
quiz("09_flamingo/2")

# %% id="quiz-3"
quiz("09_flamingo/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Alayrac et al. 2022, *Flamingo: a Visual Language Model for Few-Shot Learning*, [arXiv:2204.14198](https://arxiv.org/abs/2204.14198): section 2 and figures 3 to 5.
# - Awadalla et al. 2023, *OpenFlamingo*, [arXiv:2308.01390](https://arxiv.org/abs/2308.01390).
# - Laurençon et al. 2023, *OBELICS*, [arXiv:2306.16527](https://arxiv.org/abs/2306.16527): the data and training of Idefics.
# - Laurençon et al. 2024, *What matters when building vision-language models?*, [arXiv:2405.02246](https://arxiv.org/abs/2405.02246): section 3.
# - Min et al. 2022, *Rethinking the Role of Demonstrations*, [arXiv:2202.12837](https://arxiv.org/abs/2202.12837).
# - Jaegle et al. 2021, *Perceiver*, [arXiv:2103.03206](https://arxiv.org/abs/2103.03206).
#
# **Next:** [10 · BLIP: one text model, three jobs](10_blip.ipynb)
