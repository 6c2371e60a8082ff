"""Exercises of chapter 20: how likely an answer is, preferences, advantages, small steps, rewards."""

import torch

from vlmcourse.evaluation import rewards
from vlmcourse.exercises.base import chapter
from vlmcourse.models.language import IGNORED
from vlmcourse.training import policy, preferences

exercise, quiz = chapter("20_preferences_and_rewards")

# what many slips change
_MEAN = "rewards.mean(dim=1, keepdim=True)"
_STD = "rewards.std(dim=1, keepdim=True)"
_MARGIN = "(chosen - reference_chosen) - (rejected - reference_rejected)"
_EQUAL = "normalise_answer(reply) == normalise_answer(answer)"
_SMALLER = "torch.minimum(ratio * advantages[:, None], near * advantages[:, None])"
_MEANS = "((loss * mask).sum(dim=1) / mask.sum(dim=1)).mean()"


def _labelled(*shape: int, words: int) -> tuple:
    """Scores, and labels that skip the first place, one in the middle and the last of some rows."""
    labels = torch.randint(1, words, shape)
    labels[..., 2] = 0  # the first word of the vocabulary is a word
    rows = labels.view(-1, shape[-1])
    rows[0, 0], rows[-1, 3:], rows[0, 3] = IGNORED, IGNORED, IGNORED
    return torch.randn(*shape, words), labels


exercise(preferences.token_log_probabilities, gradient=("logits",),
    axes={"logits": "question answer token vocabulary", "labels": "question answer token",
          "return": "question answer next"},
    cases=lambda: [
        _labelled(2, 3, 5, words=7),
        _labelled(3, 5, words=8),
        (2 * torch.randn(3, 6, 11).bfloat16(), torch.tensor([[IGNORED, 3, 10, 0, 5, 1], [IGNORED] * 6,
                                                             [4, IGNORED, 2, 2, IGNORED, 9]])),
        _labelled(7, words=5),
        (torch.tensor([[3.0, 250, -30, 1], [40, -120, 5, 0], [1, 2, 3, 4]]), torch.tensor([2, 0, 1])),
    ],
    slips=[
        (("labels[..., 1:]", "labels"), ("logits[..., :-1, :]", "logits"),
         "nothing is shifted, so every token is read off its own place, and there is a place too many; "
         "the scores at a place speak of the token behind it."),
        (("labels[..., 1:]", "labels[:, 1:]"), ("logits[..., :-1, :]", "logits[:, :-1]"),
         "the second axis is cut, whatever it is; tokens are the last axis of the labels, and the last but "
         "one of the scores."),
        ("labels[..., 1:]", "labels[..., :-1]",
         "scores and token of one place are put together; the scores at a place speak of the "
         "token behind it."),
        ("logits[..., :-1, :]", "logits[..., 1:, :]",
         "a token is read off its own place, where the model has read it already; take the place before."),
        ("log_softmax(dim=-1)", "softmax(dim=-1)",
         "these are probabilities; their logarithms are asked for, whose sum is that of the whole answer."),
        ("log_softmax(dim=-1)", "softmax(dim=-1).log()",
         "far down a probability is 0 in float32 and its logarithm minus infinity; `log_softmax` computes "
         "both at once."),
        (".float().log_softmax(dim=-1)", ".float()",
         "raw scores are read off; they become log-probabilities over the vocabulary first."),
        ("log_softmax(dim=-1)", "log_softmax(dim=-2)",
         "the softmax runs over the places; it runs over the vocabulary."),
        ("return chosen.masked_fill(~learned, 0.0)", "return chosen",
         "where nothing is to be predicted stands a log-probability of token 0; put 0 there."),
        ("return chosen.masked_fill(~learned, 0.0)", "return chosen.masked_fill(~learned, 0.0).sum(dim=-1)",
         "the sum is taken; one number for each token is asked for."),
        ("return chosen", "return -chosen",
         "the sign is that of a loss; a log-probability is never positive."),
        (".float()", "", "all is computed in the 16 bits of the scores; turn them into float32 first."),
        ("following != IGNORED", "following > 0",
         "token 0 is taken for nothing; only -100 says that nothing is to be predicted."),
        ("chosen.masked_fill(~learned, 0.0)",
         "chosen.masked_fill(~learned, 0.0) / learned.sum(dim=-1, keepdim=True).clamp(min=1)",
         "it is divided by the length of the answer; that is no log-probability any more."),
        ("masked_fill(~learned, 0.0)", 'masked_fill(~learned, float("-inf"))',
         "where nothing is to be predicted stands minus infinity, and so in every sum; put 0 there."),
        ("everything.gather(-1, following.masked_fill(~learned, 0)[..., None])[..., 0]",
         "everything.amax(dim=-1)",
         "the log-probability of the likeliest token is read off; that of the answer's token is asked for."),
        ("log_softmax(dim=-1)", "log_softmax(dim=-1) / 0.6931471805599453",
         "these are bits, logarithms to base 2; nats are asked for, the natural ones."),
    ],
    hints=["The scores at place t speak of the token at place t + 1. So one list loses its last place, the "
           "other its first.",
           "`logits[..., :-1, :].float().log_softmax(-1)`, then `gather` at `labels[..., 1:]`. -100 is no "
           "place of the vocabulary: read off token 0 there, and put 0 over it afterwards."],
)


def _judged(pairs: int, beta: float, spread: float = 3.0) -> tuple:
    return (*(-10 + spread * torch.randn(4, pairs)).unbind(), beta)


exercise(preferences.dpo_loss, gradient=("chosen", "rejected"),
    cases=lambda: [
        _judged(5, 0.1),
        _judged(3, 0.7),
        _judged(7, 2.0, spread=1.0),
        (torch.tensor([-900.0, -4, -3]), torch.tensor([-8.0, -5, -9]), torch.tensor([-10.0, -6, -3.5]),
         torch.tensor([-7.0, -5.5, -8]), 0.5),
    ],
    slips=[
        (_MARGIN, "chosen - rejected",
         "the reference is left out; what counts is how much each answer gained against it."),
        (_MARGIN, "(rejected - reference_rejected) - (chosen - reference_chosen)",
         "the margin has the wrong sign, as if chosen and rejected were exchanged: the worse answer would "
         "become likelier."),
        (_MARGIN, "chosen - reference_chosen",
         "only the chosen answer counts; the gain of the rejected one is taken off."),
        (") - (rejected", ") + (rejected", "the gains are added; the margin is their difference."),
        (_MARGIN, "(chosen - reference_rejected) - (rejected - reference_chosen)",
         "the two references are exchanged; each answer is held against its own."),
        ("beta * margin", "margin", "beta is missing."),
        ("beta * margin", "margin / beta", "the margin is divided by beta; it is multiplied."),
        ("-F.logsigmoid(beta * margin)", "-F.sigmoid(beta * margin)",
         "the logarithm is missing: -log σ, not -σ."),
        ("-F.logsigmoid", "F.logsigmoid", "the sign is missing; a loss falls where the margin grows."),
        (".mean()", ".sum()", "pairs are summed; the mean over them is asked for."),
        (".mean()", "", "one loss for each pair comes out; the mean over them is asked for."),
        ("beta * margin", "beta * margin.mean()",
         "margins are averaged before the loss is taken; each pair has a loss of its own."),
        ("-F.logsigmoid(beta * margin).mean()", "-(beta * margin).sigmoid().log().mean()",
         "for a margin far below 0 the loss is infinite: σ becomes 0 in float32, or the power of e too "
         "large; `F.logsigmoid` computes all at once."),
        (_MARGIN, "chosen / reference_chosen - rejected / reference_rejected",
         "log-probabilities are divided; a gain is the logarithm of a ratio, so it is their difference."),
        (_MARGIN, "(chosen / reference_chosen).log() - (rejected / reference_rejected).log()",
         "the logarithm is taken twice; these are logarithms already, and a gain is their difference."),
        (_MARGIN, "(chosen - reference_chosen).exp() - (rejected - reference_rejected).exp()",
         "these are ratios of probabilities; a gain is the logarithm of one, so nothing is raised to a "
         "power."),
        ("-F.logsigmoid(beta * margin)", "-beta * F.logsigmoid(margin)",
         "beta stands before the logarithm; it belongs inside σ, where it multiplies the margin."),
        ("-F.logsigmoid(beta * margin)", "F.logsigmoid(-beta * margin)",
         "the minus stands inside σ; it belongs before the logarithm."),
        ("-F.logsigmoid(beta * margin)",
         "-(F.logsigmoid(beta * (chosen - reference_chosen)) + "
         "F.logsigmoid(-beta * (rejected - reference_rejected)))",
         "each of the two gains has a loss of its own; first they meet in one margin."),
        ("-F.logsigmoid(beta * margin)", "(1 - F.sigmoid(beta * margin))",
         "this is 1 - σ, which hardly grows where the margin is far too low; the loss is -log σ."),
        ("-F.logsigmoid(beta * margin)", "((margin - 1 / (2 * beta)) ** 2)",
         "this is another loss, the square of IPO; DPO's is -log σ(beta · margin)."),
        ("-F.logsigmoid(beta * margin)", "-F.logsigmoid(beta * margin.clamp(min=0))",
         "margins below 0 are cut off; those are the pairs from which most is learned."),
        ("-F.logsigmoid(beta * margin)", "(1 - beta * margin).clamp(min=0)",
         "this is a hinge, as in SLiC; DPO's loss is -log σ(beta · margin)."),
        (_MARGIN, "(chosen - rejected) - (reference_chosen - reference_rejected) / beta",
         "beta weighs the model alone; it weighs the whole margin, reference and all."),
    ],
    hints=["Two gains, each model less reference; the margin is the chosen one's less the rejected one's.",
           "`-F.logsigmoid(beta * margin).mean()`."],
)

exercise(policy.group_advantages,
    cases=lambda: [
        (torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]]),),
        (torch.rand(5, 3),),
        (torch.tensor([[0.0, 0.001, 0.003], [0.0, 0.0, 0.0]]),),
        (torch.tensor([[2e-5, 0.0, 4e-5, 1e-5], [1.0, 0.0, 1.0, 0.0]]),),
        (7 * torch.randn(2, 9) + 5,),
    ],
    slips=[
        ("rewards - rewards.mean(dim=1, keepdim=True)", "rewards",
         "the mean is not taken off: where all are right, all are praised."),
        (_MEAN, "rewards.mean()",
         "the mean of all questions is taken off; each answer is held against those to its own question."),
        (_MEAN, "rewards.mean(dim=0, keepdim=True)",
         "the mean runs over the questions; it runs over the answers to one."),
        ((_MEAN, "rewards.mean()"),
         (_STD, "rewards.std()"),
         "mean and deviation are those of all rewards; each question has a group with its own."),
        ((_MEAN, "rewards.mean(dim=0, keepdim=True)"),
         (_STD, "rewards.std(dim=0, keepdim=True)"),
         "mean and deviation run over the questions; they run over the answers to one."),
        (_STD, "rewards.std()", "it is divided by the deviation of all rewards; each group has its own."),
        (_STD, "rewards.std(dim=0, keepdim=True)",
         "the deviation runs over the questions; it runs over the answers to one."),
        ("return better / (rewards.std(dim=1, keepdim=True) + NEVER_ZERO)", "return better",
         "the deviation is missing. Dr. GRPO leaves it out on purpose; GRPO divides by it."),
        (_STD, "rewards.var(dim=1, keepdim=True)",
         "it is divided by the variance; divide by its root, the standard deviation."),
        (_STD, "rewards.std(dim=1, keepdim=True, correction=0)",
         "the deviation is divided by n; here it is by n - 1, as torch does."),
        (" + NEVER_ZERO", "", "a group of equal rewards is divided by 0; add 1e-4 to the deviation."),
        ("(rewards.std(dim=1, keepdim=True) + NEVER_ZERO)",
         "rewards.std(dim=1, keepdim=True).clamp(min=NEVER_ZERO)",
         "the deviation is held above 1e-4; the 1e-4 is added to every one of them."),
        ("return better / (rewards.std(dim=1, keepdim=True) + NEVER_ZERO)",
         "return (better / rewards.std(dim=1, keepdim=True)).nan_to_num(0.0)",
         "only groups of equal rewards are kept from 0 / 0; add 1e-4 to every deviation."),
        ("+ NEVER_ZERO", "+ 1e-8", "1e-8 is added to the deviation; 1e-4 is asked for."),
        ("(rewards.std(dim=1, keepdim=True) + NEVER_ZERO)",
         "(rewards.var(dim=1, keepdim=True) + NEVER_ZERO).sqrt()",
         "the 1e-4 is added to the variance; it is added to the deviation."),
        (_MEAN, "rewards.amax(dim=1, keepdim=True)",
         "the best reward is taken off, so nothing is praised; take off the mean."),
        (_MEAN, "rewards.median(dim=1, keepdim=True).values", "the median is taken off; it is the mean."),
        ("rewards - rewards.mean(dim=1, keepdim=True)",
         "rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)",
         "the mean of the *others* is taken off, as in RLOO; GRPO takes off that of the whole group."),
        ("rewards - rewards.mean(dim=1, keepdim=True)", "rewards.mean(dim=1, keepdim=True) - rewards",
         "the sign is the wrong way round: what was good would become less likely."),
        ("+ NEVER_ZERO", "+ 100 * NEVER_ZERO", "what is added to the deviation is not 1e-4."),
    ],
    hints=["What could have been expected of an answer? What the others to the same question earned.",
           "Mean and `std` along axis 1 with `keepdim=True`; add 1e-4 to the deviation, so that "
           "equal rewards give 0 and not 0 / 0."],
)


def _sampled(samples: int, tokens: int, clip: float, beta: float) -> tuple:
    """Log-probabilities that have moved on both sides of the clip; behind the mask there is rubbish."""
    before, reference = -2 * torch.rand(2, samples, tokens)
    now = before + 0.5 * torch.randn(samples, tokens)
    lengths = torch.arange(samples) % tokens + 1
    mask = torch.arange(tokens) < lengths[:, None]
    advantages = torch.randn(samples) + torch.tensor([1.5, -1.5]).repeat(samples)[:samples]
    return now, before, reference, advantages, mask, clip, beta


def _moved_far() -> tuple:
    """Ratios from 0.1 to 7, advantages of both signs, some of them small."""
    moved = torch.tensor([[2.0, -2.2, 0.1], [1.9, -2.3, -0.1], [0.3, 0.9, 0], [-1.8, 5, 0], [-2.0, 0.4, 6]])
    before = torch.tensor([[-2.5, -1, -0.5], [-2, -0.2, -1], [-1, -1.5, -7], [-0.3, -9, -1], [-1, -2, -8]])
    reference = before + torch.tensor([0.5, -0.2, 0.1])
    advantages = torch.tensor([0.3, -0.4, -0.2, 1.2, -1.5])
    mask = torch.tensor([3, 3, 2, 1, 2])[:, None] > torch.arange(3)
    return before + moved, before, reference, advantages, mask, 0.2, 0.5


exercise(policy.policy_loss, gradient=("now",),
    cases=lambda: [
        _sampled(4, 3, 0.2, 0.04),
        _sampled(6, 5, 0.1, 1.0),
        _sampled(3, 7, 0.3, 0.0),
        _moved_far(),
    ],
    slips=[
        ("torch.exp(now - before)", "torch.exp(before - now)",
         "the ratio is upside down: it says how much likelier a token is now than before."),
        ("torch.exp(now - before)", "now - before",
         "this is the logarithm of the ratio; take its exponential."),
        ("torch.exp(now - before)", "torch.exp(now - reference)",
         "the ratio is held against the reference; it is held against the model that drew the samples."),
        ("torch.exp(now - before)", "torch.exp(now - now.detach())",
         "the ratio is always 1, so nothing is ever clipped; `before` does not move along."),
        ("torch.exp(now - before)", "torch.exp(now)",
         "the probability stands for the ratio; what the samples were drawn with is left out."),
        ("torch.minimum", "torch.maximum",
         "the larger of the two gains is taken; the smaller one is the cautious one."),
        (_SMALLER, "ratio * advantages[:, None]", "nothing is clipped: one step may go as far as it likes."),
        (_SMALLER, "near * advantages[:, None]",
         "only the clipped gain counts; a token that went the wrong way is never brought back."),
        (_SMALLER, "torch.minimum(ratio, near) * advantages[:, None]",
         "the minimum is taken before the advantage; with a negative one the smaller ratio is the bolder."),
        (_SMALLER, "torch.where(ratio == near, ratio, 0) * advantages[:, None]",
         "a token whose ratio has left the clip earns nothing; the smaller of its two gains counts."),
        ("ratio.clamp(1 - clip, 1 + clip)", "ratio.clamp(max=1 + clip)",
         "only upwards it is clipped; the ratio may not fall below 1 - clip either."),
        ("ratio.clamp(1 - clip, 1 + clip)", "ratio.clamp(min=1 - clip)",
         "only downwards it is clipped; the ratio may not rise above 1 + clip either."),
        ("ratio.clamp(1 - clip, 1 + clip)", "ratio.clamp(-clip, clip)",
         "the ratio is held near 0; nothing has changed where it is 1."),
        ("back = reference - now", "back = now - reference",
         "the divergence runs the other way; its estimate has `reference - now` in the exponent."),
        ("back = reference - now", "back = before - now",
         "the divergence is measured from the model that drew the samples; it is that from the very start."),
        ("torch.exp(back) - back - 1", "torch.exp(back) - back",
         "the 1 is missing; at the reference itself the divergence is 0."),
        ("torch.exp(back) - back - 1", "-back",
         "this estimate of the divergence is negative at times; the one asked for never is."),
        ("torch.exp(back) - back - 1", "back**2 / 2",
         "this is another estimate, half the square; it is `exp(back) - back - 1`."),
        ("beta * divergence - gain", "-beta * divergence - gain",
         "leaving the reference is rewarded; it costs."),
        ("beta * divergence - gain", "gain - beta * divergence",
         "the sign is that of a gain; a loss falls where the gain grows."),
        ("beta * divergence - gain", "divergence - gain", "beta is missing."),
        ("beta * divergence - gain", "-gain", "the divergence from the reference is missing."),
        (_MEANS, "loss.mean()", "padding counts, too; only tokens of the answer do."),
        (_MEANS, "(loss * mask).mean()",
         "it is divided by all places; each sample has its own number of tokens."),
        (_MEANS, "(loss * mask).sum() / mask.sum()",
         "all tokens count alike, as in DAPO; here each sample has a mean of its own first."),
        (_MEANS, "(loss * mask).sum(dim=1).mean()",
         "tokens are summed, so long answers weigh more; take the mean over each answer's tokens."),
        (".mean()", ".sum()", "samples are summed; the mean over them is asked for."),
        (".mean()", "", "one loss for each sample comes out; the mean over them is asked for."),
        ("ratio = torch.exp(now - before)",
         "ratio = torch.exp(((now - before) * mask).sum(dim=1, keepdim=True) / "
         "mask.sum(dim=1, keepdim=True)) + 0 * now",
         "one ratio stands for the whole answer, as in GSPO; here every token has its own."),
    ],
    hints=["Token by token first: ratio, the two gains and the smaller of them, the divergence. Means last.",
           "`advantages[:, None]` meets every token of its sample. The mean over tokens is "
           "`(loss * mask).sum(1) / mask.sum(1)`, then `.mean()` over samples."],
)

exercise(rewards.truth_reward,
    cases=lambda: [
        ("red", "red"), ("RED", "red"), ("Red.", "red"), ("blue", "red"), ("two", "2"), ("2", "Two"),
        ("2 or 3", "2"), ("12", "2"), ("", "2"), ("top", "top left"), ("top left", "top"),
        ("The star", "star"),
        ("star", "a star."), ("left top", "top left"), ("no", "yes"), ("yes yes", "yes"),
        ("Yes, there is a star.", "yes, there is a star"), ("yes no", "no"),
        ("on", "no"), ("yes", "red"), ("red", "Red"), ("star red", "red star"), ("no yes", "no"),
    ],
    slips=[
        (_EQUAL, 'reply.lower().strip(".") == answer.lower().strip(".")',
         "articles and number words count here; `normalise_answer` knows them."),
        (_EQUAL, "reply.lower() == answer.lower()",
         "only capitals are forgiven; full stops, articles and number words are, too."),
        (_EQUAL, "reply == answer",
         "letter for letter is asked too much: \"Red.\" says red, \"two\" says 2; normalise both."),
        (_EQUAL, "normalise_answer(answer) in normalise_answer(reply)",
         "whoever says everything is always right here: \"2 or 3\" holds the 2. The whole reply "
         "is compared."),
        (_EQUAL, "normalise_answer(reply) in normalise_answer(answer)",
         "a part of the answer is enough, even none of it: \"\" stands in every answer."),
        (_EQUAL, "normalise_answer(answer) in normalise_answer(reply).split()",
         "one word among others is enough: \"yes no\" holds both answers. The whole reply is compared."),
        (_EQUAL, "normalise_answer(reply).startswith(normalise_answer(answer))",
         "only the beginning is compared; a reply that goes on is another answer."),
        (_EQUAL, "normalise_answer(reply).endswith(normalise_answer(answer))",
         "only the end is compared; what stands before it belongs to the reply."),
        (_EQUAL, "normalise_answer(reply).split()[:1] == normalise_answer(answer).split()[:1]",
         "only the first words are compared; the whole reply is to say the answer."),
        (_EQUAL, "set(normalise_answer(reply).split()) & set(normalise_answer(answer).split()) != set()",
         "one word in common is enough here; the whole reply is compared."),
        (_EQUAL, "set(normalise_answer(reply).split()) >= set(normalise_answer(answer).split())",
         "the reply may say more than the answer here, and in any order; the texts must be equal."),
        (_EQUAL, "normalise_answer(reply) == answer",
         "the answer stays as it was written; normalise it, too."),
        (_EQUAL, "reply == normalise_answer(answer)",
         "the reply stays as it was written; normalise it, too."),
        (_EQUAL, "sorted(normalise_answer(reply).split()) == sorted(normalise_answer(answer).split())",
         "the order of words is lost; \"left top\" is no place of ours."),
        (_EQUAL, "set(normalise_answer(reply).split()) == set(normalise_answer(answer).split())",
         "words are compared as sets, so one may come twice, and in any order; compare the texts."),
        ("float(normalise_answer(reply) == normalise_answer(answer))",
         "2.0 * (normalise_answer(reply) == normalise_answer(answer)) - 1",
         "a wrong answer earns -1; it earns 0."),
        ("float(normalise_answer(reply) == normalise_answer(answer))",
         "float(normalise_answer(reply) != normalise_answer(answer))",
         "right and wrong are exchanged: what is true earns 0, all else 1."),
    ],
    hints=["Chapter 13 has a function that makes \"Red.\" and \"red\" equal.",
           "`float(normalise_answer(reply) == normalise_answer(answer))`."],
)

_WISH = "Is there a red star? Answer in a sentence."

exercise(rewards.format_reward,
    cases=lambda: [
        ("Yes, there is a star.", _WISH), ("Blue cats fly.", _WISH), ("yes, there is a star.", _WISH),
        ("Yes, there is a star", _WISH), ("Yes. There is. A star.", _WISH), ("Yes sir.", _WISH),
        ("Yes.", _WISH), ("yes", _WISH), ("", _WISH), ("Yes. there is a star", _WISH),
        ("4 things are here.", _WISH), ("Yes, There Is A Star.", _WISH), ("YES IT IS.", _WISH),
        ("No, it is not!", _WISH),
        ("yes", "Is there a star?"), ("top left", "Where is it?"), ("at the top left", "Where is it?"),
        ("Left", "Where is it?"), ("left.", "Where is it?"), ("", "Where is it?"), (" ", "Where is it?"),
        ("It is red.", "Answer in a sentence. What colour is it?"), ("red", "What colour is the sentence?"),
        ("dark blue", "Answer in a sentence. What colour is it?"), ("a b c", "Where is it?"),
        ("It is red.", "Look. Answer in a sentence. What colour is it?"),
        ("red", "Look. Answer in a sentence. Now?"), ("red. blue", "Where is it?"), (".", "Where is it?"),
        ("yes, there is a Star.", _WISH), ("Yes, there is a star...", _WISH),
    ],
    slips=[
        ("instruction.endswith(SENTENCE)", "SENTENCE in instruction",
         "the wish for a sentence counts wherever it stands; it counts at the end of the instruction."),
        ("instruction.endswith(SENTENCE)", "SENTENCE.strip() in instruction",
         "the wish for a sentence counts at the beginning and in the middle, too; it counts at the end."),
        ("instruction.endswith(SENTENCE)", '"sentence" in instruction',
         "the mere word \"sentence\" is taken for the wish; the instruction must end with it."),
        ("instruction.endswith(SENTENCE)", "False",
         "the wish for a sentence is not heard; one word is enough everywhere."),
        ("instruction.endswith(SENTENCE)", "True",
         "a sentence is wanted everywhere; without the wish one or two words are right."),
        ("len(words) > 2 and ", "reply and ",
         "one word with a full stop passes for a sentence; it has more than two."),
        ("len(words) > 2 and ", "len(words) > 1 and ",
         "two words pass for a sentence; it has more than two."),
        ("len(words) > 2 and ", "len(words) > 3 and ",
         "a sentence of three words is refused; more than two are enough."),
        (" and reply[0].isupper() and", " and", "the capital at the beginning is not looked at."),
        ("reply[0].isupper()", "reply[0] == reply[0].upper()",
         "a digit passes for a capital letter; it is none."),
        ("reply[0].isupper()", "any(letter.isupper() for letter in reply)",
         "a capital anywhere is enough; the first letter must be one."),
        ("reply[0].isupper()", "reply == reply.capitalize()",
         "`capitalize` also makes all other letters small, and lets a digit begin; only the first letter "
         "is asked about."),
        ("len(words) > 2 and reply[0].isupper()", "reply[0].isupper() and len(words) > 2",
         "an empty reply has no letter to look at, first or last, and stops with an error; it earns 0."),
        ("reply[0].isupper()", "reply.istitle()", "every word needs a capital here; only the first does."),
        ("reply[0].isupper()", "reply[0].isupper() and not reply[1].isupper()",
         "capitals behind the first are refused; nothing is said of them."),
        ('reply.count(".") == 1 and ', "", "several full stops pass; a sentence has one."),
        (' and reply.endswith(".")', "", "the full stop may stand anywhere; it stands at the end."),
        ('reply.count(".") == 1', '"." not in reply.rstrip(".")',
         "several full stops at the end pass; there is exactly one."),
        ('reply.count(".") == 1 and reply.endswith(".")',
         'reply.endswith((".", "!", "?")) and reply.count(".") < 2',
         "a sentence may end with another mark here; it ends with a full stop."),
        ("0 < len(words) <= 2", "len(words) <= 2",
         "an empty reply earns a reward; silence would be the easiest answer of all."),
        ("0 < len(words) <= 2", "len(words) == 1", "\"top left\" has two words, and is a good answer."),
        ("0 < len(words) <= 2", "0 < len(words) <= 3", "three words are let through; two are the most."),
        ("0 < len(words) <= 2", "0 < len(reply) and len(words) <= 2",
         "a reply of a space alone passes; count words."),
        (' and "." not in reply', "", "a short answer has no full stop."),
        ('"." not in reply', 'not reply.endswith(".")',
         "only the end of a short answer is looked at; it has no full stop anywhere."),
        ("len(words) <= 2", "len(words) <= 2 and reply.islower()",
         "a short answer may begin with a capital; nothing is said of it."),
    ],
    hints=["Two forms: which of them is asked for stands at the end of the instruction, in `SENTENCE`.",
           "Words are `reply.split()`. A sentence: more than two of them, `reply[0].isupper()`, "
           "one full stop, "
           "and it is last. Else: one or two words, and no full stop."],
)

quiz(1, "A model says \"yes\" to everything. You train it by DPO on pairs \"no\" over \"yes\" about things "
        "that are not there, and on nothing else. What do you get?", [
    ("A model that looks: to see that something is missing one has to look.", False,
     "Nothing in these pairs asks for it. In all of them \"no\" is better, whatever the picture shows."),
    ("A model that says \"no\" to everything.", True,
     "That earns as much. Only pairs of twins, in which each picture prefers another answer, need the eye."),
    ("Nothing, since the reference holds it where it was.", False,
     "The reference makes it dear to go further than needed; it does not forbid a habit."),
])
quiz(2, "Sampled answers of one group: all eight are right. What does GRPO learn from them?", [
    ("To say the same next time, for it was right eight times.", False,
     "The mean is taken off. Praise for all is praise for none."),
    ("Nothing: every advantage is 0, and only the divergence from the reference has a gradient.", True,
     "The same is true of eight wrong answers. So questions are chosen that a model is unsure about."),
    ("To be surer, since the entropy of right answers falls.", False,
     "Entropy falls in mixed groups, where one answer wins over another. Here none does."),
])
quiz(3, "Your reward says: answered in one sentence, with a capital and a full stop. It rises to 1. "
        "What do you know of the answers?", [
    ("That they are sentences, and nothing else.", True,
     "In section 9 such a reward was perfect while answers were wrong. It says nothing of what it does "
     "not look at."),
    ("That they are at least as true as before, because the reference was kept near.", False,
     "Near is measured in probability. One token that turns yes into no is a short way."),
    ("That the model understands the instruction better and so is right more often.", False,
     "It may be. Measure it; the reward did not."),
])
