"""Exercises of chapter 11: who sees whom in a Q-Former, and what its queries say together."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import Unaffected, chapter
from vlmcourse.models import qformer

exercise, quiz = chapter("11_qformer_blip2")


def _words(*rows: str) -> Tensor:
    """True where a word stands, False at a dot, which is padding."""
    return torch.tensor([[letter == "w" for letter in row] for row in rows])


_TEXTS = [(3, _words("wwww", "ww..")), (2, _words("www..", "wwwww", "w....")), (5, _words(".ww", "www"))]
_NUMBERS = "the places are right, but the mask must hold True and False: use dtype=torch.bool."
_PADDING = "padding is seen: whatever stands there, nobody may look at it."
_ROWS = "padding may not look, but is looked at: the keys are the last axis."
_EMPTY = (
    "padding sees nothing at all, so its softmax has nothing to sum; "
    "forbid that it is seen, not that it sees."
)
_ITSELF = "padding sees itself; it is seen by nobody, not even by itself."
_SELF = "a query sees itself alone; the queries see each other."
_COUNT = "words = torch.arange(words.shape[1]) < words.sum(dim=1, keepdim=True)\n    real = "
_COUNTED = "the words are only counted, as if padding stood behind them; `words` says where they stand."
_WRITING = (
    "place = torch.arange(real.shape[1])\n    return ((place <= place[:, None]) | (place < queries))"
)
_ORDER = "the words stand first; the queries come first, then the words."


exercise(qformer.apart_mask, picture=lambda output: output[0], cases=lambda: list(_TEXTS),
    slips=[
        ("(ours[:, :, None] == ours[:, None]) & ", "True & (ours[:, :, None] | True) & ",
         "everything sees everything, so a query can copy the very text that it is compared with; "
         "the two kinds must not see each other."),
        ("==", ">=", "the queries see the words: the image's vector will hold the text it is compared with."),
        ("==", "<=", "the words see the queries, and through them the image; the contrast would compare "
         "the image with itself."),
        ("==", "!=", "this is upside down: queries see only words, and words only queries."),
        (" & real[:, None]", "", _PADDING),
        ("& real[:, None]", "& real[:, :, None]", _ROWS),
        ("& real[:, None]", "& real[:, None] & real[:, :, None]", _EMPTY),
        (("queries), torch.zeros_like(words)], dim=1)", "queries), torch.zeros_like(words)], dim=1).flip(1)"),
         ("queries), words], dim=1)", "queries), words], dim=1).roll(-queries, 1)"), _ORDER),
        (("return (ours", "return ((ours"), ("real[:, None]", "real[:, None]).float()"), _NUMBERS),
        ("real = ", _COUNT, _COUNTED),
        ("return ", "return (~ours[:, :, None] | torch.eye(ours.shape[1], dtype=torch.bool)) & ",
         _SELF),
        ("real[:, None]", "(real[:, None] | torch.eye(real.shape[1], dtype=torch.bool))", _ITSELF),
        ("& real[:, None]", "& (real[:, None] & ours.new_ones(ours.shape[1], ours.shape[1]).tril())",
         "this is causal; nobody writes here, so all of a kind see each other."),
        ("return ", "return torch.eye(ours.shape[1], dtype=torch.bool) & ",
         "each sees itself alone; all of a kind see each other."),
        (("return ", "place = torch.arange(real.shape[1])\n    return "),
         ("(ours[:, :, None] == ours[:, None])", "((place <= place[:, None]) | ours[:, None])"),
         "this is the mask for writing; here neither kind sees the other, and words see those behind them."),
        ("return ", "return ~ours[:, :, None] & ", "the queries see nobody; let them see each other."),
        ("return ", "return ours[:, :, None] & ", "the words see nobody; let them see each other."),
        (("return (ours", "kind = ours.int() + real\n    return (kind"),
         ("ours[:, None]) &", "kind[:, None]) |"), ("real[:, None]", "False"),
         "padding is a kind of its own here and sees itself; let it see the words, and nobody see it."),
    ],
    hints=["Give each of the queries + words a mark: is it a query or a word? Who may see whom then?",
           "With the marks `kind`, `kind[:, :, None] == kind[:, None]` is True where both are of one kind; "
           "and a key must be a query or a real word."],
)

exercise(qformer.together_mask, picture=lambda output: output[0], cases=lambda: list(_TEXTS),
    slips=[
        ("real[:, None].expand(-1, real.shape[1], -1)", "real[:, :, None].expand(-1, -1, real.shape[1])",
         _ROWS),
        (", words], dim=1)", ", torch.ones_like(words)], dim=1)", _PADDING),
        ("real[:, None].expand(-1, real.shape[1], -1)", "real[:, None] & real[:, :, None]", _EMPTY),
        ("new_ones", "new_zeros", "nobody sees the queries; only padding is hidden here."),
        ("real[:, None].expand(-1, real.shape[1], -1)", "real[:, None] | real[:, :, None]", _PADDING),
        ("real[:, None].expand(-1, real.shape[1], -1)",
         "real[:, None] | torch.eye(real.shape[1], dtype=torch.bool)", _ITSELF),
        (".expand(-1, real.shape[1], -1)", "",
         "there is one row for all who look; each of them needs its own: expand it."),
        ("expand(-1, real.shape[1], -1)", "expand(-1, queries, -1)",
         "the words do not look; they have rows, too."),
        ("return ", "query = torch.arange(real.shape[1]) < queries\n    return (query[:, None] != query) & ",
         "queries see only words, and words only queries; here all see each other."),
        ("return ", "query = torch.arange(real.shape[1]) < queries\n    return (query[:, None] == query) & ",
         "this is the contrast's mask; here queries and words see each other."),
        ("return ", "query = torch.arange(real.shape[1]) < queries\n"
         "    return (~(query[:, None] & query) | torch.eye(len(query)).bool()) & ", _SELF),
        ("return ", "return ~torch.eye(real.shape[1], dtype=torch.bool) & ",
         "nobody sees itself; here all see all."),
        ("return ", f"{_WRITING} & ", "this is the mask for writing; here all see each other."),
        ("return ", f"{_WRITING[:-1]} | (place[:, None] < queries)) & ",
         "a word sees no word behind it; here all see each other."),
        ("words], dim=1)", "words], dim=1).roll(-queries, 1)", _ORDER),
        ("expand(-1, real.shape[1], -1)", "expand(-1, real.shape[1], -1).tril()",
         "this is causal: a query cannot see the words behind it, so it cannot compare them with the image."),
        ("expand(-1, real.shape[1], -1)", "expand(-1, real.shape[1], -1).float()", _NUMBERS),
        ("real = ", _COUNT, _COUNTED),
        ("return ", "place = torch.arange(real.shape[1])\n"
         "    return ((place[:, None] >= queries) | (place < queries)) & ",
         "the queries do not see the words, so they cannot compare them with the image."),
        ("return ", "place = torch.arange(real.shape[1])\n"
         "    return ((place[:, None] < queries) | (place >= queries)) & ",
         "the words do not see the queries; here all see each other."),
    ],
    hints=["Which keys may be seen does not depend on who looks.",
           "One row, queries all True and then `words`; every token that looks has the same row."],
)

exercise(qformer.writing_mask, picture=lambda output: output[0], cases=lambda: list(_TEXTS),
    slips=[
        ("before | a_query", "before",
         "a query sees only the queries before it; queries have no order, they all see each other."),
        ("before | a_query", "a_query.expand(count, -1)",
         "the words see no words; each also sees itself and those before it."),
        ("before | a_query", "before | a_query | True",
         "a word sees the words that follow, and it is asked for the next one: it can copy."),
        ("causal_mask(count, count)", "torch.ones(count, count, dtype=torch.bool).tril(1)",
         "every word sees the next one, which is the one it is asked for."),
        ("causal_mask(count, count)", "torch.ones(count, count, dtype=torch.bool).tril(-1)",
         "a word does not see itself; it must know what was written last."),
        ("causal_mask(count, count)", "torch.eye(count, dtype=torch.bool)",
         "of all words each sees itself alone; let it see those before it, too."),
        ("before | a_query", "(before | a_query) & ~(a_query & a_query[:, None]) | torch.eye(count).bool()",
         _SELF),
        ("new_ones", "new_zeros", "nobody sees the queries; queries and words look at all of them."),
        ("real[:, None]", "(real[:, None] | torch.eye(count, dtype=torch.bool))", _ITSELF),
        ("before | a_query", "before & (a_query == a_query[:, None]) | a_query & a_query[:, None]",
         "the words do not see the queries, so they write without the image."),
        ("before | a_query", "before | a_query | a_query[:, None]",
         "the queries see the words: then what they tell a word is what it shall write."),
        ("< queries", "<= queries", "the first word counts as a query, so the queries see it."),
        ("& real[:, None]", "& torch.ones_like(real)[:, None]", _PADDING),
        ("& real[:, None]", "& real[:, :, None]", _ROWS),
        (("return (before", "return ((before"), ("real[:, None]", "real[:, None]).float()"), _NUMBERS),
        ("real = ", _COUNT, _COUNTED),
        ("& real[:, None]", "& real[:, None] & real[:, :, None]", _EMPTY),
        ("return (before | a_query) & real[:, None]", "seen = (before | a_query) & real[:, None]\n"
         "    return seen.roll((-queries, -queries), (1, 2))", _ORDER),
        ("before | a_query", "before | a_query | ~a_query[:, None]",
         "a word sees the words that follow, and it is asked for the next one: it can copy."),
    ],
    hints=["Two rules, and one of them is enough: the key is a query, or it does not come after the one "
           "who looks.",
           "`causal_mask(count, count) | (torch.arange(count) < queries)`; and padding is seen by nobody. "
           "It is chapter 06's prefix_mask, with the queries as its prefix."],
)

exercise(qformer.best_query, gradient=("images", "texts"),
    cases=lambda: [(torch.randn(3, 4, 5), torch.randn(2, 5)), (torch.randn(2, 3, 7), torch.randn(4, 7)),
                   (torch.rand(3, 2, 5), -torch.rand(4, 5))],  # all products below 0
    slips=[
        (".amax(dim=-1)", ".mean(dim=-1)",
         "this is the mean over the queries; the one that fits best counts."),
        (".amax(dim=-1)", ".sum(dim=-1)", "this is the sum over the queries; the one that fits best counts."),
        (".amax(dim=-1)", "[..., 0]", "only the first query is asked; each of them may be the best one."),
        (".amax(dim=-1)", ".amin(dim=-1)", "this is the query that fits worst."),
        (".amax(dim=-1)", ".abs().amax(dim=-1)",
         "the sign is lost: a query that points away from the text fits badly."),
        (".amax(dim=-1)", ".argmax(dim=-1)", "this says which query fits best; how well it fits is wanted."),
        ("itq", "tiq", "images and texts changed places: a row is an image."),
        ('"iqs,ts->itq", images, texts).amax(dim=-1)', '"is,ts->it", images.amax(dim=1), texts)',
         "the largest of each number was taken first, which makes a vector that is no query's; "
         "multiply first, then take the largest."),
        ("texts).amax", "texts).softmax(dim=-1).amax",
         "a softmax over the queries makes shares of the products; the product itself is wanted."),
        ("images, texts).amax", "torch.nn.functional.normalize(images, dim=-1), "
         "torch.nn.functional.normalize(texts, dim=-1)).amax",
         "these are cosines; the plain dot product is asked for: nothing is normalised here."),
        (".amax(dim=-1)", "[..., -1]", "only the last query is asked; each of them may be the best one."),
        (".amax(dim=-1)", ".logsumexp(dim=-1)",
         "log Σ exp is a soft maximum, in which every query counts; only the best one does here."),
        (".amax(dim=-1)", ".clamp(min=0).amax(dim=-1)",
         "nothing falls below 0 here; where all queries point away from a text, the largest product does."),
        (".amax(dim=-1)", "", "all products are there still; the largest over the queries is wanted."),
        ("images, texts).amax(dim=-1)", "images, texts).gather(2, images.norm(dim=-1).argmax(1)"
         "[:, None, None].expand(-1, len(texts), 1))[..., 0]",
         "the longest query is asked, whatever the text; the one that fits best counts."),
    ],
    hints=["First all products: every image, every query, every text. Then one axis goes.",
           '`torch.einsum("iqs,ts->itq", images, texts)`, then the largest along the last axis.'],
    unaffected=[
        Unaffected("what a text scores depends on the other texts; each has its own best query.",
                   lambda case: (case[0], torch.cat([-3 * case[1][:1], case[1][1:]])),
                   lambda output: output[:, 1:]),
        Unaffected("the first query twice changes the output; only the best counts, however many there are.",
                   lambda case: (torch.cat([case[0], case[0][:, :1]], dim=1), case[1])),
    ],
)


def _match_case(batch: int, queries: int, words: int, width: int, score: int) -> tuple:
    return torch.randn(batch, queries + words, width), queries, nn.Linear(width, score)


exercise(qformer.query_votes, gradient=("tokens",),
    cases=lambda: [_match_case(2, 3, 4, 5, 2), _match_case(3, 5, 2, 6, 2), _match_case(2, 4, 5, 6, 3)],
    slips=[
        ("[:, :queries]", "", "the words vote as well; only the queries do."),
        ("[:, :queries]", "[:, queries:]", "the words vote; the queries do, and they stand first."),
        ("[:, :queries]", "[:, :1]", "only the first query is asked; all of them vote."),
        (".mean(dim=1)", ".sum(dim=1)", "this is the sum; more queries would make the same vote louder."),
        (".mean(dim=1)", ".amax(dim=1)",
         "the largest counts in the contrast; here every query has the same say: the mean."),
        (".mean(dim=1)", ".softmax(dim=-1).mean(dim=1)",
         "these are probabilities; the loss takes the softmax itself, give it the scores."),
        ("match(tokens[:, :queries]).mean(dim=1)", "tokens[:, :queries].mean(dim=1)",
         "nobody scored: the layer `match` is missing."),
        (".mean(dim=1)", ".mean(dim=1).softmax(dim=-1)",
         "these are probabilities; the loss takes the softmax itself, give it the scores."),
        ("[:, :queries]", "[:, queries - 1 : queries]", "only the last query is asked; all of them vote."),
        ("return match(tokens[:, :queries])", "scores = match(tokens[:, :queries])\n"
         "    return torch.nn.functional.one_hot(scores.argmax(dim=-1), scores.shape[-1]).float()",
         "each query gives one whole vote to its largest score; the scores themselves are averaged."),
        (".mean(dim=1)", ".median(dim=1).values",
         "this is the median; every query has the same say: the mean."),
    ],
    hints=["Three steps: leave out the words, let the layer score, take the mean.",
           "`match` takes any number of axes in front; the mean runs over axis 1."],
)


def _tokenwise(width: int) -> nn.Module:
    """What treats each token by itself, and bends."""
    module = nn.Sequential(nn.Linear(width, width), nn.Tanh())
    nn.init.normal_(module[0].weight)
    return module


def _ways_case(batch: int, queries: int, words: int, width: int) -> tuple:
    return torch.randn(batch, queries + words, width), queries, *(_tokenwise(width) for _ in range(3))


exercise(qformer.part_ways, gradient=("tokens",),
    cases=lambda: [_ways_case(2, 5, 4, 6), _ways_case(4, 3, 2, 6), _ways_case(2, 4, 0, 6)],
    slips=[
        ("word_mlp(words)", "word_mlp(look(words))",
         "the words look at the image too; "
         "then they need no query, and the queries learn nothing from them."),
        ("look(asking)", "asking", "nobody looks at the image; the queries do, before their MLP."),
        ("word_mlp(words)", "query_mlp(words)",
         "the words go through the queries' MLP; they have their own."),
        ("query_mlp(look", "word_mlp(look", "the queries go through the words' MLP; they have their own."),
        (("query_mlp(look", "word_mlp(look"), ("word_mlp(words)", "query_mlp(words)"),
         "the two MLPs changed places."),
        ("query_mlp(look(asking))", "look(query_mlp(asking))", "first look, then think: the MLP comes last."),
        ("look(asking)", "asking + look(asking)",
         "what `look` gives holds its input already; it takes its place, nothing is added."),
        ("[query_mlp(look(asking)), word_mlp(words)]", "[word_mlp(words), query_mlp(look(asking))]",
         "the words stand first; the queries come first, as they came in."),
        (("tokens[:, :queries], tokens[:, queries:]", "tokens[:queries], tokens[queries:]"),
         ("dim=1", "dim=0"),
         "the batch is cut in two; queries and words stand along axis 1."),
        ("word_mlp(words)", "query_mlp(look(words))",
         "the words go the queries' way, image and all; they have their own MLP, and no image."),
        (("return torch", "return word_mlp(torch"), ("word_mlp(words)], dim=1)", "words], dim=1))"),
         "the queries go through both MLPs; each kind has one of its own."),
        (("query_mlp(look(asking))", "query_mlp(asking)"), ("word_mlp(words)", "word_mlp(look(words))"),
         "the words look at the image and the queries do not; it is the other way round."),
        (("return torch", "asking = look(asking)\n    return torch"),
         ("query_mlp(look(asking))", "asking + query_mlp(asking)"),
         ("word_mlp(words)", "words + word_mlp(words)"),
         "what the MLPs give holds their input already; nothing is added."),
        (("return torch", "asking = asking + look(asking)\n    return torch"),
         ("query_mlp(look(asking))", "asking + query_mlp(asking)"),
         ("word_mlp(words)", "words + word_mlp(words)"),
         "what `look` and the MLPs give holds their input already; nothing is added."),
        (("return torch", "asking = asking + look(asking)\n    return torch"),
         ("query_mlp(look(asking))", "query_mlp(asking)"), ("word_mlp(words)", "words + word_mlp(words)"),
         "what `look` and `word_mlp` give holds their input already; nothing is added."),
        ("return torch", "return tokens + torch",
         "what the MLPs give holds their input already; nothing is added."),
    ],
    hints=["Cut the tokens in two at `queries`, treat each part, put them together in the same order.",
           "The queries: `look`, then `query_mlp`. The words: `word_mlp` alone."],
)

quiz(1, "In stage 1 a Q-Former also learns to write captions (ITG). Later a language model writes, "
        "and the Q-Former never does. What was ITG for?", [
    ("The Q-Former's words take on the style in which the language model later writes.", False,
     "What read and wrote words in the Q-Former is thrown away; "
     "the language model gets the queries' vectors alone."),
    ("The words see the image only through the queries, so the queries must hold what a caption says.", True,
     "The loss asks of every word, and each can be answered only from what the queries took from the image. "
     "That pressure stays in the queries when the writer is gone."),
    ("It keeps the contrast from collapsing to one vector for all images.", False,
     "The contrast itself does that: if all vectors were equal its loss would be ln of the batch."),
])
quiz(2, "Your contrast loss falls to almost 0 within sixty steps. To new pictures, "
        "the right text is hardly ever found. What do you look at first?", [
    ("The mask: queries and text may see each other.", True,
     "A query that sees its own text needs no image. At retrieval the image has no text to look at."),
    ("The temperature: the similarities are scaled too much.", False,
     "A wrong scale makes the loss large or slow; it cannot tell the model the answer."),
    ("The data: too few pairs, which were learned by heart.", False,
     "Sixty steps hardly show a pair twice; nobody learns thousands of pairs by heart in that time."),
])
quiz(3, "InstructBLIP gives the question to the Q-Former and to the language model. Why to both?", [
    ("So that one of the two still has it if the other forgets it.", False,
     "Neither is a spare copy: they do different things with it."),
    ("The Q-Former picks what to look for; the language model must know what to answer.", True,
     "32 vectors cannot hold everything, so the queries better know what is wanted. They hand over what "
     "they saw, not the question."),
    ("The Q-Former answers it, and the language model only puts the answer into a sentence.", False,
     "The language model answers; BLIP-2 gives its Q-Former no question in stage 2, and works."),
])
