"""Wrong answers to the exercises of chapter 10."""

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong


@wrong("blip.hard_negatives", "always the most similar text is taken")
def hardest_of_all(similarity, dice):
    """The most similar other text, whatever the dice."""
    scores = similarity.clone()
    for i in range(len(scores)):
        scores[i, i] = -float("inf")
    return scores.max(dim=1).indices


@wrong("blip.hard_negatives", "a pair's own text can be drawn as its negative")
def own_text_among_them(similarity, dice):
    """The own text has its chance, too."""
    ends = F.softmax(similarity, dim=-1).cumsum(-1)
    ends = ends / ends[:, -1:]
    return (dice.unsqueeze(-1) >= ends).sum(-1)


@wrong("blip.hard_negatives", "the others no longer sum to 1")
def taken_out_too_late(similarity, dice):
    """No chance for the own text, but after the softmax."""
    own = torch.eye(*similarity.shape, device=similarity.device)
    ends = (similarity.softmax(-1) * (1 - own)).cumsum(-1)
    return (ends <= dice[:, None]).sum(-1)


@wrong("blip.hard_negatives", "The size of tensor")
def square_own(similarity, dice):
    """It raises in every case, as a slip does, and not for the slip's reason."""
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return (similarity.masked_fill(own, -torch.inf).softmax(-1).cumsum(-1) <= dice).sum(-1)


@wrong("matching.matched_pairs", "every text meets a wrong image, too")
def two_groups(wrong_text, wrong_image):
    """No text meets a wrong image."""
    n = len(wrong_text)
    own = torch.arange(n, device=wrong_text.device)
    labels = torch.cat([torch.ones_like(own), torch.zeros_like(own)])
    return own.repeat(2), torch.cat([own, wrong_text]), labels


@wrong("matching.next_words_loss", "`smoothing` is not used")
def no_smoothing(scores, ids, mask, smoothing):
    """The smoothing is forgotten."""
    chances = scores.log_softmax(-1)[:, :-1]
    right = chances.gather(2, ids[:, 1:, None])[..., 0]
    return -(right * mask[:, 1:]).sum() / mask[:, 1:].sum()


@wrong("matching.next_words_loss", "nothing is shifted")
def no_shift(scores, ids, mask, smoothing):
    """Every place is asked for its own word."""
    return F.cross_entropy(scores[mask], ids[mask], label_smoothing=smoothing)


@wrong("matching.soft_contrast", "the shares are swapped")
def swapped_shares(similarity, slow, share):
    """The slow copy has the partner's share."""
    chances = F.log_softmax(similarity, 1)
    return -(share * chances.diagonal() + (1 - share) * (slow.softmax(1) * chances).sum(1)).mean()


@wrong("blip.move_average", "the copy runs after the model at once")
def too_quick(average, model, momentum):
    """Momentum belongs to the new weights."""
    return {key: value.lerp(model[key], momentum) for key, value in average.items()}


@wrong("blip.move_average", "go through those of `average`")
def all_of_the_model(average, model, momentum):
    """The model's names, of which there may be more."""
    return {key: average[key] * momentum + value * (1 - momentum) for key, value in model.items()}


@wrong("blip.move_average", "keep the order of `average`")
def in_the_models_order(average, model, momentum):
    """The right values in the model's order."""
    names = [key for key in model if key in average]
    return {key: average[key] * momentum + model[key] * (1 - momentum) for key in names}


@wrong("blip.enqueue", "the new vectors stand in front")
def in_front(queue, new):
    """New vectors in front."""
    return torch.vstack([new, queue[: len(queue) - len(new)]])


@wrong("capfilt.keep_captions", "the sigmoid of one score forgets the other")
def one_score(scores, least):
    """Only the second score counts."""
    rows, columns = torch.where(torch.sigmoid(scores[..., 1]) > least)
    return rows, columns
