# %% [markdown] id="title" lang="en"
# # 08 · Instruction tuning: a model that answers
#
# **115 minutes.** Everything runs on two CPU cores; a GPU makes the training cells faster.
#
# After chapter 07 your language model can describe what it sees. It cannot do what it is told. In this chapter you teach it: one question, one answer, in the form that was asked for. Then you measure whether it looks, whether it still speaks, and what it invents.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# The eye is trained and the projector is aligned. This is the last stage, stage 2 of LLaVA. Connector and language model learn together; the eye stays frozen.
#
# ## After this you can
#
# - **write** a chat template, a label mask, a padded batch and a two-rate optimizer,
# - **answer** questions about pictures, token by token, with a cache,
# - **train** an assistant from an aligned model, and prove that it looks,
# - **measure** what stages, masks and data do to it: accuracy, format, language,
# - **provoke** two famous diseases, endless answers and eternal yes, and cure one.

# %% id="setup"
import copy, numpy as np, torch
from vlmcourse.workbook import *
from vlmcourse.data import chat
from vlmcourse.world import captions, instructions, questions, render, scenes
from vlmcourse.families import nano; from vlmcourse.models import generation
begin("08_instruction_tuning", lang="en")

# %% id="map"
course_map("language")

# %% [markdown] id="q-obey" lang="en"
# ## 1 · Does a model that describes also obey?
#
# **Question.** Here is the aligned model: trained eye, trained language model, and a projector that learned to connect them on captions. Ask it for a colour. **Predict:** what will it say?
#
# (Remove the `#` below to go on from *your* projector of chapter 07; our numbers are the course's.)

# %% id="obey"
from vlmcourse.speak import Speaker

aligned, _ = nano.load_vlm("nano-aligned")
# reuse_weights(aligned.projector, "projector", "07")
speaker = Speaker(aligned)  # the model and its words: what can be asked
held_out = scenes.sample("validation", 300)
pictures = render.render(held_out)
asked = questions.ask(held_out)
said = speaker.answer(pictures[:60], [q.text for q in asked[:60]])
obeyed = np.mean([a == q.answer for a, q in zip(said, asked)])
tabulate({q.text: a for q, a in zip(asked[:5], said)}, "asked", said="")
print(f"right: {obeyed:.0%}")
assert obeyed < 0.1

# %% [markdown] id="obey-lesson" lang="en"
# Nobody ever asked it anything else than to describe. Data of a special form bring what is missing:

# %% id="record"
record = {"image": pictures[0], "instruction": asked[0].text, "output": asked[0].answer}
import matplotlib.pyplot as plt

about = instructions.talks(held_out[:1], sentences=0.5)[0]
fig, ax = plt.subplots(figsize=(1.8, 1.8), layout="constrained")
ax.imshow(pictures[0]); ax.axis("off")
figure(fig, alt="The scene that nine instructions are about")
tabulate(dict(about), "instruction", output="")
assert set(record) == {"image", "instruction", "output"} and len(about) == 9

# %% [markdown] id="record-lesson" lang="en"
# **{image, instruction, output}**: that is all. LLaVA's 158,000 records were written by a GPT-4 that saw no picture. From captions and boxes it invented conversations, descriptions and reasoning (Liu et al. 2023, section 3). Ours come from the scene itself.
#
# Two properties matter more than the number of records:
#
# - **Visual grounding.** The answer must follow from the picture. A record whose answer can be guessed teaches guessing.
# - **The format is part of the instruction.** LLaVA-1.5 added phrases for it because its first version could not give short answers (Liu et al. 2023, arXiv:2310.03744, section 3.2).
#
# Lit in the drawing is what you write, row by row.

# %% id="drawing"
drawing("instruction")

# %% [markdown] id="q-template" lang="en"
# ## 2 · What does the model really read?
#
# One row of tokens. Roles are tokens of their own, and so is the end of an answer:
#
# `<user><image>what colour is the circle?<assistant>red<end>`
#
# ### Your turn: `render_chat` · difficulty 1/5 · 5 min
#
# | | |
# |---|---|
# | `turns` | list of `(role, text)`; roles are `system`, `user`, `assistant` |
# | `prompt` | whether the model shall answer now |
# | out | each turn: its role in angle brackets, then its text; behind every *answer* also `<end>` |
#
# With `prompt=True` the text ends in one more `<assistant>`, and nothing behind it.

# %% id="render_chat"
@exercise(chat.render_chat)
def render_chat(turns, prompt=False):
    """[("user", "hi"), ("assistant", "hello")] -> "<user>hi<assistant>hello<end>" """
    raise NotImplementedError

# %% id="template-proved"
from vlmcourse.data.text import load_tokenizer, IMAGE, END, ASSISTANT

tokenizer = load_tokenizer()
exchange = instructions.turns("What colour is the circle?", "red")
chats = chat.encode([exchange], aligned.tokens_per_image)
names = tokenizer.tokens(chats.ids[0])
print(render_chat(exchange), f"{len(names)} tokens, {names.count('<image>')} of them for the image",
      sep="\n")
assert names[0] == "<user>" and names[-1] == "<end>"
assert names.count("<image>") == aligned.tokens_per_image

# %% [markdown] id="q-mask" lang="en"
# ## 3 · Which of these tokens shall it learn?
#
# The loss of chapter 05 asked for every next token. That would predict questions, too. But the user writes those; the model only has to write **answers, and their end**. All other tokens get the label −100.
#
# By hand, for `<user> how many ? <assistant> 2 <end>`: learned are `2` and `<end>`, two of seven. `<assistant>` is given. `<end>` is not: somebody has to stop.
#
# ### Your turn: `label_mask` · difficulty 3/5 · 12 min
#
# In: ids `(batch, token)`, and the ids that open and close an answer. Out: `(batch, token)`, True from behind each `start` up to and with its `end`. A row may hold several answers; one never closed goes on to the end.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="label_mask"
@exercise(chat.label_mask)
def label_mask(ids, start=ASSISTANT, end=END):
    """bool, True at the tokens of answers and at their ends; an end outside closes nothing"""
    # 1. the place of the latest start so far, and of the latest end: torch.where, cummax
    # 2. inside = the start is later than the end, *before* this token
    raise NotImplementedError

# %% [markdown] id="inspect-intro" lang="en"
# Look through the mask: filled tokens are learned, hatched ones only read. The second set of labels is one place too early. **Find** what it costs: which token is learned in vain, and which one is missing?

# %% id="inspect"
from vlmcourse.widgets.labels import LabelInspector, read_chats

longer = [*exchange, ("user", "How many stars are there?"), ("assistant", "2")]
shown = read_chats(chat.encode([longer], aligned.tokens_per_image))
early = torch.where(shown["labels"].roll(-1) >= 0, shown["ids"], -100)
inspector = LabelInspector(**shown | {"labels": {"right": shown["labels"], "one too early": early}},
                           context=128)
inspector

# %% id="inspect-count"
totals = inspector.totals()
tabulate(totals, tokens="")
print(*inspector.problems(labels=1), sep="\n")
assert totals["learned"] == 4 and totals["image"] == aligned.tokens_per_image
assert not inspector.problems() and inspector.problems(labels=1)

# %% [markdown] id="budget-lesson" lang="en"
# The bar below the tokens is the **budget**. Image tokens take most of it: LLaVA-1.5 spends 576 on a picture, so a context of 2,048 holds three pictures and a short talk. Whoever cuts a text that is too long may cut through a picture, and the features no longer fit their places. So our `encode` never cuts. It refuses:

# %% id="too-long"
def complaint(*chats, **how):
    """The error that encoding gives."""
    try:
        chat.encode(chats, **how)
    except ValueError as error:
        return str(error)

print(complaint(exchange, image_tokens=576, length=512))
assert "576 of them for images" in complaint(exchange, image_tokens=576, length=512)

# %% [markdown] id="ex-collate" lang="en"
# ## 4 · How do texts of different length stand in one tensor?
#
# Short rows are filled up. On which side? Training does not care, if padding is never learned. Writing does: the next token follows the *last* place, so the padding must stand in front.
#
# ### Your turn: `collate` · difficulty 2/5 · 8 min
#
# In: a list of token lists, the id of padding, and whether to fill on the left. Out: `(ids, mask)`, both `(batch, token)`; mask is True at real tokens. A real token may have the same id as padding, so do not ask the ids.

# %% id="collate"
@exercise(chat.collate)
def collate(rows, pad=0, left=False):
    """[[5, 6, 7], [8]] -> [[5, 6, 7], [8, pad, pad]], with left=True [pad, pad, 8]; and the mask

    Two tensors on the CPU: ids torch.long, mask torch.bool.
    """
    raise NotImplementedError

# %% [markdown] id="packs-intro" lang="en"
# An image is read anew for each question. Chapter 05 taught you to keep what was read. In training, a mask does it: all questions about one image stand in **one row**, and each sees the image and itself. **Predict:** is the loss the same?

# %% id="packs"
rows = instructions.talks(held_out[:20])
packed = speaker.encode(rows)
single = speaker.encode([[one] for row in rows for one in row])
few = nano.features(aligned, pictures[:20]).float()
with torch.no_grad():
    together = nano.instruction_loss(aligned, few, packed)
    apart = nano.instruction_loss(aligned, few.repeat_interleave(9, 0), single)
spent = [int((each.packs >= 0).sum()) for each in (packed, single)]
print(f"loss {together:.4f} in packs of nine, {apart:.4f} one by one; {spent[0]:,} tokens instead "
      f"of {spent[1]:,}")
assert abs(together - apart) < 1e-3 and spent[0] < 0.6 * spent[1]

# %% [markdown] id="q-write" lang="en"
# ## 5 · How does it answer?
#
# As in chapter 05, but the prompt is a row of **vectors**, words and image tokens. And answers end at different times.
#
# Read the prompt once, into the cache. After that, every step reads one new token.
#
# ### Your turn: `write_greedily` · difficulty 4/5 · 15 min
#
# | | |
# |---|---|
# | `model` | has `embed(ids)`, `hidden(embeddings=…, mask=…, caches=…)`, `head`, `blocks` |
# | `prompt` | `(batch, token, width)`, padded on the left |
# | `mask` | `(batch, token)`, True at real tokens; it grows by one True per step |
# | `steps`, `end`, `pad` | at most so many tokens; behind its `end` a row gets `pad`; stop when all rows have ended |
# | out | ids `(batch, written)` |

# %% id="write_greedily"
from vlmcourse.models.attention import Cache
from torch.nn import functional as F

@exercise(generation.write_greedily)
def write_greedily(model, prompt, mask, steps, end, pad=0):
    """Vectors in, the likeliest tokens out.

    Call model.hidden once a step: with the prompt, then with one token each. `pad` may be `end`.
    """
    caches = [Cache() for _ in model.blocks]
    # repeat: 1. hidden of what is unread, last place   2. head, argmax
    # 3. rows that ended before: pad
    # 4. keep the token; who has ended now? all: stop
    # 5. unread = the token's embedding; the mask grows
    raise NotImplementedError

# %% id="write-proved"
one = chat.encode([instructions.turns("Describe the image.")], aligned.tokens_per_image,
                  prompt=True)
vectors = aligned.embed(one.ids, render.to_tensor(pictures[:1]))
with torch.no_grad():
    written = write_greedily(aligned.language, vectors, one.mask, steps=60, end=END)
print(tokenizer.decode(written)[0])
print(captions.captions(held_out[:1], "full")[0], "(the truth)")
assert written[0, -1] == END

# %% [markdown] id="q-rates" lang="en"
# ## 6 · Who learns, and how fast?
#
# Chapter 07 has the table of LLaVA's two stages. In the second, **instruction tuning**, the language model learns too. What it knows was dear to learn and is quick to lose, so the rate falls from 2·10⁻³ to a hundredth, 2·10⁻⁵ (Liu et al. 2023, sections 4.2 and 5). LLaVA's code also allows a **rate of its own for the projector**. An optimizer takes such wishes as *groups*.
#
# Which rates are right depends on what a part has to lose. *Here*, for 120 steps, both get the same large rate. In *section 9* the language model gets a tenth, to keep its language; in *section 11* the projector a hundredth, to keep its places.
#
# ### Your turn: `rate_groups` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `named` | pairs `(name, parameter)`, as `model.named_parameters()` gives them |
# | `rates` | `{"projector": 1e-3, "language": 1e-4}`: the first word of a name, up to its first dot, is its part |
# | `weight_decay` | for parameters with two axes or more; all others get 0.0 |
# | out | list of `{"params": [...], "lr": ..., "weight_decay": ...}`; per part first its matrices, then its vectors |
#
# Leave out what is frozen (`requires_grad` is False), and groups without parameters.

# %% id="rate_groups"
from vlmcourse.training import optimizers

@exercise(optimizers.rate_groups)
def rate_groups(named, rates, weight_decay):
    """Groups for AdamW in the order of `rates`: a rate per part, weight decay on matrices only."""
    raise NotImplementedError

# %% id="rates-proved"
RATES = {"projector": 3e-3, "language": 3e-3}

def groups_of(model, rates):
    model.vision.requires_grad_(False)
    return rate_groups(list(model.named_parameters()), rates, weight_decay=0.01)

groups = groups_of(aligned, RATES)
sizes = [sum(p.numel() for p in group["params"]) for group in groups]
rows = [(group["lr"], group["weight_decay"], size) for group, size in zip(groups, sizes)]
tabulate(dict(enumerate(rows)), "group", rate="", weight_decay="", parameters=",")
learning = sum(parameter.requires_grad for parameter in aligned.parameters())
assert len(groups) == 4 and sum(len(group["params"]) for group in groups) == learning

# %% [markdown] id="train-intro" lang="en"
# ## 7 · Train it
#
# Your template, your mask, your batches, your groups. `nano.tune` is the loop of chapter 02 around them. In its loss a token of an answer of n tokens counts 1/√n, or captions would drown the short answers (`losses.balanced_loss`). The eye was asked once. **Predict:** how many of eight kinds of questions will it answer after a minute, and which kind comes last?

# %% id="data"
sizes = budget(cpu=dict(steps=120, batch=8, images=960), gpu=dict(steps=120, batch=8, images=960))
seen_scenes = scenes.sample("train", sizes.images)
taught = instructions.talks(seen_scenes)
lessons = speaker.encode(taught)
seen = nano.features(aligned, render.render(seen_scenes))
share = (lessons.labels >= 0).sum() / (lessons.packs >= 0).sum()
print(f"{len(taught):,} pictures with {sum(map(len, taught)):,} instructions; {share:.0%} of the "
      f"tokens are learned")
assert 0.15 < share < 0.4

# %% id="tuned"
from vlmcourse.training.optimizers import warmup_linear
from vlmcourse.widgets.plot import LivePlot

def tuned(start, lessons, seen, steps=sizes.steps, rates=RATES, **how):
    """A copy of a model, tuned for some steps in groups of their own rates."""
    model = copy.deepcopy(start)
    optimizer = torch.optim.AdamW(groups_of(model, rates), betas=(0.9, 0.95))
    how = dict(size=sizes.batch, optimizer=optimizer,
               schedule=warmup_linear(steps, warmup=10)) | how
    return model, nano.tune(model, seen, lessons, steps=steps, **how)

with LivePlot("An aligned model learns to answer") as plot:
    assistant, history = tuned(aligned, lessons, seen, watch=plot, name="assistant")

# %% [markdown] id="blind-intro" lang="en"
# How much of that is seeing? Its **blind twin** has the same start and the same texts, but no eye: all features are zero. It takes the same steps, of as many pictures. And there is the **prior**, the most frequent answer to each kind of question.

# %% id="blind"
blind, _ = tuned(aligned, lessons, torch.zeros_like(seen), name="blind twin")
new = scenes.sample("validation", 200)
asked_new = speaker.encode(instructions.talks(new, sentences=0, captioned=False))
shown_new = nano.features(aligned, render.render(new)).float()
with torch.no_grad():
    seeing = nano.instruction_loss(assistant, shown_new, asked_new).item()
    guessing = nano.instruction_loss(blind, torch.zeros_like(shown_new), asked_new).item()
print(f"loss on new scenes: {seeing:.2f} seeing, {guessing:.2f} blind")
assert seeing < 0.85 * guessing

# %% [markdown] id="exam-intro" lang="en"
# An exam on pictures never seen. Greedy writing takes the likeliest token at every place, so one pass over question *and* answer tells whether the model would write it, word for word: `Speaker.grade` does that, for packs like yours.

# %% id="exam"
eye = nano.features(aligned, pictures)

def sheet(rows):
    """Features, packed questions and kinds of rows (scene number, question, answer, kind)."""
    about = {}
    for n, text, answer, kind in rows:
        about.setdefault(n, []).append((text, answer, kind))
    talk = [[row[:2] for row in of_one] for of_one in about.values()]
    kinds = [row[2] for of_one in about.values() for row in of_one]
    return eye[list(about)], speaker.encode(talk), np.array(kinds)

asked_of = {kind: [(n, q.text, q.answer)
                   for n, q in enumerate(questions.ask(held_out, kind)) if q][:100]
            for kind in questions.KINDS}

def grades(model, look=lambda seen: seen, kinds=questions.KINDS):
    """Share of right answers for each kind of question, and their mean."""
    of_eye, talk, kind_of = sheet([(*row, kind) for kind in kinds for row in asked_of[kind]])
    right = Speaker(model).grade(look(of_eye), talk).numpy()
    shares = {kind: right[kind_of == kind].mean() for kind in kinds}
    return shares | {"all": np.mean(list(shares.values()))}

# %% id="exam-figure"
from collections import Counter

habit = {kind: max(Counter(answer for *_, answer in rows).values()) / len(rows)
         for kind, rows in asked_of.items()}
habit["all"] = np.mean(list(habit.values()))
marks = {"answer prior": habit, "blind twin": grades(blind, torch.zeros_like),
         "your assistant": grades(assistant)}
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
for place, (name, row) in enumerate(marks.items()):
    ax.bar(np.arange(9) + 0.27 * place - 0.27, row.values(), 0.27, label=name,
           hatch=["//", "..", ""][place],
           color=[roles.masked, roles.control, roles.learned][place])
ax.set(xticks=range(9), xticklabels=habit, ylabel="right answers", ylim=(0, 1)); ax.legend(ncols=3)
figure(fig, alt="Right answers by kind: the assistant is far above blind twin and prior for "
                "colour, shape and size")
columns = dict.fromkeys(habit, ".0%")  # one for each kind, and for all
tabulate({name: list(row.values()) for name, row in marks.items()}, "right", **columns)
assert marks["your assistant"]["all"] > max(marks["blind twin"]["all"], habit["all"]) + 0.08
assert abs(marks["blind twin"]["all"] - habit["all"]) < 0.06

# %% [markdown] id="exam-lesson" lang="en"
# After 120 steps it answers 56 % of the questions; the habit alone gives 40 %. The blind twin learns the habit, and not more. Size, colour and shape gain most. Existence and relations are where the habit is: at a coin flip. To answer them it must first find the thing that is asked about.
#
# Is that seeing? Give each question another picture.

# %% id="swap"
swapped = grades(assistant, lambda seen: seen.roll(1, 0))
print(f"right with the picture: {marks['your assistant']['all']:.0%}, with another one: "
      f"{swapped['all']:.0%}")
assert swapped["all"] < marks["your assistant"]["all"] - 0.08

# %% [markdown] id="formats-intro" lang="en"
# ## 8 · Does it do what it is told?
#
# A right answer in the wrong form is a nuisance: "the circle is red." where a program waits for "red". So grade the form apart from the truth. **Predict:** which form fails most?

# %% id="formats"
import re

FORMS = {"yes/no": r"yes|no", "count": r"\d", "word": r"[a-z]+( (left|right))?",
         "sentence": r"(yes, |no, )?the[a-z]* .*\.", "caption": r"an? \w+ \w+( .* an? \w+ \w+)?"}
KINDS = dict(existence="yes/no", count="count", colour="word")

def form_of(text):
    return next((name for name, pattern in FORMS.items() if re.fullmatch(pattern, text)), "other")

wishes = [(n, text, KINDS[kind]) for kind in KINDS for n, text, _ in asked_of[kind][:20]]
wishes += [(n, text + instructions.SENTENCE, "sentence") for kind in KINDS
           for n, text, _ in asked_of[kind][:10]]
wishes += [(n, instructions.SHORT, "caption") for n in range(20)]

def obedience(model):
    """Share of answers in the form that was asked for, by form."""
    said = Speaker(model).answer(pictures[[n for n, _, _ in wishes]],
                                 [text for _, text, _ in wishes])
    kept = {form: [] for form in FORMS}
    for answer, (_, _, form) in zip(said, wishes):
        kept[form].append(form_of(answer) == form)
    return [np.mean(row) for row in kept.values()] + [np.mean(sum(kept.values(), []))]

before, after = obedience(aligned), obedience(assistant)
tabulate({"aligned": before, "your assistant": after}, "in the form",
         **dict.fromkeys((*FORMS, "all"), ".0%"))
assert before[-1] < 0.1 and after[-1] > 0.9

# %% [markdown] id="formats-lesson" lang="en"
# From none to all of them. The **form** is perfect while four of ten answers are wrong. A fluent answer does not prove that the model looked.

# %% [markdown] id="stages-intro" lang="en"
# ## 9 · Why not everything at once?
#
# The objections: a new projector sends noise, and a language model that learns to live with noise forgets what it knew.
#
# So measure answers *and* **language**: take the pictures away and ask for captions. The perplexity says how well the model still knows what a caption looks like.

# %% id="perplexity"
told = captions.captions(held_out[:200], "full")

words, _ = nano.load_vlm("nano-words")
perplexity = {name: nano.caption_perplexity(model, told) for name, model in
              (("before", words), ("aligned", aligned), ("your assistant", assistant))}
tabulate(perplexity, perplexity=".2f")
assert perplexity["aligned"] == perplexity["before"] < perplexity["your assistant"]

# %% [markdown] id="stages-compare" lang="en"
# Alignment cost nothing: the language model was frozen. Instruction tuning cost a little, although captions were among its lessons.
#
# Now three ways from a *new* projector to answers. The lessons are questions, no captions. **Joint**: everything learns from the first step. **Staged**: first alignment on captions, then the questions. **Staged, slow language**: the same, but your groups give the language model a tenth of the rate.
#
# These steps are too few for answers, so look at **language only**. **Predict** the order of the three perplexities.

# %% id="stages"
from vlmcourse.training import stages

FOUR = tuple(questions.KINDS)[:4]  # colour, shape, size, position
# less, for the experiments
brief, some = speaker.encode([row[:4] for row in taught[:320]]), seen[:320]
start = copy.deepcopy(words)
stages.align(start, some, captions.captions(seen_scenes[:320], "full"), steps=40, size=4)
slow = {"projector": 3e-3, "language": 3e-4}
arms = {"joint": (words, 60, RATES), "staged": (start, 40, RATES),
        "staged, slow language": (start, 40, slow)}
runs = {name: tuned(model, brief, some, steps, rates, size=4, name=name)
        for name, (model, steps, rates) in arms.items()}

# %% id="stages-result"
kept = {name: nano.caption_perplexity(model, told) for name, (model, _) in runs.items()}
tabulate(kept, perplexity=".1f")
assert kept["joint"] > 1.3 * kept["staged"] > 1.3 * kept["staged, slow language"]

# %% [markdown] id="stages-long-intro" lang="en"
# And answers? `python tools/nano_stages.py` takes longer than a lesson has: 400 steps for each arm, in staged ones 100 of them alignment; all eight kinds of questions. A fourth arm is staged and fast, with **captions among the lessons**. Its card is shipped. **Predict:** which arm answers best, and which one still speaks?

# %% id="stages-card"
import json
from vlmcourse.data.assets import shipped

long_run = json.loads(shipped("nano-stages.json").read_text())
fig, axes = plt.subplots(1, 2, figsize=(7, 2.7), layout="constrained")
for (name, points), line in zip(long_run["arms"].items(), ("-", "--", ":", "-.")):
    spent, share, surprise = np.array(points).T
    axes[0].plot(spent, share, line, label=name); axes[1].plot(spent, surprise, line)
axes[0].axhline(long_run["answer prior"], color=roles.ink, lw=0.8, label="answer prior")
axes[0].set(ylabel="right answers", ylim=(0, 1))
axes[1].set(yscale="log", ylabel="perplexity of captions")
for ax in axes: ax.set_xlabel("CPU seconds")
fig.legend(loc="outside upper center", ncols=2)
figure(fig, alt="Right answers and perplexity of captions over CPU seconds for four arms; a thin "
                "line is the answer prior")
ends = {name: points[-1] for name, points in long_run["arms"].items()}
tabulate(ends, CPU_seconds=".0f", right=".0%", perplexity=",.1f")

lost, safe = ends["joint"], ends["staged, slow language"]
assert min(right for _, right, _ in ends.values()) > long_run["answer prior"] + 0.15
assert lost[2] > 1000 * safe[2] and abs(lost[1] - safe[1]) < 0.03

# %% [markdown] id="stages-lesson" lang="en"
# Reported as it is, one run each:
#
# - **Stages do not answer better**: 59 and 60 %, far above the prior of 37 %.
# - **Nor do they keep language.** Both forget captions; their perplexity is worse than guessing.
# - **A slow language model does.** It answers the same 58 %, a little later, and captions stay at 4.1; the start was 2.0.
# - **So do data.** With captions among its lessons, the fast model ends at 60 % and 3.8.
#
# What the language model *keeps* is decided by its rate and by data: what a stage leaves out is forgotten. LLaVA-1.5 therefore mixes 40,000 conversations *without* pictures into its instructions (arXiv:2310.03744, its list of training data).

# %% [markdown] id="masks-intro" lang="en"
# ## 10 · Break it on purpose: the mask
#
# Your mask was right. Three others are shipped by accident, or on purpose:
#
# - **too early** by one place: learns `<assistant>`, forgets `<end>`;
# - **too late** by one: forgets the first word of each answer;
# - **everything**: learns the questions too, since a language model's trainer does so by default.
#
# **Predict** the symptom of each before you look: accuracy, and tokens per answer.

# %% id="masks"
def masked(change):
    """The brief lessons with another label mask."""
    right = label_mask.active
    label_mask.install(lambda ids, start=ASSISTANT, end=END: change(ids, right(ids, start, end)))
    packs = speaker.encode([row[:4] for row in taught[:320]])
    label_mask.install(right)
    return packs

changes = {"right": lambda ids, mask: mask, "too early": lambda ids, mask: mask.roll(-1, 1),
           "too late": lambda ids, mask: mask.roll(1, 1),
           "everything": lambda ids, mask: (ids != 0) & (ids != IMAGE)}
patients = {name: tuned(aligned, masked(change), some, 40, size=4, name=f"mask: {name}")
            for name, change in changes.items()}

# %% id="masks-result"
@torch.no_grad()
def answers(model, count=40):
    """Tokens of the answers to some questions about colours, and the first of them as text."""
    rows = asked_of["colour"][:count]
    prompts = chat.encode([instructions.turns(text) for _, text, _ in rows], model.tokens_per_image,
                          prompt=True)
    images = render.to_tensor(pictures[[n for n, _, _ in rows]])
    written = write_greedily(model.language, model.embed(prompts.ids, images), prompts.mask, 40,
                             END)
    lengths, first = (written != 0).sum(1).float(), written[:1, :12].tolist()
    return lengths.mean().item(), tokenizer.decode(first)[0]

symptoms = {name: (run.losses[-1], grades(model, kinds=FOUR)["all"], *answers(model))
            for name, (model, run) in patients.items()}
tabulate(symptoms, "mask", loss=".2f", right=".0%", tokens_per_answer=".1f", first_answer="")
assert symptoms["right"][2] < 6 and symptoms["too early"][2] > 30 and symptoms["too late"][2] < 2
assert symptoms["too late"][0] < symptoms["right"][0] and symptoms["too late"][1] < 0.05

# %% [markdown] id="masks-lesson" lang="en"
# - **Right**: after 40 short steps a fifth of the answers are right, and they end.
# - **Too early**: it never stops, and babbles.
# - **Too late**: it says nothing. The first word of an answer is never a label; most often `<end>` is, in a third of them. So it ends at once. And its loss is *lower* than the right one's.
# - **Everything**: most of its effort goes into questions. 12 % are right, not 22 %.
#
# No loss curve would have told you: losses of different masks are averages over different tokens. Tokens per answer and right answers do, within a minute.

# %% [markdown] id="full-intro" lang="en"
# ## 11 · How good does it get, and what decides it?
#
# Same code, same size, more pictures: the course ships the result as `nano-vlm`. Its card keeps what was tried. Rows that name a script can be repeated, now with captions in reading order; the other trials are a story that no cell repeats. **Predict:** what made the largest difference?

# %% id="card"
vlm, card = nano.load_vlm("nano-vlm")
assert torch.equal(vlm.vision.positions, aligned.vision.positions)     # the same frozen eye
rows = {row["what"].split("(quick")[0]: (row["right"], row["seconds"]) for row in card["tried"]}
tabulate(rows, "tried", right=".0%", seconds="")

# %% [markdown] id="card-lesson" lang="en"
# The last column counts seconds. Packs, positions, convolutions before the patches, an optimizer: four points here, twelve there. Then one line leaps to 96 %, and it changes only the order of data: first shape and colour of *every* object, then the mix. **Data decide, and their order.** The course's eye gets such *dense supervision* in a stage of its own, patch by patch. With the eye of chapter 04's CLIP in its place, 300 steps reach 58 % instead of 69 %: CLIP knows what, hardly where.

# %% id="curve"
metrics, curve = card["metrics"], np.array(card["curve"])
fig, ax = plt.subplots(figsize=(6.4, 2.3), layout="constrained")
ax.plot(*curve.T, "o-", color=roles.learned, label="nano-vlm")
ax.axhline(metrics["answer prior"], color=roles.control, linestyle="--", label="answer prior")
ax.set(xlabel="CPU seconds, all stages", ylabel="right answers", xlim=(0, None), ylim=(0, 1))
ax.legend(loc="lower right")
figure(fig, alt="Right answers over CPU seconds: after two stages they climb far above the prior")
tabulate({name: value for name, value in metrics.items() if ": " not in name}, share=".0%")

# %% id="full"
final = {"nano-vlm": grades(vlm), "another picture": grades(vlm, lambda seen: seen.roll(1, 0)),
         "no picture": grades(vlm, torch.zeros_like)}
tabulate({name: list(row.values()) for name, row in final.items()}, "right", **columns)
assert metrics["twins, both right"] > 0.85 and final["nano-vlm"]["all"] > 0.95
assert min(metrics[f"answers: {kind}"] for kind in questions.KINDS) > 0.9
assert final["another picture"]["all"] < 0.6 and final["no picture"]["all"] < 0.6

# %% [markdown] id="full-lesson" lang="en"
# 98 % of these questions; with another picture 36 %, with none 28 %: it looks. Three numbers of the card deserve a second look:
#
# - **Twins** (92 %). Two pictures, one question, both answers right. Habit gets none.
# - **New combinations** (95 %) of colour and shape, never seen in training, cost four points.
# - **Captions.** 99 % of what they state is true, yet only 92 % are true and complete in *every* word. The longer the text, the more places to be wrong.

# %% [markdown] id="kept-intro" lang="en"
# ### Lost: left and right
#
# An earlier run stopped at 92 %, see its row above. "Above" and "below" were right in 98 of 100 cases, "left of" and "right of" in 47. The eye is the same. Where did left and right get lost?
#
# A **linear probe** tells: what share of the differences between image tokens goes with the place of the thing shown? **Predict** where it drops.

# %% id="kept"
from torch.nn.functional import normalize
from vlmcourse.diagnostics.probe import linear_share
from vlmcourse.training.regions import region_targets

regions = region_targets(held_out)
shown = regions.there > 0  # patches on which a thing lies

def kept(vectors):
    """Share of the variance that goes with the middle of the thing: (sideways, up and down)."""
    return linear_share(normalize(vectors.float(), dim=-1)[shown], regions.middle[shown]).tolist()

survived = {"eye": kept(eye), "after stage 1": kept(aligned.projector(eye.float())),
            "your assistant": kept(assistant.projector(eye.float())),
            "nano-vlm": kept(vlm.projector(eye.float())),
             "full rate (card)": next(row["kept"] for row in card["tried"] if "kept" in row)}
tabulate(survived, "share of the differences", sideways=".1%", up_and_down=".1%")
assert survived["full rate (card)"][0] < 0.1 * survived["nano-vlm"][0]
assert survived["your assistant"][0] < 0.7 * survived["after stage 1"][0] < 0.5 * survived["eye"][0]

# %% [markdown] id="kept-lesson" lang="en"
# The largest loss is **stage 1's**: of 13 % sideways it keeps 5, of 14 % up and down 8. Captions name places coarsely, so the projector learned no more. Your assistant then lost half of what was left. At the full rate both axes fade (card, `full-rate`); up and down came back, left and right did not. Our reading: image tokens come row by row, so *when* one comes tells how far down it is. And "bottom left" names the second axis in its second word, which is learned late. Until then no loss asks for left and right, and what nobody asks for is overwritten.
#
# Two changes cured it: the projector learns at a **hundredth of the rate** (your `rate_groups`) until all is learned, and lessons also ask for one axis in one word. What is frozen is safe; what learns is safe only while something asks for it.

# %% [markdown] id="invent-intro" lang="en"
# ## 12 · Does it see what is not there?
#
# **Hallucination**: models speak of things that are not in the picture. POPE measures it with questions that deserve a "no" (Li et al. 2023, arXiv:2305.10355): "Is there a …?", half of them about absent things. Two kinds of absent things: *any*, or *near*: the shape of one object in the colour of another.

# %% id="pope"
from vlmcourse.world.truth import list_things, Who

def polls(batch, absent, seed=0):
    """For each scene (number, question, answer): one thing that is there and one that is not."""
    chance = np.random.default_rng(seed)
    allowed = np.argwhere(scenes.editable(batch.split)).tolist()
    asked = []
    for n in range(len(batch)):
        there = [list(thing[:2]) for thing in list_things(batch, n)]
        near = [[s, c] for s, _ in there for _, c in there]
        free = [pair for pair in (near if absent == "near" else allowed)
                if pair not in there and pair in allowed]
        if free:
            picks = there[chance.integers(len(there))], free[chance.integers(len(free))]
            asked += [(n, f"Is there a {Who(*pair)}?", answer)
                      for pair, answer in zip(picks, ("yes", "no"))]
    return asked

POLLS = sheet([(*row, f"{row[2]} to {absent}") for absent in ("any", "near")
               for row in polls(held_out, absent)[:300]])

def poll(model):
    """Share of "yes" to what is there, and of "no" to what is not: anything, or nearly there."""
    of_eye, talk, kind_of = POLLS
    right = Speaker(model).grade(of_eye, talk).numpy()
    return {"yes to what is there": right[kind_of == "yes to any"].mean(),
            "no to anything else": right[kind_of == "no to any"].mean(),
            "no to near things": right[kind_of == "no to near"].mean()}

tabulate(poll(vlm), "nano-vlm says", right=".0%")

# %% [markdown] id="yes-intro" lang="en"
# Now make it ill. People write questions about what they see, so much of the data says "yes". Give `nano-vlm` 32 more steps on pictures with nothing but true "yes" questions. Then the cure: 24 steps in which half of the questions are about absent things.

# %% id="yes"
def short_course(model, answers, steps=32):
    """A copy of the model, tuned on questions of existence with these answers only."""
    talk = [[(text, answer)
             for _, text, answer in polls(seen_scenes[n : n + 1], "any", n) if answer in answers]
            for n in range(192)]
    rates = {"projector": 2e-3, "language": 2e-3}
    return tuned(model, speaker.encode(talk), seen[:192], steps=steps, rates=rates,
                 name="answers: " + " and ".join(answers))[0]

ill = short_course(vlm, ("yes",))
cured = short_course(ill, ("yes", "no"))
table = {name: poll(model)
         for name, model in (("nano-vlm", vlm), ("only yes", ill), ("cured", cured))}
tabulate({name: list(row.values()) for name, row in table.items()},
         **dict.fromkeys(table["cured"], ".0%"))
assert table["only yes"]["no to anything else"] < table["nano-vlm"]["no to anything else"] - 0.2
assert table["only yes"]["no to near things"] < 0.4
assert table["nano-vlm"]["no to near things"] > 0.85
assert table["cured"]["no to near things"] > table["only yes"]["no to near things"] + 0.2
assert table["cured"]["yes to what is there"] < table["nano-vlm"]["yes to what is there"] - 0.02

# %% [markdown] id="yes-lesson" lang="en"
# Thirty-two steps were enough. In our run the ill model says no to 6 % of the near things and 65 % of the others; before, to all of them. Its loss looked excellent.
#
# The cure is data of the other kind, and it cures what it asks about. Questions about *any* absent thing bring those back to 89 %, near things only to 66 %: two seen properties, wrongly combined, need questions of their own. And it has a **price**: of what is there, all got a "yes" before, and now 96 %. Read all columns; whoever always says no wins two of them. Liu et al. (2023, arXiv:2306.14565) built 400,000 instructions, positive and negative ones, for this purpose.

# %% [markdown] id="real-intro" lang="en"
# ## 13 · Is this the real thing?
#
# `LlavaForConditionalGeneration` with random weights. We copy them into *your* model: two texts with one and two images, padded on the left. Compare scores and written tokens.

# %% id="real-thing"
import transformers
from vlmcourse.interop import llava

small = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
vision = transformers.CLIPVisionConfig(**small, image_size=32, patch_size=8)
text = transformers.LlamaConfig(**small, vocab_size=97, eos_token_id=None, bos_token_id=None)
both = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=96,
                                image_seq_length=16)
torch.manual_seed(3)
theirs = transformers.LlavaForConditionalGeneration(both).eval()
for parameter in theirs.parameters():
    torch.nn.init.normal_(parameter, std=0.2)
theirs.lm_head.weight.data[96] = 0                                     # or it writes placeholders
ids, mask = collate([[5] + [96] * 16 + [7, 8], [9] + [96] * 16 + [10] + [96] * 16 + [11]], 0,
                    left=True)
images = torch.randn(3, 3, 32, 32)
mine = llava.from_transformers(theirs)
given = dict(input_ids=ids, pixel_values=images, attention_mask=mask.long())
with torch.no_grad():
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    gap = (mine(ids, images, mask=mask)
           - theirs(**given, position_ids=places).logits)[mask].abs().max().item()
same = torch.equal(generation.generate(mine, ids, mask=mask, images=images, steps=20),
                   theirs.generate(**given, max_new_tokens=20, do_sample=False, pad_token_id=0))
print(f"largest difference of scores {gap:.1e}; the same 20 tokens: {same}")
assert gap < 1e-4 and same

# %% [markdown] id="real-differs" lang="en"
# | | yours | LLaVA | LLaVA-1.5 |
# |---|---|---|---|
# | eye | ViT, 64 pixels, trained on regions | CLIP ViT-L/14, 224 pixels | CLIP ViT-L/14, 336 pixels |
# | image tokens | 64 | 256 | 576 |
# | projector | MLP | one linear layer | MLP |
# | language model | 0.9 M | Vicuna | Vicuna |
# | instructions | 260,000 from the truth | 158,000 from GPT-4 | 665,000, with VQA data and format phrases |
#
# ## Paper guide: Liu et al. 2023, *Visual Instruction Tuning*
#
# Read sections 3 to 5 beside this notebook.
#
# | in the paper | in your code |
# |---|---|
# | section 3, table 1: captions and boxes become conversations | `instructions.talks` |
# | section 4.1, figure 1 and equation 1: H_v = W · Z_v | `Projector`, chapter 07 |
# | section 4.2, equation 2 and table 2: X_instruct, and which tokens are predicted | `render_chat` |
# | equation 3, the product over the answer's tokens | `label_mask`, `nano.instruction_loss` |
# | section 4.2, stages 1 and 2, θ = W, then θ = {W, φ} | `rate_groups`, `set_stage` |
#
# A question for the paper: training without stage 1 is among the ablations of section 5. How much did it lose, and how does your section 9 compare?
#
# ## Recap
#
# 1. An instruction is {image, instruction, output}. What the picture does not decide teaches guessing; the wanted form belongs to the instruction.
# 2. Only answers and their ends are learned. One place off, and the model never stops or never starts.
# 3. Stages did not answer better. A slow language model, or captions among the lessons, kept the language that others lost.
# 4. A blind twin tells how much is seen; balanced "no" questions tell what is invented.
# 5. The data decide: dense supervision, captions in the mix, and questions that deserve a no.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("08_instruction_tuning/1")

# %% id="quiz-2"
quiz("08_instruction_tuning/2")

# %% id="quiz-3"
quiz("08_instruction_tuning/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): sections 3 to 5.
# - Liu et al. 2023, *Improved Baselines with Visual Instruction Tuning* (LLaVA-1.5), [arXiv:2310.03744](https://arxiv.org/abs/2310.03744): section 3.
# - Li et al. 2023, *Evaluating Object Hallucination in Large Vision-Language Models* (POPE), [arXiv:2305.10355](https://arxiv.org/abs/2305.10355).
# - Liu et al. 2023, *Mitigating Hallucination in Large Multi-Modal Models via Robust Instruction Tuning* (LRV-Instruction), [arXiv:2306.14565](https://arxiv.org/abs/2306.14565).
# - Goyal et al. 2017, *Making the V in VQA Matter*, [arXiv:1612.00837](https://arxiv.org/abs/1612.00837): blind baselines and twins.
# - Krell et al. 2021, *Efficient Sequence Packing without Cross-contamination*, [arXiv:2107.02027](https://arxiv.org/abs/2107.02027).
#
# **Next:** [09 · Flamingo: a language model that looks, and learns from examples](09_flamingo.ipynb)
