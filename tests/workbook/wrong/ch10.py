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


@wrong("blip.move_average", "their order counts here")
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


@wrong("blip.hard_negatives", "where the own text is drawn the next one is taken")
def the_next_one_instead(similarity, dice):
    """Whoever draws the own text takes the one behind it."""
    ends = similarity.softmax(dim=1).cumsum(dim=1)
    drawn = (ends / ends[:, -1:] <= dice[:, None]).sum(dim=1)
    own = torch.arange(len(drawn), device=drawn.device)
    return torch.where(drawn == own, (drawn + 1) % similarity.shape[1], drawn)


@wrong("blip.hard_negatives", "laid on the line by their size")
def drawn_from_the_best(similarity, dice):
    """The texts stand on the line sorted, as in top-p sampling."""
    scores = similarity.clone()
    scores.fill_diagonal_(-torch.inf)
    chances, texts = scores.softmax(dim=1).sort(dim=1, descending=True)
    ends = chances.cumsum(dim=1)
    place = (ends / ends[:, -1:] <= dice[:, None]).sum(dim=1, keepdim=True)
    return texts.gather(1, place).squeeze(1)


@wrong("matching.matched_pairs", "wrong images meet wrong texts in the third group")
def both_are_wrong(wrong_text, wrong_image):
    """The third group pairs strangers with strangers."""
    n = torch.arange(len(wrong_text), device=wrong_text.device)
    labels = torch.cat([n.new_ones(len(n)), n.new_zeros(2 * len(n))])
    return torch.cat([n, n, wrong_image]), torch.cat([n, wrong_text, wrong_text]), labels


@wrong("matching.matched_pairs", "the labels number the groups")
def kinds_of_pairs(wrong_text, wrong_image):
    """A label for each kind of pair."""
    n = torch.arange(len(wrong_text), device=wrong_text.device)
    labels = torch.tensor([0, 1, 2], device=n.device).repeat_interleave(len(n))
    return torch.cat([n, n, wrong_image]), torch.cat([n, wrong_text, n]), labels


@wrong("matching.next_words_loss", "padding costs nothing here, but counts in the mean")
def padding_in_the_mean(scores, ids, mask, smoothing):
    """The losses of padding are set to 0 and averaged with the others."""
    flat = scores[:, :-1].flatten(0, 1)
    each = F.cross_entropy(flat, ids[:, 1:].flatten(), label_smoothing=smoothing, reduction="none")
    return (each * mask[:, 1:].flatten()).mean()


@wrong("matching.next_words_loss", "the texts are joined before the shift")
def shifted_after_the_mask(scores, ids, mask, smoothing):
    """The mask makes one long text of all, and that is shifted."""
    real, words = scores[mask], ids[mask]
    return F.cross_entropy(real[:-1], words[1:], label_smoothing=smoothing)


@wrong("matching.soft_contrast", "the slow copy gives its whole share to one candidate")
def best_of_the_slow_copy(similarity, slow, share):
    """The candidate that the slow copy likes best gets its share."""
    own = torch.arange(len(similarity), device=similarity.device)
    told = F.cross_entropy(similarity, slow.argmax(dim=1))
    return (1 - share) * F.cross_entropy(similarity, own) + share * told


@wrong("matching.soft_contrast", "the similarities are mixed")
def mixed_similarities(similarity, slow, share):
    """The similarities are averaged, and the target stays hard."""
    own = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(torch.lerp(similarity, slow, share), own)


@wrong("blip.move_average", "the old weights stay in full")
def added_on_top(average, model, momentum):
    """The old weights are not multiplied by the momentum."""
    return {key: value + (1 - momentum) * model[key] for key, value in average.items()}


@wrong("blip.enqueue", "the new vectors overwrite the oldest in place")
def as_in_a_ring(queue, new):
    """The oldest places are written over; nothing moves up."""
    moved = queue.clone()
    moved[: len(new)] = new
    return moved


@wrong("capfilt.keep_captions", "a difference of scores is compared with a probability")
def no_sigmoid(scores, least):
    """The sigmoid of the difference is forgotten."""
    no, yes = scores.unbind(-1)
    return torch.where(yes - no > least)


@wrong("capfilt.keep_captions", "an image's captions stay or go together")
def all_or_none(scores, least):
    """All captions of an image stay if one of them does."""
    good = (scores.softmax(-1)[..., 1] > least).any(dim=1)
    return torch.where(good[:, None].repeat(1, scores.shape[1]))
