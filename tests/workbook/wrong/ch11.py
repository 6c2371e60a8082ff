"""Wrong answers to the exercises of chapter 11."""

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong


@wrong("qformer.writing_mask", "queries have no order")
def queries_in_order(queries, words):
    """The whole row is causal, the queries as well."""
    real = F.pad(words, (queries, 0), value=True)
    both = real.shape[1]
    causal = torch.tril(torch.ones(both, both, dtype=torch.bool, device=words.device))
    return causal[None] & real[:, None, :]


@wrong("qformer.apart_mask", "the queries see the words")
def queries_read(queries, words):
    """The queries see everything, the words only words."""
    real = F.pad(words, (queries, 0), value=True)
    mask = real[:, None].repeat(1, real.shape[1], 1)
    mask[:, queries:, :queries] = False
    return mask


@wrong("qformer.best_query", "the mean over the queries")
def averaged_queries(images, texts):
    """The queries are averaged before they are compared."""
    return images.mean(dim=1) @ texts.T


@wrong("qformer.apart_mask", "padding is a kind of its own here")
def three_kinds(queries, words):
    """Queries, words and padding each see their own kind."""
    kind = F.pad(words.long(), (queries, 0), value=2)
    return kind.unsqueeze(2) == kind.unsqueeze(1)


@wrong("qformer.apart_mask", "the queries see nobody")
def only_words_are_marked(queries, words):
    """The square of the queries is left empty."""
    batch, text = words.shape
    mask = words.new_zeros(batch, queries + text, queries + text)
    mask[:, queries:, queries:] = words[:, None]
    return mask


@wrong("qformer.together_mask", "padding sees itself")
def nobody_is_blind(queries, words):
    """The diagonal is added, so that no row is empty; none is, and padding sees itself."""
    real = torch.cat([words.new_ones(len(words), queries), words], dim=1)
    return real[:, None] | torch.eye(real.shape[1], dtype=torch.bool, device=words.device)


@wrong("qformer.together_mask", "the words do not look")
def rows_of_queries(queries, words):
    """There are rows for the queries only."""
    real = F.pad(words, (queries, 0), value=True)
    return torch.stack([real] * queries, dim=1)


@wrong("qformer.writing_mask", "of all words each sees itself alone")
def words_alone(queries, words):
    """A word sees the queries and itself."""
    batch, text = words.shape
    mask = words.new_zeros(batch, queries + text, queries + text)
    mask[:, :, :queries] = True
    mask[:, queries:, queries:] = torch.diag_embed(words)
    return mask


@wrong("qformer.best_query", "depends on the other texts")
def one_query_for_all_texts(images, texts):
    """The query that fits all texts best on the average is asked by each."""
    fits = images @ texts.T
    best = fits.mean(dim=2).argmax(dim=1)
    return torch.stack([row[number] for row, number in zip(fits, best, strict=True)])


@wrong("qformer.best_query", "the first query twice changes the output")
def weighed_by_softmax(images, texts):
    """Every query counts as much as its softmax says."""
    fits = images @ texts.T
    return (torch.softmax(fits, dim=1) * fits).sum(dim=1)


@wrong("qformer.best_query", "nothing falls below 0 here")
def the_search_begins_at_zero(images, texts):
    """The largest product so far begins at 0."""
    best = images.new_zeros(len(images), len(texts))
    for query in images.unbind(1):
        best = torch.maximum(best, query @ texts.T)
    return best


@wrong("qformer.query_votes", "one whole vote to its largest score")
def counted_by_hand(tokens, queries, match):
    """Votes are counted, not averaged."""
    scores = match(tokens[:, :queries])
    choice = scores.argmax(dim=-1, keepdim=True)
    return torch.zeros_like(scores).scatter(-1, choice, 1.0).mean(dim=1)


@wrong("qformer.query_votes", "these are probabilities")
def chances_at_the_end(tokens, queries, match):
    """A softmax of the mean."""
    return F.softmax(match(tokens[:, :queries]).mean(dim=1), dim=-1)


@wrong("qformer.part_ways", "the words go the queries' way")
def one_way_for_all(tokens, queries, look, query_mlp, word_mlp):
    """Nothing is parted; a batch no larger than the queries cannot tell this from one that is cut."""
    return query_mlp(look(tokens))


@wrong("qformer.part_ways", "what the MLPs give holds their input already")
def added_once_more(tokens, queries, look, query_mlp, word_mlp):
    """What came in is added to what each kind's MLP gives."""
    asking, words = tokens[:, :queries], tokens[:, queries:]
    return torch.cat([asking + query_mlp(look(asking)), words + word_mlp(words)], dim=1)


@wrong("qformer.part_ways", "what `look` and the MLPs give holds their input already")
def added_everywhere(tokens, queries, look, query_mlp, word_mlp):
    """As in chapter 09's gated block, where what comes back is added."""
    asking, words = tokens[:, :queries], tokens[:, queries:]
    asking = asking + look(asking)
    return torch.cat([asking + query_mlp(asking), words + word_mlp(words)], dim=1)
