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


@wrong("matching.soft_contrast", "the shares are swapped")
def swapped_shares(similarity, slow, share):
    """The slow copy has the partner's share."""
    chances = F.log_softmax(similarity, 1)
    return -(share * chances.diagonal() + (1 - share) * (slow.softmax(1) * chances).sum(1)).mean()


@wrong("blip.move_average", "the copy runs after the model at once")
def too_quick(average, model, momentum):
    """Momentum belongs to the new weights."""
    return {key: value.lerp(model[key], momentum) for key, value in average.items()}


@wrong("blip.enqueue", "the new vectors stand in front")
def in_front(queue, new):
    """New vectors in front."""
    return torch.vstack([new, queue[: len(queue) - len(new)]])


@wrong("capfilt.keep_captions", "the sigmoid of one score forgets the other")
def one_score(scores, least):
    """Only the second score counts."""
    rows, columns = torch.where(torch.sigmoid(scores[..., 1]) > least)
    return rows, columns
