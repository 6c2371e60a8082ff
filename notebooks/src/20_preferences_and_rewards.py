# %% [markdown] id="title" lang="en"
# # 20 · Preferences and rewards
#
# **110 minutes.** Everything runs on two CPU cores; a GPU is not needed.
#
# Until now a model learned by imitation: here is a picture, here is what to say. What is *not* to be said, nobody told it. This chapter cures a model that invents things, by preferences, and teaches another by rewards that can be checked. The first works. The second works once we find out what it had been rewarding. Both learn, just as readily, whatever else you happen to reward.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Chapter 13 measured invention with POPE and CHAIR, and left it at that. The parts of the model stay as they are; what changes is what its words are taught by.
#
# ## After this you can
#
# - **say** where hallucination can come from, and make it on purpose,
# - **compute** how likely a model finds an answer as a whole,
# - **train** by preferences (DPO, direct preference optimization) and by rewards (GRPO, group relative policy optimization), and say what each one costs,
# - **recognise** a reward that is being gamed,
# - **explain** what the reference model is for, by what happens without it.

# %% id="setup"
import torch
from vlmcourse.workbook import *
from vlmcourse.evaluation import rewards
from vlmcourse.training import policy, preferences
begin("20_preferences_and_rewards", lang="en")

# %% id="map"
course_map("language")

# %% [markdown] id="q-invents" lang="en"
# ## 1 · Where does hallucination come from?
#
# `nano-vlm` names hardly anything that is not there. Large models do. One cause is in their data: captions were written by people who saw **more than the model does**. The picture was cropped, or shrunk until the thing was gone. The model learns from thousands of such texts that one names things one does not see.
#
# So we teach it just that. From each scene one thing is taken away; the caption still names it, and "Is there …?" is still answered "yes". The model does what it is told.

# %% id="annotators"
from vlmcourse.families import preferring, rewarding
from vlmcourse.world import scenes
from vlmcourse.world.render import render

seen = scenes.sample("train", 640, start=300_000, objects=(2, 4))
shown, talks = preferring.seen_by_annotators(seen)
print("\n".join(f"{asked}  {said}" for asked, said in talks[1]))
assert (shown.count == seen.count - 1).all()

# %% id="annotators-figure"
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(4.6, 2.5), layout="constrained")
for ax, title, batch in zip(axes, ("what the annotator saw", "what the model sees"), (seen, shown)):
    ax.imshow(render(batch[1:2])[0]); ax.set_title(title, fontsize=10); ax.axis("off")
figure(fig, alt="A scene, and the same scene with one thing less")

# %% id="options"
from vlmcourse.families.nano import by_length, load_vlm
from vlmcourse.speak import Speaker
from vlmcourse.training.optimizers import warmup_linear

def words_only(speaker, rate, steps):
    """Only the language model learns: what is asked for here is another way of speaking."""
    for name, weight in speaker.model.named_parameters():
        weight.requires_grad_(name.startswith("language."))
    learning = [weight for weight in speaker.model.parameters() if weight.requires_grad]
    return dict(optimizer=torch.optim.AdamW(learning, rate, weight_decay=0),
                schedule=warmup_linear(steps, warmup=5), precision="no")

# %% id="spoil"
start = Speaker(load_vlm("nano-vlm")[0])
inventor = Speaker(load_vlm("nano-vlm")[0])
inventor.tune(inventor.features(render(shown)), inventor.encode(talks), steps=40, size=16,
              loss=by_length, seed=0, **words_only(inventor, 5e-4, 40))

# %% [markdown] id="measure-intro" lang="en"
# How much does it invent? POPE asks for one thing that is there and one that is not: **false yes**, and F1. CHAIR_s is the share of captions with an invention. To see what a cure costs, more numbers: the yes to **rare** things, whose combination of colour and shape never occurred in training (`novel`), false and true; how many captions are complete; and how long they are.

# %% id="measure"
import numpy as np
from vlmcourse.evaluation import hallucination as invented
from vlmcourse.evaluation.statements import true_and_complete
from vlmcourse.world.instructions import FULL

names = {f"{colour} {shape}": () for colour in scenes.COLOURS for shape in scenes.SHAPES}

def polled(speaker, split, count=60):
    """(F1, false yes, true yes)"""
    batch = scenes.sample(split, count, start=90_000)
    there = dict(enumerate(invented.scene_objects(batch)))
    asked = invented.poll(there, "adversarial", template=invented.OF_A_SCENE)
    images = render(batch)[[one.image for one in asked]]
    said = map(invented.said_yes, speaker.answer(images, [one.question for one in asked]))
    yes, true = np.array(list(said)), np.array([one.answer == "yes" for one in asked])
    return invented.pope_scores(yes, true)["f1"], yes[~true].mean(), yes[true].mean()

# %% id="measure-captions"
def described(speaker, count=60):
    """(CHAIR_s, complete captions, words in a caption)"""
    batch = scenes.sample("test", count, start=90_000)
    lines = speaker.answer(render(batch), [FULL] * count)
    mentions = [invented.mentioned(line, names) for line in lines]
    share = invented.chair(mentions, invented.scene_objects(batch))[1]
    length = np.mean([len(line.split()) for line in lines])
    return share, true_and_complete(lines, batch).mean(), length

def everything(speaker):
    (f1, false, _), (_, *rare) = polled(speaker, "test"), polled(speaker, "novel")
    return f1, false, *rare, *described(speaker)

# %% id="spoiled"
columns = dict(POPE_F1=".2f", false_yes=".0%", rare_false_yes=".0%", rare_true_yes=".0%",
               CHAIR_s=".0%", complete=".0%", words=".1f")
found = {"nano-vlm": everything(start), "the inventor": everything(inventor)}
tabulate(found, "model", **columns)
assert found["nano-vlm"][1] < 0.1 and found["the inventor"][1] > 0.8
assert found["the inventor"][5] < 0.6 * found["nano-vlm"][5]

# %% [markdown] id="spoiled-lesson" lang="en"
# Forty steps, and it says yes to everything. Nothing is wrong with its eye, nor with its words: the data taught it.
#
# ## 2 · How likely is an answer?
#
# A preference compares two whole answers. How likely does a model find one? It writes token by token, so probabilities multiply and their logarithms add up.
#
# **By hand:** "red" has probability ½ and the end after it ¼. The answer has ⅛: log ½ + log ¼ = −2.08, in natural logarithms, whose unit is the **nat**. Mind the place: the scores *at* the last token of the question speak of "red", those at "red" of the end.
#
# ### Your turn: `token_log_probabilities` · difficulty 3/5 · 10 min
#
# | | shape |
# |---|---|
# | `logits` | `(…, token, vocabulary)`, of any dtype, hundreds apart at times; compute in float32 |
# | `labels` | `(…, token)`: the answer's tokens, −100 at prompt, image and padding |
# | out | `(…, token − 1)`: log-probability of each token of the answer, and 0 where nothing is to be predicted |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="token_log_probabilities"
@exercise(preferences.token_log_probabilities)
def token_log_probabilities(logits, labels):
    """(..., token, vocabulary), (..., token) -> (..., token - 1)"""
    # 1. scores without the last place, labels without the first   2. log-softmax in float32
    # 3. read off the labels (token 0 where there is none)   4. put 0 there
    raise NotImplementedError

# %% id="log-tried"
halves = torch.log(torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.4, 0.3, 0.3]]))
by_hand = token_log_probabilities(halves, torch.tensor([-100, 1, 2]))
print([round(number, 2) for number in by_hand.tolist()], "sum", round(by_hand.sum().item(), 2))
assert torch.allclose(by_hand.exp(), torch.tensor([0.5, 0.25]))

# %% [markdown] id="branches" lang="en"
# Two answers share picture and question. So they stand in **one** row as branches: each sees the beginning and itself, never the other. That is chapter 08's packing, and the 64 image tokens are read once for both.

# %% id="branches-figure"
from vlmcourse.data.branches import branch
from vlmcourse.models import look

one = branch([[7, 8, 9]], [[[1, 2], [3, 4, 2]]], pad=0)
fig, ax = plt.subplots(figsize=(3.4, 2.8), layout="constrained")
draw_mask(ax, look.packed(one.packs).mask[0, 0],
          [roles.image] * 3 + [roles.learned] * 2 + [roles.text] * 3)
ax.set(xticks=[1.5, 4, 6.5], xticklabels=["question", "answer 1", "answer 2"],
       yticks=[1.5, 4, 6.5], yticklabels=["question", "answer 1", "answer 2"])
figure(fig, alt="Each of two answers sees the question and itself; the other is hatched")

# %% id="whole"
features = inventor.features(render(shown[:3]))
two = preferring.pair_up(inventor, features, [(talk[1][0], "no", "yes") for talk in talks[:3]])
likely = preferring.whole_answers(inventor, two).exp()
tabulate({talk[1][0]: row for talk, row in zip(talks, likely.tolist())}, "not in the picture",
         no=".4f", yes=".4f")
assert (likely[:, 1] > likely[:, 0]).all() and (likely.sum(dim=1) < 1.001).all()

# %% [markdown] id="ex-dpo" lang="en"
# Your function computed these. The inventor is sure.
#
# ## 3 · Better than before, by how much?
#
# Train it to make "no" likelier than "yes", and it may wreck everything else on the way. DPO holds it against a frozen copy of itself, the **reference**. An answer *gains* by how much likelier it became: its log-probability now, less that under the reference. The **margin** is the gain of the better answer less that of the worse one. The loss asks that it be large:
#
# $$-\log \sigma(\beta \cdot \text{margin})$$
#
# σ is the sigmoid, 1 / (1 + e⁻ˣ). β says how dear it is to leave the reference; we take 0.1, and a smaller one moves further. The loss comes from reinforcement learning with a penalty for leaving the reference; there a reward is written by log-probabilities of the two models, and the one constant that nobody can compute cancels out (Rafailov et al. 2023, equation 7). No judge, no sampling.
#
# **By hand:** the better answer went from −3 to −2, a gain of 1. The worse one went from −4.5 to −5, a gain of −½. Margin 1½; with β = 0.2 the loss is −log σ(0.3) = 0.554. **Predict** the loss before any step.
#
# ### Your turn: `dpo_loss` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `chosen`, `rejected` | `(pair,)`: log-probabilities of whole answers, of the model that learns |
# | `reference_chosen`, `reference_rejected` | the same, of the frozen copy |
# | `beta` | a number |
# | out | one number, the mean over pairs. Margins may be as low as −1,000 |

# %% id="dpo_loss"
@exercise(preferences.dpo_loss)
def dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta):
    """four times (pair,), a number -> a number"""
    # 1. gain of each answer   2. margin   3. F.logsigmoid (torch.nn.functional)   4. sign, mean
    raise NotImplementedError

# %% id="dpo-tried"
better, worse = torch.tensor([-2.0], requires_grad=True), torch.tensor([-5.0], requires_grad=True)
by_hand = dpo_loss(better, worse, torch.tensor([-3.0]), torch.tensor([-4.5]), 0.2)
same = dpo_loss(better, worse, better.detach(), worse.detach(), 0.2)
same.backward()
print(f"by hand {by_hand:.3f}; before any step {same:.3f}, and its gradients "
      f"{better.grad.item():+.2f} and {worse.grad.item():+.2f}")
assert abs(by_hand.item() - 0.554) < 1e-3 and abs(same.item() - 0.6931) < 1e-3

# %% [markdown] id="dpo-lesson" lang="en"
# ln 2: a coin. And the two gradients are opposite and equal: the loss pulls one log-probability up exactly as hard as the other down. Nothing says that the better answer must become *likely*. And there is less room above: it ends at 0, below it has no end.
#
# ## 4 · The cure
#
# Which pairs? For twins, two pictures that differ by one thing, the same question has two answers. One prefers "yes", its twin "no". **Whoever does not look must be wrong about one of them.** For captions: the true one over the same with one thing in another shape.

# %% id="pairs"
batch = scenes.sample("train", 300, start=400_000)
pictures, about = preferring.twin_pairs(batch)
pictures, about = scenes.concatenate([pictures, batch]), about + preferring.caption_pairs(batch)
pairs = preferring.pair_up(inventor, inventor.features(render(pictures)), about)
tabulate({number: about[number] for number in (1, 301, 601)}, "pair", question="", better="",
         worse="")
assert about[1] == (about[301][0], about[301][2], about[301][1])

# %% id="prefer"
from copy import deepcopy

def again(speaker):
    return Speaker(deepcopy(speaker.model), speaker.words)

steps, size = 40, 24
cured, copied = again(inventor), again(inventor)
history = preferring.prefer(cured, pairs, steps, size, **words_only(cured, 3e-4, steps))
control = preferring.imitate(copied, pairs, steps, size, **words_only(copied, 3e-4, steps))
history

# %% [markdown] id="cured-intro" lang="en"
# The second run is the **control**: the same better answers, the same steps, learned by imitation (SFT), as in chapter 08. **Predict:** which of the two invents less? Which one is surer to say yes to rare things?

# %% id="cured"
found |= {"after DPO": everything(cured), "after imitation": everything(copied)}
tabulate(found, "model", **columns)
for name in ("after DPO", "after imitation"):
    assert found[name][1] < 0.35 and found[name][0] > found["the inventor"][0] + 0.1
assert found["after DPO"][3] > found["after imitation"][3]         # yes to what is rare, and there
assert found["after DPO"][5] < found["after imitation"][5]         # complete captions

# %% id="gains-figure"
fig, ax = plt.subplots(figsize=(5.6, 2.6), layout="constrained")
for name, look_of in (("better", (roles.learned, "-")), ("worse", (roles.first, "--"))):
    ax.plot(history.metrics[name], look_of[1], color=look_of[0], label=f"the {name} answer")
ax.axhline(0, color=roles.control, lw=1)
ax.set(xlabel="step", ylabel="gain (nats)"); ax.legend()
figure(fig, alt="Over the steps the worse answers lose much more than the better ones gain")
assert -np.mean(history.metrics["worse"][-5:]) > 2 * np.mean(history.metrics["better"][-5:])

# %% [markdown] id="cured-lesson" lang="en"
# Both cure POPE: of 100 % false yes DPO left 12 % in our run, imitation 1 %. The costs are on opposite sides. Imitation now denies every third rare thing that **is** there. DPO denies none, but still says yes to rare things that are not. Imitation repaired the captions; DPO only half. The figure shows why: it pushes the worse answers away by many nats and lifts the better ones by few. It forbids one word in a caption, and does not teach the others: CHAIR went from 17 to 15 %, by imitation to 0. Neither wins on every count.
#
# What changed? Choose "only after DPO".

# %% id="browse"
from vlmcourse.evaluation.answers import agrees, asked_of
from vlmcourse.widgets.browsing import browse_two

some, asked = asked_of(scenes.sample("test", 60, start=90_000), "existence")
images, polls = render(some), [one.text for one in asked]
said = {name: speaker.answer(images, polls)
        for name, speaker in (("before", inventor), ("after DPO", cured))}
right = {name: [agrees(text, one) for text, one in zip(replies, asked)]
         for name, replies in said.items()}
browse_two(images, asked, said, right)

# %% [markdown] id="q-length" lang="en"
# ## 5 · What if the judges like long answers?
#
# People who compare answers often prefer the longer one; reward models learn that, and models then write more (Singhal et al. 2023). Let us see how readily. The preferred caption is the true one **plus a thing drawn by lot**, whether it is there or not. DPO does not ask. **Predict:** will it be learned as surely as the truth was?

# %% id="length"
dice, things = np.random.default_rng(0), list(names)
captions = preferring.ordered_captions(batch)
longer = [(FULL, f"{caption} and a {things[dice.integers(len(things))]}", caption)
          for caption in captions]
wordy = again(start)
of_length = preferring.pair_up(wordy, wordy.features(render(batch)), longer)
liked = preferring.prefer(wordy, of_length, steps=20, size=16, **words_only(wordy, 3e-4, 20))

# %% id="length-found"
found["nano-vlm, longer is better"] = everything(wordy)
lengths = {name: found[name] for name in ("nano-vlm", "nano-vlm, longer is better")}
tabulate(lengths, "model", **columns)
print("preferred answers gained more:",
      f"{np.mean(liked.metrics['agreed'][-5:]):.0%} here, "
      f"{np.mean(history.metrics['agreed'][-5:]):.0%} for the truth")
assert np.mean(liked.metrics["agreed"][-5:]) > 0.9
print(wordy.answer(render(scenes.sample("test", 1, start=90_000))[0], FULL))
before, after = lengths.values()
assert after[6] > before[6] + 5 and after[5] < 0.6 * before[5]

# %% [markdown] id="length-lesson" lang="en"
# Half the steps, and the preference is learned perfectly: captions of 44 words in our run, and hardly any of them true and complete. Many say one thing again and again until they are cut off; that invents nothing, so CHAIR stays at 17 %. POPE sees nothing at all. The loss, the agreement, every number a training shows look as good as before. **What a preference was about, only a measurement from outside tells.**
#
# ## 6 · A group is its own judge
#
# Preferences need two answers that somebody wrote. If an answer can be *checked*, the model may write them itself: draw several, reward the true ones. In scenes the truth is known.
#
# ### Your turn: `truth_reward` · difficulty 1/5 · 4 min
#
# | | |
# |---|---|
# | `reply`, `answer` | what the model said; the true answer |
# | out | 1.0 if the reply says the answer, 0.0 otherwise |
#
# Capitals, articles, full stops and "two" for "2" do not matter, on either side: chapter 13's `normalise_answer` (from `vlmcourse.evaluation.vqa`) takes care of that. "2 or 3" is not the answer 2: whoever says everything would always be right.

# %% id="truth_reward"
@exercise(rewards.truth_reward)
def truth_reward(reply, answer):
    """"Red.", "red" -> 1.0"""
    # 1. normalise both   2. are they equal?   3. as a float
    raise NotImplementedError

# %% [markdown] id="ex-advantages" lang="en"
# A reward of 1: is that much? On an easy question it is nothing, on a hard one a feat. PPO (proximal policy optimization, Schulman et al. 2017) trains a second model to say what could be expected. GRPO (Shao et al. 2024) asks the other answers of the **group**: what did they earn?
#
# **By hand:** four answers earn 1, 0, 0, 0. Mean ¼, standard deviation ½ (dividing by n − 1). The advantages: 1.5, −0.5, −0.5, −0.5. **Predict** those of 1, 1, 1, 1.
#
# ### Your turn: `group_advantages` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `rewards` | `(question, answer)` |
# | out | the same: reward less the mean of its group, divided by the group's standard deviation (n − 1) plus 1e−4 |

# %% id="group_advantages"
@exercise(policy.group_advantages)
def group_advantages(rewards):
    """(question, answer) -> (question, answer)"""
    # 1. mean along the answers, keepdim   2. std likewise   3. add 1e-4 below the line
    raise NotImplementedError

# %% id="advantages-tried"
earned = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]])
tabulate({str(row.int().tolist()): advantage for row, advantage in
          zip(earned, group_advantages(earned).tolist())}, "rewards",
         first="+.1f", second="+.1f", third="+.1f", fourth="+.1f")
assert group_advantages(earned)[1:3].abs().max() == 0

# %% [markdown] id="group-lesson" lang="en"
# All right, or all wrong: nothing is learned, and the drawing was for nothing. So we ask only what the model is unsure about (DAPO calls that dynamic sampling). `nano-vlm` is weakest at comparisons; we take those whose true answer it gives with a chance between 2 and 98 %.

# %% id="drill"
def unsure(split, count, begin):
    asked = scenes.sample(split, count, start=begin, objects=(2, 4))
    return rewarding.hard_questions(start, rewarding.drill_about(start, asked, ["comparison"]))

practice, exam = unsure("train", 600, 200_000), unsure("test", 300, 90_000)
print(len(practice.image), "questions to practise,", len(exam.image), "for the exam")
draws = rewarding.Rollouts(again(start), practice)
group = draws.draw([0, 1, 2, 3])
tabulate({practice.questions[row]: (practice.answers[row], f"{group.rewards[row].int().tolist()}",
          f"{group.advantages[row].max():+.1f}") for row in range(4)}, "question", truth="",
         rewards="", best_advantage="")
assert len(practice.image) > 100 and len(exam.image) > 50

# %% [markdown] id="ex-policy" lang="en"
# ## 7 · Small steps
#
# Now raise the log-probability of tokens with a positive advantage and lower the others. But the samples get old: after a step the model is another one. PPO's remedy is the **ratio** of a token's probability now to that when it was drawn, and a clip at ε. With A, the advantage of the answer that the token stands in:
#
# $$\text{gain} = \min\big(\text{ratio} \cdot A,\ \text{clamp}(\text{ratio},\, 1 - \varepsilon,\, 1 + \varepsilon) \cdot A\big)$$
#
# **By hand**, ε = 0.2:
#
# | ratio | A | ratio · A | clamped · A | gain | |
# |---|---|---|---|---|---|
# | 1.5 | 1 | 1.5 | 1.2 | 1.2 | far enough: flat, no gradient |
# | 0.5 | 1 | 0.5 | 0.8 | 0.5 | the wrong way: a gradient upwards |
# | 0.5 | −1 | −0.5 | −0.8 | −0.8 | far enough: flat |
# | 1.5 | −1 | −1.5 | −1.2 | −1.5 | the wrong way: a gradient downwards |
#
# Whatever moved the *wrong* way is always brought back: that is what the minimum is for.
#
# And the reference again: the loss of a token is β · divergence − gain. The divergence is estimated by $e^{d} - d - 1$ with d = log-probability under the reference less that of now. It is 0 where both agree, and never negative.
#
# ### Your turn: `policy_loss` · difficulty 4/5 · 12 min
#
# | | shape |
# |---|---|
# | `now`, `before`, `reference` | `(sample, token)`: log-probabilities under the model that learns, the one that drew, the one at the very start |
# | `advantages` | `(sample,)` |
# | `mask` | `(sample, token)`, bool: True at tokens of the answer; what stands behind does not count |
# | `clip`, `beta` | ε and β, numbers |
# | out | one number: mean over samples of each sample's mean over its tokens of β · divergence − gain |

# %% id="policy_loss"
@exercise(policy.policy_loss)
def policy_loss(now, before, reference, advantages, mask, clip, beta):
    """three times (sample, token), (sample,), (sample, token), two numbers -> a number"""
    # 1. ratio, and the same held between 1 - clip and 1 + clip   2. the smaller gain
    # 3. divergence   4. mean over the tokens of each sample, then over samples
    raise NotImplementedError

# %% id="clip-figure"
fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.4), layout="constrained", sharex=True)
ratios, everywhere = torch.linspace(0.4, 1.6, 121), torch.ones(1, 1, dtype=torch.bool)
for ax, advantage in zip(axes, (1.0, -1.0)):
    gains = [-policy_loss(ratio.log().view(1, 1), torch.zeros(1, 1), torch.zeros(1, 1),
                          torch.tensor([advantage]), everywhere, 0.2, 0.0) for ratio in ratios]
    ax.plot(ratios, gains, color=roles.learned)
    ax.axvline(1, color=roles.control, ls=":")
    ax.set(title=f"advantage {advantage:+.0f}", xlabel="ratio", ylabel="gain")
figure(fig, alt="The gain rises with the ratio and is flat above 1.2 for a positive advantage; "
                "for a negative one it is flat below 0.8 and falls beyond")
assert abs(gains[-1] + 1.6) < 0.01 and abs(gains[0] + 0.8) < 0.01

# %% [markdown] id="q-grpo" lang="en"
# ## 8 · Learning from what was true
#
# All together: draw eight answers a question, reward, compare, step; and again. Each draw serves two steps; at the first all ratios are 1. **Predict** three curves: the reward, the entropy of the answers, and the share of groups that are mixed, with right answers and wrong ones in them.

# %% id="grpo"
def practise(speaker, drill, steps=40, rate=2e-4, beta=0.04, **options):
    rollouts = rewarding.Rollouts(speaker, drill, size=16, **options)
    return rewarding.reinforce(rollouts, steps, beta=beta, **words_only(speaker, rate, steps))

rewarded = again(start)
run = practise(rewarded, practice)

# %% id="grpo-figure"
def smooth(values, width=8):
    return np.convolve(values, np.ones(width) / width, mode="valid")

fig, axes = plt.subplots(1, 3, figsize=(7, 2.2), layout="constrained")
for ax, name in zip(axes, ("reward", "entropy", "mixed")):
    ax.plot(smooth(run.metrics[name]), color=roles.learned)
    ax.set(title=name, xlabel="step, mean of 8")
figure(fig, alt="Over the steps the reward rises, the entropy falls, fewer groups are mixed")
first, last = ({name: np.mean(run.metrics[name][part]) for name in run.metrics}
               for part in (slice(0, 8), slice(-8, None)))
assert last["reward"] > first["reward"] and last["entropy"] < first["entropy"]
assert last["mixed"] < first["mixed"]

# %% [markdown] id="controls-intro" lang="en"
# The reward rises for some ten steps and then stays, and the method eats what it lives on: surer answers, fewer mixed groups. But was it **seeing** that was learned? Controls on questions of the exam. **Predict** the last line of the table.
#
# - **blind**: the same training, and exam, on grey pictures,
# - **imitation**: the same questions and steps, with the true answer told,
# - language: the perplexity of captions, which nobody rewarded.

# %% id="controls"
from vlmcourse.families.nano import caption_perplexity
from vlmcourse.speak import blinded
from vlmcourse.world import captions as captioning

grey = start.features(blinded(render(scenes.sample("test", 1))))
def without_eyes(drill):
    return drill._replace(features=grey[[0] * len(drill.features)])

blind, told = again(start), again(start)
practise(blind, without_eyes(practice))
truths = [(question, truth, "yes" if truth == "no" else "no")
          for question, truth in zip(practice.questions, practice.answers)]
lessons = preferring.pair_up(told, practice.features[practice.image], truths)
control = preferring.imitate(told, lessons, 40, 16, **words_only(told, 2e-4, 40))

# %% id="controls-found"
texts = captioning.captions(scenes.sample("test", 100), "full")

def examined(speaker, drill=exam):
    """(chance of the truth, share where it is likelier than not, perplexity of captions)"""
    chances = rewarding.chances_of_truth(speaker, drill)
    sure = (chances > 0.5).float().mean()
    return chances.mean().item(), sure.item(), caption_perplexity(speaker.model, texts)

prior = max(map(exam.answers.count, set(exam.answers))) / len(exam.answers)
results = {"nano-vlm": examined(start), "after GRPO": examined(rewarded),
           "after imitation": examined(told), "blind": examined(start, without_eyes(exam)),
           "blind, after GRPO": examined(blind, without_eyes(exam))}
tabulate(results, "exam", chance_of_truth=".1%", right=".1%", perplexity=".2f")
print(f"always the most frequent answer: {prior:.1%}")
assert results["after GRPO"][0] > results["nano-vlm"][0] + 0.03
assert abs(results["after GRPO"][1] - results["nano-vlm"][1]) < 0.08
assert results["blind, after GRPO"][1] < prior + 0.08
assert results["after GRPO"][2] < 1.2 * results["nano-vlm"][2]

# %% [markdown] id="controls-lesson" lang="en"
# After forty steps the model *draws* the truth more often, 86 % instead of 75 % in our run, and its **best guess** is right as often as before. The blind model learned as eagerly, and arrived at the most frequent answer, exactly. Imitation, at the same number of steps, hardly moved. Language stayed.
#
# Whoever reports a rising reward should show *chance of truth* and *right* beside each other, and a blind control below.
#
# Here are the answers themselves, eight to each of twelve questions. Choose **before**, then **after**: which groups have only one answer now?

# %% id="groups-browser"
from vlmcourse.widgets.browser import RowBrowser

twelve, rows, mixed_groups = list(range(12)), [], {}
for when, speaker in (("before", start), ("after", rewarded)):
    drawn = rewarding.Rollouts(speaker, practice, seed=1).draw(twelve)
    mixed_groups[when] = sum(len(set(group)) > 1 for group in drawn.rewards.tolist())
    for row, sampled in enumerate(drawn.rows.labels.tolist()):
        texts_of = speaker.words.spell([[t for t in one if t >= 0] for one in sampled])
        rows += [(when, row, text, reward, advantage) for text, reward, advantage in
                 zip(texts_of, drawn.rewards[row].tolist(), drawn.advantages[row].tolist())]
print("groups with right and wrong answers:", mixed_groups)
pictured = render(scenes.sample("train", 600, start=200_000, objects=(2, 4)))
RowBrowser([pictured[practice.image[row]] for _, row, *_ in rows],
           dict(question=[practice.questions[row] for _, row, *_ in rows],
                said=[text for _, _, text, *_ in rows]),
           dict(reward=[one[3] for one in rows], advantage=[one[4] for one in rows]),
           dict(when=[one[0] for one in rows]), title="Eight answers to each of twelve questions")

# %% [markdown] id="habit-intro" lang="en"
# ### A reward that a habit earns
#
# Why did the best guess not move? Comparisons have three forms: which of two things is **larger**, of which there are **more**, whether two have the **same colour**. **Predict:** which of them does `nano-vlm` answer worst, and is its guess there mostly "yes" or "no"?

# %% id="habit"
FORMS = ("larger", "more", "same colour")

def by_form(drill, values):
    """Mean of one value for each question, by the form of comparison."""
    return [np.mean([value for value, asked in zip(values, drill.questions) if form in asked])
            for form in FORMS]

compared = rewarding.drill_about(start, scenes.sample("test", 400, start=95_000), ["comparison"])
correct = (rewarding.chances_of_truth(start, compared) > 0.5).tolist()
no_is_true = [answer == "no" for answer in compared.answers]
# who is right where "no" is true says "no", and so does who is wrong where "yes" is
says_no = [true == good for true, good in zip(no_is_true, correct)]
by_forms = [by_form(compared, values) for values in (correct, says_no, no_is_true)]
tabulate(dict(zip(FORMS, zip(*by_forms))), "form", right=".0%", says_no=".0%", no_is_true=".0%")
print(f"all three together: {np.mean(correct):.0%} right")
assert by_forms[1][2] > 0.9 and abs(by_forms[0][2] - by_forms[2][2]) < 0.08

# %% id="habit-paid"
of_colour = compared.pick([n for n, asked in enumerate(compared.questions) if "colour" in asked])
is_no = torch.tensor([answer == "no" for answer in of_colour.answers])
by_truth = {}
for name, speaker in (("nano-vlm", start), ("after 40 steps", rewarded)):
    chances = rewarding.chances_of_truth(speaker, of_colour)
    by_truth[name] = (chances[is_no].mean().item(), chances[~is_no].mean().item())
tabulate(by_truth, "chance of the truth", where_it_is_no=".0%", where_it_is_yes=".0%")
(no_before, yes_before), (no_after, yes_after) = by_truth.values()
assert no_after > no_before + 0.1 and yes_after < yes_before - 0.1

# %% [markdown] id="habit-lesson" lang="en"
# *Same colour* it does not compare at all. Its best guess is "no" 99 times of 100, and right as often as "no" is true. All three together are 93 % right.
#
# So the guess had nowhere to go: a reward for truth **pays this habit**, since for five questions of six the truth is "no". After our forty steps, where "no" is true it became surer, 79 to 99 % in our run, and where "yes" is, it gave up, 24 to 3 %. The reward rose, and no colour was compared.
#
# The remedy is section 4's **twin**: no habit is right about both pictures. After 1,080 steps of rewards on twins alone, both were right in 72 % (its card keeps what was tried). It was a **shortcut**: of three things in two colours it called two alike in 68 % where they are, and in 63 % where they are not. It counted colours: the fewer, the more "yes". Two questions about **one** picture unmask that: one about things that share a colour, one about things that do not.
#
# And while hardly any answer comes from comparing, no reward can single those out. So the recipe `nano-grpo` **tells** first; large models get such a *cold start*, too (DeepSeek-AI 2025). From such twos alone, in 700 steps, it learns to compare, and forgets nearly all else; 1,320 steps among mostly usual lessons mend that. Then come 160 steps of rewards on twins and twos, with as many questions of other kinds for the divergence to hold. **Predict** who is right about both questions on one picture: after rewards on twins, after telling, and in the end?

# %% id="practised"
loaded = {name: load_vlm(name) for name in ("nano-vlm", "nano-grpo")}       # (model, its card)
grpo, card = Speaker(loaded["nano-grpo"][0]), loaded["nano-grpo"][1]
twins = rewarding.drill_of_twins(start, scenes.sample("test", 150, start=96_000), ["comparison"])
batch = scenes.sample("test", 300, start=98_000)
of_one = rewarding.drill_of_contrasts(start, batch, ["comparison"])         # twice about a picture
counts = rewarding.drill_about(start, scenes.sample("test", 200, start=97_000), ["count"])

def seeing(speaker):
    """Same colour: both of twins, both of one picture, as they come; more, counts, language."""
    right = [(rewarding.chances_of_truth(speaker, drill) > 0.5)
             for drill in (twins, of_one, compared, counts)]
    pairs, same_picture = (torch.logical_and(*one.chunk(2)).tolist() for one in right[:2])
    _, more, same = by_form(twins, pairs)           # zip ends with the pairs: the first half tells
    return (same, by_form(of_one, same_picture)[2], by_form(compared, right[2].tolist())[2],
            more, right[3].float().mean().item(), caption_perplexity(speaker.model, texts))

practised = {"nano-vlm": seeing(start), "after 40 steps": seeing(rewarded)}
practised |= {one["row"] + " (card)": one["seeing"] for one in card["tried"] if "row" in one}
practised["nano-grpo"] = seeing(grpo)
tabulate(practised, "model", twins=".0%", one_picture=".0%", as_they_come=".0%",
         more_twins=".0%", counts=".1%", perplexity=".2f")
measured = ("answers: comparison", "captions, all true and complete",
            "answers, new combinations: count")
by_card = {name: [each["metrics"][name] for _, each in loaded.values()] for name in measured}
tabulate(by_card, "by their cards", nano_vlm=".1%", nano_grpo=".1%")
before, briefly, on_twins, told_first, _ = practised.values()
assert before[1] < 0.1 and briefly[1] < 0.1 and on_twins[0] > 0.6 > 0.3 > on_twins[1]
assert min(told_first[:3]) > 0.9 and min(practised["nano-grpo"][:3]) > 0.9

# %% [markdown] id="practised-lesson" lang="en"
# *Same colour*, both questions about one picture: 0 for the habit, 14 % for the shortcut, all once it was **told** twos. The rewards then added little: *more* on twins from 48 to 52 %, where 1,080 steps on twins alone had brought 79. Three times as many, held less firmly, cost language: perplexity 6.3 (its card).
#
# *As they come*, without twins, the shortcut stands **below** the habit, 80 against 84 %. And `nano-grpo` compares better than `nano-vlm`, but captions and counts of new combinations (chapter 04) have paid. Chapter 00 keeps `nano-vlm`.

# %% [markdown] id="q-breaks" lang="en"
# ## 9 · Three ways to break it
#
# ### A reward for the form alone
#
# Rewards for the form are common: think between these tags, answer in one sentence.
#
# ### Your turn: `format_reward` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `reply`, `instruction` | texts |
# | out | 1.0 if the reply has the form that was asked for, 0.0 otherwise |
#
# An instruction that **ends** with `SENTENCE` (from `vlmcourse.world.grammar`: `" Answer in a sentence."`) wants a first letter that is a capital (a digit is none), more than two words, and exactly one full stop, at the end. Any other instruction wants one or two words and no full stop.

# %% id="format_reward"
@exercise(rewards.format_reward)
def format_reward(reply, instruction):
    """"Yes, there is a star.", "Is there a star? Answer in a sentence." -> 1.0"""
    # 1. words   2. which form?   3. all conditions of it, as a float; mind the empty reply
    raise NotImplementedError

# %% id="form-alone"
def in_form(reply, truth, question):
    return format_reward(reply, question)

formed = rewarding.Rollouts(again(start), practice, in_form).draw(list(range(48)))
truly = rewarding.Rollouts(again(start), practice).draw(list(range(48)))    # the same dice
print(f"reward for the form {formed.rewards.mean():.2f}, true are {truly.rewards.mean():.0%}; "
      f"largest advantage {formed.advantages.abs().max():.1f}")
assert formed.rewards.mean() > 0.97 and truly.rewards.mean() < 0.9

# %% [markdown] id="form-lesson" lang="en"
# A perfect reward from the first step on, and more than one answer in four is wrong. The curve looks like success.
#
# ### Advantage without the mean
#
# "Praise what was right, and leave the rest alone": rewards divided by their deviation, no mean. **Predict** the advantages of a group that is all right.

# %% id="no-mean"
def without_mean(rewards):
    return rewards / (rewards.std(dim=1, keepdim=True) + policy.NEVER_ZERO)

mixed = truly.rewards.amax(dim=1) > truly.rewards.amin(dim=1)
weight = {name: rule(truly.rewards).abs().sum(dim=1) for name, rule in
          (("with the mean", group_advantages), ("without", without_mean))}
share = {name: (each[mixed].sum() / each.sum()).item() for name, each in weight.items()}
tabulate(share, "advantage", weight_of_mixed_groups=".1%")
assert share["with the mean"] > 0.99 and share["without"] < 0.05

# %% [markdown] id="no-mean-lesson" lang="en"
# Where all is right the deviation is 0: one divided by the small number that is added, 0.0001, makes ten thousand for each answer. To groups that could teach something 0.1 % of the weight is left.
#
# ### The reference moves along
#
# The last one is a single line: the reference is not a copy but **the model itself**. Then the divergence is 0 at every step, and β times 0 bounds nothing. We take a rate that is too high, and the same large β twice.

# %% id="moves-along"
held, loose = again(start), again(start)
kept = practise(held, practice, steps=20, rate=2e-3, beta=1.0, repeats=1)
rollouts = rewarding.Rollouts(loose, practice, size=16, repeats=1)   # new answers for every step
rollouts.reference = loose.model                                  # no copy: it moves along
lost = rewarding.reinforce(rollouts, 20, beta=1.0, **words_only(loose, 2e-3, 20))

# %% id="moves-along-found"
broken = {}
for name, speaker, one in (("reference kept", held, kept), ("reference moves along", loose, lost)):
    numbers = (np.mean(one.metrics[which][-5:]) for which in ("divergence", "reward", "entropy"))
    broken[name] = (*numbers, caption_perplexity(speaker.model, texts))
tabulate(broken, "20 steps", divergence_shown=".3f", reward=".2f", entropy=".3f", perplexity=".1f")
(_, _, spread, surprise), (shown_gap, _, sure, worse_off) = broken.values()
assert shown_gap < 1e-4 and sure < 0.5 * spread and worse_off > 1.2 * surprise

# %% [markdown] id="moves-lesson" lang="en"
# It reports a divergence of 0.000, the best there is. Its entropy has collapsed, and captions, which nobody rewarded or punished, are falling apart: perplexity 7.6 in our run, where the model that was held kept its 5.0. The two rewards are equal, and no better than at the start. So measure something that nobody rewards beside every reward.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Hallucination can be taught: texts that name what the model cannot see. So it can be untaught, by pairs that only looking tells apart.
# 2. DPO compares gains against a frozen reference; it pushes the worse answer away more than it lifts the better one.
# 3. A preference for length is learned as readily as one for truth, and no training curve tells the two apart.
# 4. GRPO holds an answer against its group: what is unsure becomes sure; equal groups teach nothing; a blind model stays at the prior. A reward pays habits and shortcuts, too.
# 5. A reward bounds only what it looks at. The reference holds the rest, if it stays where it was.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("20_preferences_and_rewards/1")

# %% id="quiz-2"
quiz("20_preferences_and_rewards/2")

# %% id="quiz-3"
quiz("20_preferences_and_rewards/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Rafailov et al. 2023, *Direct Preference Optimization*, [arXiv:2305.18290](https://arxiv.org/abs/2305.18290): section 4, equation 7.
# - Zhou et al. 2024, *Aligning Modalities in Vision Large Language Models via Preference Fine-tuning* (POVID), [arXiv:2402.11411](https://arxiv.org/abs/2402.11411). Yu et al. 2023, *RLHF-V*, [arXiv:2312.00849](https://arxiv.org/abs/2312.00849). Against hallucination: answers spoiled on purpose, and answers corrected by people.
# - Li et al. 2023, *Evaluating Object Hallucination in Large Vision-Language Models* (POPE), [arXiv:2305.10355](https://arxiv.org/abs/2305.10355): section 5.1. Rohrbach et al. 2018, *Object Hallucination in Image Captioning* (CHAIR), [arXiv:1809.02156](https://arxiv.org/abs/1809.02156): section 2.1.
# - Singhal et al. 2023, *A Long Way to Go: Investigating Length Correlations in RLHF*, [arXiv:2310.03716](https://arxiv.org/abs/2310.03716).
# - Schulman et al. 2017, *Proximal Policy Optimization Algorithms*, [arXiv:1707.06347](https://arxiv.org/abs/1707.06347): equation 7, the clip.
# - Shao et al. 2024, *DeepSeekMath*, [arXiv:2402.03300](https://arxiv.org/abs/2402.03300): section 4.1, GRPO. Yu et al. 2025, *DAPO*, [arXiv:2503.14476](https://arxiv.org/abs/2503.14476): section 3.2, dynamic sampling. DeepSeek-AI 2025, *DeepSeek-R1*, [arXiv:2501.12948](https://arxiv.org/abs/2501.12948): section 2.3.1, cold start. Liu et al. 2025, *Understanding R1-Zero-Like Training* (Dr. GRPO), [arXiv:2503.20783](https://arxiv.org/abs/2503.20783): why not to divide by the deviation.
