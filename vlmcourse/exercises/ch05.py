"""Exercises of chapter 05: the parts of a LLaMA, writing with a cache, and what BERT and T5 do otherwise."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import chapter
from vlmcourse.models import attention, bert, bpe, generation, language, t5

exercise, quiz = chapter("05_language_models")

exercise(bpe.merge_pair,
    cases=lambda: [
        (["t", "h", "e", " ", "t", "h", "i", "n"], ("t", "h")),
        (["a", "a", "a", "b", "a", "a"], ("a", "a")),
        (["re", "d", "are", "d", "re", "dy", "re", "d"], ("re", "d")),
        (["x"], ("x", "y")),
        (["i", "re", "d"], ("re", "d")),  # at an odd place
        (["a", "bc", "ab", "c"], ("ab", "c")),  # another pair spells the same
    ],
    slips=[
        ("2 if hit", "2 if hit and tuple(tokens[place + 1 : place + 3]) != pair",
         "a token is used twice: in a a a only the first two merge, and the third stays."),
        (("place = 0", "place, tokens = 0, tokens[::-1]"), ("== pair", "== pair[::-1]"),
         ("return merged", "return merged[::-1]"),
         "it merges from the right; go from left to right: a a a becomes aa a."),
        ("== pair", '== pair and "".join(pair) not in merged',
         "only the first place is merged; every place must be."),
        ("return merged", 'return " ".join(tokens).replace(" ".join(pair), "".join(pair)).split(" ")',
         "the tokens were joined to a text and cut again, so ends of longer tokens matched: "
         "compare whole tokens."),
        ("2 if hit else 1", "1",
         "the second token of the pair is still there: after a merge, step over both."),
        ("< len(tokens)", "< len(tokens) - 1",
         "the last token is lost when it is in no pair: the loop ends one step too early."),
        ("tuple(tokens[place : place + 2])", "tokens[place : place + 2]", "nothing is merged. "
         "`tokens[k:k+2]` is a list, and a list never equals the tuple `pair`: compare tuples."),
        ("return merged", 'return [token for token in merged if token != "".join(pair)]',
         "the pairs are removed, but what they became is not put in their place."),
    ],
    hints=["Walk through the list with an index. When do you step by one, and when by two?",
           "`while k < len(tokens)`: if `(tokens[k], tokens[k + 1]) == pair` (mind the end), "
           "append the joined string and add 2 to k; else append tokens[k] and add 1."],
)

exercise(language.causal_mask, picture=lambda output: output,
    cases=lambda: [(5, 5), (3, 7), (1, 4)],
    slips=[
        ("keys - queries :", ":queries",
         "right without a cache, but with one the queries are the LAST of the keys: "
         "the triangle must end in the lower right corner."),
        ("<= position", "<= 1 + position",
         "off by one: every token sees the next one, which is the answer it is asked for."),
        ("<=", "<", "a token must see itself too; now the first one sees nothing, and its softmax is NaN."),
        ("<=", ">", "the mask is upside down: True means that the query may look."),
        ("<=", ">=", "this is the upper triangle: every token sees the future and not the past."),
        ("position[keys - queries :, None]", "position[:queries, None] + queries - keys",
         "the triangle is moved the wrong way: the last queries see MORE, by keys − queries."),
        ("keys - queries :", ":",
         "this is a square for all keys; only the last `queries` of its rows are asked for."),
        (("return position", "return (position"), (", None]", ", None]).float().log()"),
         "these are numbers to add to the scores; the course's masks are True and False."),
        (("return position", "return (position"), (", None]", ", None]).float()"),
         "the places are right, but the mask must hold True and False: compare, or use dtype=torch.bool."),
    ],
    hints=["Number the keys 0, 1, 2, …. Which numbers do the queries have when they are the last ones?",
           "Compare `torch.arange(keys)` as a row with `torch.arange(keys - queries, keys)` as a column."],
)


def _norm_cases() -> list[tuple]:
    """Ordinary numbers; small ones, where epsilon counts; large ones in fp16, whose squares do not fit; and
    vectors in fp16 beside a scale in fp32, as in mixed precision.
    """
    signs = torch.randint(0, 2, (2, 3, 4)) * 2 - 1
    return [
        (3 * torch.randn(2, 3, 5) + 1, 1 + torch.randn(5), 1e-5),
        (0.1 * torch.randn(3, 4, 7), 1 + torch.randn(7), 1e-2),
        (512 * signs.half(), torch.tensor([1, 2, -1, 0.5]).half(), 1e-5),
        (512 * signs.half(), torch.tensor([1, 2, -1, 0.5]), 1e-5),
        (torch.randn(5, 3), 1 + torch.randn(3), 1e-5),  # vectors without a batch
    ]


exercise(language.rms_norm, gradient=("tokens", "scale"),
    axes={"tokens": "batch token width", "return": "batch token width"},
    cases=_norm_cases,
    slips=[
        ("tokens.float()", "tokens.float() - tokens.float().mean(dim=-1, keepdim=True)",
         "the mean is subtracted, as in layer norm; RMSNorm only divides by the length."),
        (("torch.rsqrt(", "1 / (epsilon + torch.sqrt("), (" + epsilon)", "))"),
         "epsilon stands outside the root: add it to the mean of the squares, then take the root."),
        (" + epsilon", "", "epsilon is missing: a vector of zeros would be divided by 0."),
        ("mean(", "sum(",
         "the squares are summed; take their mean, or the result shrinks as the width grows."),
        ("rsqrt", "reciprocal", "the root is missing: divide by the root of the mean square."),
        ("scale * ", "", "the learned scale is missing: multiply by it at the end."),
        ("scale * ", "(1 + scale) * ", "1 + scale is Gemma's way; LLaMA multiplies by scale itself."),
        ("dim=-1", "dim=1",
         "the mean runs over the tokens; each token is normalised alone, over its width: dim=-1."),
        ("dim=-1", "dim=(0, 1, 2)",
         "one mean for everything; each token has its own length: mean(dim=-1, keepdim=True)."),
        (".float()", "",
         "in half precision the squares overflow: 512² does not fit into fp16. Convert with .float() first."),
        (".to(tokens.dtype)", "", "the values are right, "
         "but half-precision input must give half-precision output: .to(tokens.dtype)."),
    ],
    hints=["The name is the recipe, read backwards: square, mean, root; then divide.",
           "`x = tokens.float()`, `x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)`, "
           "times scale; then back to the dtype of tokens."],
)

def _quarter_turns(batch: int, token: int, half: int) -> Tensor:
    """Angles whose sines and cosines are 0 and ±1, so that nothing is rounded in half precision."""
    return torch.pi / 2 * torch.randint(-2, 3, (batch, token, half))


exercise(language.rope, gradient=("parts",),
    cases=lambda: [
        (torch.randn(2, 3, 5, 8), 3 * torch.randn(2, 5, 4)),
        (torch.randn(4, 3, 7, 10), 3 * torch.randn(4, 7, 5)),
        (torch.randn(4, 2, 5, 6), 3 * torch.randn(1, 5, 3)),  # the same angles for all texts
        (torch.randint(-4, 5, (2, 3, 5, 8)).half(), _quarter_turns(2, 5, 4)),  # as in mixed precision
    ],
    slips=[
        (("parts.chunk(2, dim=-1)", "parts[..., ::2], parts[..., 1::2]"), ("torch.cat(", "torch.stack("),
         ("], dim=-1)", "], dim=-1).flatten(-2)"), "the pairs are neighbours (0, 1), (2, 3), "
         "as in the paper; LLaMA's weights in transformers pair i with i + part/2."),
        ("parts.chunk(2, dim=-1)", "parts[..., ::2], parts[..., 1::2]",
         "numbers 2i and 2i + 1 are paired; here it is i and i + part/2: chunk(2, dim=-1)."),
        (("torch.cat(", "torch.stack("), ("], dim=-1)", "], dim=-1).flatten(-2)"),
         "the turned halves are joined in turns; one stands behind the other: torch.cat."),
        (("cosine, sine", "angles, late = angles.repeat_interleave(2, -1).chunk(2, -1)\n    cosine, sine"),
         ("first * sine + second * cosine", "first * late.sin() + second * late.cos()"),
         "the angles come as 0, 0, 1, 1, …, but the pairs are i and i + part/2: cat([angles, angles], -1)."),
        (("- second", "- first"), ("first * sine +", "second * sine +"),
         "each half is mixed with itself; its partner is the other half."),
        (".to(parts.dtype)", "", "the values are right, "
         "but half-precision input must give half-precision output: .to(parts.dtype)."),
        ("angles.sin()", "-angles.sin()",
         "it turns the wrong way round: (a, b) becomes (a cos − b sin, a sin + b cos)."),
        ("- second", "+ second", "the minus is missing: without it this is no rotation, and lengths change."),
        ("cosine, sine = ", "sine, cosine = ", "sine and cosine changed places."),
        ("first * sine + second * cosine", "second",
         "only the first numbers of the pairs are turned; the second ones need a sin + b cos."),
        (".to(parts.dtype)", ".roll(parts.shape[-1] // 2, -1)",
         "the halves come back in the wrong order: first a cos − b sin, then a sin + b cos."),
        ("first, second", "return parts + torch.cat([sine, cosine], dim=-1)\n    first, second",
         "sine and cosine are added, as in the first transformer; RoPE turns: it multiplies."),
        ("[:, None]", "[:, None, :1]", "every token is turned by the angles of token 0; each has its own: "
         "angles[:, None] adds the head axis."),
    ],
    hints=["Pair i is a point in the plane: (parts[..., i], parts[..., i + part/2]). "
           "Turn it by angles[..., i].",
           "`a, b = parts.chunk(2, -1)` and `angles[:, None]` fit together. "
           "torch.cat the two results along -1."],
)


def _mlp_case(*shape: int, hidden: int) -> tuple:
    gate, up, down = (nn.Linear(*sizes) for sizes in 2 * [(shape[-1], hidden)] + [(hidden, shape[-1])])
    return torch.randn(shape), gate, up, down


exercise(language.swiglu, gradient=("tokens",),
    axes={"tokens": "batch token width", "return": "batch token width"},
    cases=lambda: [_mlp_case(2, 5, 4, hidden=9), _mlp_case(3, 4, 7, hidden=5), _mlp_case(5, 4, hidden=7)],
    slips=[
        (("silu(gate(", "silu(up("), ("* up(", "* gate("),
         "the silu stands on the wrong branch: it belongs to the gate."),
        ("F.silu(", "torch.sigmoid(",
         "the gate is a bare sigmoid, which is the plain GLU; silu(x) is x · sigmoid(x)."),
        ("silu", "gelu",
         "this is GeGLU, with a gelu; the Swi in SwiGLU stands for swish, today called silu."),
        ("F.silu(gate(tokens))", "gate(tokens)", "the silu is missing: without it the gate never closes."),
        ("* up", "+ up", "gate and up are added; a gate multiplies."),
        ("F.silu(gate(tokens)) * up(tokens)", "F.silu(gate(tokens) * up(tokens))",
         "the silu is taken of the product; only the gate goes through it."),
        (" * up(tokens)", "", "this is an ordinary MLP: `up` is not used."),
        ("return ", "return tokens + ", "the input is added here; the block around it does that already."),
    ],
    hints=["Two layers read the same tokens. One of them decides how much of the other passes.",
           "`F.silu(gate(tokens))` times `up(tokens)`, then one layer back to the width."],
)

exercise(attention.share_heads, gradient=("parts",),
    cases=lambda: [(torch.randn(3, 2, 5, 4), 6), (torch.randn(2, 3, 4, 7), 12)],
    slips=[
        ("repeat_interleave(heads // groups, dim=1)", "repeat(1, heads // groups, 1, 1)",
         "the groups alternate 0, 1, 0, 1; neighbouring heads share: 0, 0, 0, 1, 1, 1."),
        ("heads // groups, dim", "heads, dim",
         "every group is copied `heads` times; it needs heads / group copies, so that `heads` come out."),
        ("dim=1", "dim=0", "the batch is repeated; the head axis is number 1."),
        ("dim=1", "dim=2", "the tokens are repeated; the head axis is number 1."),
        ("repeat_interleave(heads // groups, dim=1)", "unsqueeze(2).expand(-1, -1, heads // groups, -1, -1)",
         "the copies stand on an axis of their own; merge it with the group axis: flatten(1, 2)."),
        ("parts.repeat_interleave(heads // groups", "parts[:, :1].repeat_interleave(heads",
         "all heads share group 0, which is multi-query attention; here each group serves its own heads."),
    ],
    hints=["Nothing is computed: each key head is handed to several query heads. How many?",
           "`repeat_interleave(times, dim=1)` repeats each entry in place: 0, 0, 1, 1. "
           "What must `times` be?"],
)


def _cache_cases() -> list[tuple]:
    """The first call; as many new tokens as old ones; one new token, as in generation."""

    def pair(*shape: int) -> tuple[Tensor, Tensor]:
        return torch.randn(shape), torch.randn(shape)

    return [
        (None, *pair(2, 3, 5, 4)),
        (pair(2, 3, 5, 4), *pair(2, 3, 5, 4)),
        (pair(3, 2, 7, 4), *pair(3, 2, 1, 4)),
    ]


exercise(attention.extend_cache, gradient=("key", "value"),
    cases=_cache_cases,
    slips=[
        ("old is None", "False",
         "at the first call there is no past: old is None. Return key and value as they are."),
        (("[old[0], key]", "[key, old[0]]"), ("[old[1], value]", "[value, old[1]]"),
         "the new tokens stand before the old ones; a text grows at its end."),
        (("key], dim=2", "key], dim=1"), ("value], dim=2", "value], dim=1"),
         "they are joined along the heads (axis 1); time is the token axis, number 2."),
        (("key], dim=2", "key], dim=-1"), ("value], dim=2", "value], dim=-1"),
         "they are joined along part, the last axis; time is the token axis, number 2."),
        ("old is None", "True", "the past is forgotten: only the new tokens come back."),
        ("return torch.cat", "return old\n    return torch.cat",
         "the new tokens are lost: the cache stays as it was."),
        ("if old is None", "key, value = key[:, :, -1:], value[:, :, -1:]\n    if old is None",
         "only the last new token is kept; a prompt brings many at once."),
        ("old[1]", "old[0]", "the values are joined to the old keys: old[1] holds the old values."),
        ("if old is None", "key, value, old = value, key, old and old[::-1]\n    if old is None",
         "keys and values are swapped: return (keys, values)."),
        (("return key, value", "return [key, value]"), ("return torch.cat", "return [torch.cat"),
         ("value], dim=2)", "value], dim=2)]"), "return a tuple (keys, values), not a list."),
    ],
    hints=["The past stays as it is; the new tokens are put behind it. What if there is no past yet?",
           "`torch.cat([old[0], key], dim=2)` for the keys; the same for the values with old[1]."],
)


def _spread_logits(batch: int, vocabulary: int) -> Tensor:
    """Every row is another order of the same well separated scores, so that no choice hangs on rounding."""
    return torch.stack([1.1 * torch.randperm(vocabulary) ** 0.8 - 2 for _ in range(batch)])


exercise(generation.top_p,
    cases=lambda: [
        (_spread_logits(3, 7), 1.5, 0.6),
        (_spread_logits(2, 5), 0.7, 0.95),
        (_spread_logits(3, 4), 2.0, 1.0),
        (_spread_logits(2, 7), 0.0, 0.9),
        (_spread_logits(3, 7) * torch.tensor([[0.5], [0.1], [2.0]]), 1.0, 0.7),  # nuclei of other sizes
        (_spread_logits(3, 7) * torch.tensor([[0.5], [0.1], [2.0]]), 0.0, 0.7),
    ],
    slips=[
        (" - ordered", "", "the token that crosses the line is missing: "
         "the nucleus must REACH top_p, so that one belongs to it."),
        ((" - ordered", ""), ("top_p == 1", "False"), "the token that crosses the line is missing: "
         "the nucleus must REACH top_p, so that one belongs to it."),
        ("kept / kept.sum(dim=-1, keepdim=True)", "kept",
         "the rows no longer sum to 1: divide what is left by its sum."),
        ("logits / temperature", "logits * temperature",
         "the logits are multiplied by the temperature; divide, so that below 1 means sharper."),
        ("(logits / temperature)", "logits", "the temperature is not used."),
        ("if top_p == 1", "if True", "no tail is cut off: top_p is not used."),
        ("descending=True", "descending=False",
         "the sum starts at the least probable token; sort descending."),
        ("mass_before >= top_p", "ordered < 1 - top_p",
         "this keeps the tokens above a fixed probability; the nucleus is about the sum of the best ones."),
        ("torch.zeros_like(kept).scatter(1, order, ", "(",
         "the probabilities stay in sorted order; scatter them back to their own places."),
        (("torch.zeros_like(kept).scatter(1, order, ", "("), ("top_p == 1", "False"),
         "the probabilities stay in sorted order; scatter them back to their own places."),
        (("torch.zeros_like(kept).scatter(1, order, kept", "(kept"), ("True))", "True)).gather(1, order)"),
         ("top_p == 1", "False"), "gather sorts once more; scatter puts every token back in its own place."),
        (("kept / kept.sum(dim=-1, keepdim=True)", "kept.softmax(dim=-1)"), ("top_p == 1", "False"),
         "a softmax gives the tail something again; divide what is left by its sum."),
        ("mass_before = ordered.cumsum(dim=-1) - ordered",
         "plain = logits.softmax(dim=-1).gather(1, order)\n    mass_before = plain.cumsum(dim=-1) - plain",
         "the nucleus is chosen before the temperature acts; divide the logits first."),
        ("temperature == 0", "False",
         "temperature 0 divides by zero; it means: all probability on the best token."),
    ],
    hints=["Temperature 0 first. Then: softmax, sort, add up from the top. "
           "Which tokens have less than top_p above them?",
           "`ordered, order = probabilities.sort(descending=True)`; "
           "keep `ordered.cumsum(-1) - ordered < top_p`.",
           "Divide what is kept by its sum, and put it back: "
           "`torch.zeros_like(logits).scatter(1, order, kept)`."],
)


def _mask_case(batch: int, token: int, mask_id: int) -> tuple:
    """The chances in double precision, some of them just on the borders."""
    ids, random_ids = torch.randint(10, 90, (2, batch, token))
    special = torch.arange(token) % 4 == torch.arange(batch)[:, None]
    chosen, dice = torch.rand(2, batch, token, dtype=torch.float64)
    chosen *= 0.3
    chosen[:, ::5], chosen[:, 1::6], dice[:, ::5], dice[:, 1::5] = 0.1, 0.15, 0.8, 0.9
    return ids, chosen, dice, random_ids, mask_id, special


exercise(bert.mask_tokens, picture=lambda output: output[1] != bert.IGNORED,
    cases=lambda: [_mask_case(2, 31, 5), _mask_case(3, 40, 7)],
    slips=[
        ("ids.masked_fill(~asked, IGNORED)", "ids",
         "every token has a label; the loss must count only the chosen ones, so the others get -100."),
        ("masked_fill(~asked", "masked_fill(inputs == ids",
         "chosen tokens that stayed as they were have no label; BERT must predict those too."),
        (("dice < 0.8", "dice < 1"), ("dice >= 0.8", "dice >= 1"),
         "every chosen token is masked; only 80 % are, 10 % become a random token and 10 % stay."),
        ("dice < 0.9", "dice < 1", "20 % become random; the last 10 % (dice ≥ 0.9) must stay as they are."),
        (" & ~special", "", "special tokens are chosen too; they are never hidden."),
        ("~asked", "asked", "the labels are inside out: the chosen tokens need their ids, the others -100."),
        ("ids.masked_fill(~asked", "inputs.masked_fill(~asked",
         "the labels are taken from the masked text; they must be the original ids."),
        (("dice >= 0.8", "dice >= 0.9"), ("dice < 0.9", "dice < 1"),
         "random and kept changed places: dice from 0.8 to 0.9 means random, from 0.9 on kept."),
        ("chosen < 0.15", "chosen >= 0.15", "the wrong ones are chosen: chosen < 0.15 picks 15 %."),
    ],
    hints=["First decide who is picked: chosen below 0.15, and not special. Labels depend on that alone.",
           "`labels = torch.where(picked, ids, -100)`; "
           "then two torch.where for the inputs, one per range of dice."],
)


def _steps(query: int, key: int) -> Tensor:
    """Distances key − query with spread-out queries, to the future and to the past."""
    return torch.arange(key) - torch.linspace(0, key - 1, query).long()[:, None]


exercise(t5.relative_buckets, picture=lambda output: output / output.max(),
    cases=lambda: [
        (_steps(5, 130), 20, 100, True),
        (_steps(4, 131), 20, 100, False),
        (_steps(3, 60), 12, 40, True),
        (_steps(3, 130), 15, 100, False),  # more rough buckets than exact ones
    ],
    slips=[
        (("distance > 0", "distance < 0"), ("(-distance)", "distance"),
         "past and future are swapped: distance is key − query, so it is negative for earlier tokens."),
        ("if both_ways", "if True",
         "both_ways is not used: a decoder sees no future, so all its buckets serve the past."),
        ("(-distance).clamp(min=0)", "distance.abs()",
         "in a decoder the future shares bucket 0; here it is counted like the past."),
        ("buckets //= 2", "pass",
         "looking both ways, each side has half of the buckets; here each side has all of them."),
        ("distance > 0", "distance < 0",
         "the upper half of the buckets belongs to the future (distance > 0), here it went to the past."),
        ("rough.clamp", "distance.clamp", "far distances have one bucket each until they run out; "
         "they must share buckets, wider and wider (log)."),
        ("rough.clamp(max=buckets - 1)", "rough",
         "the numbers run past the last bucket: everything beyond `farthest` shares it."),
        ("log(farthest / exact)", "log(farthest)",
         "divide by log(farthest / e): e is where the far zone begins."),
        ("* (buckets - exact)", "* buckets", "the far zone has b − e buckets, not b."),
        ("exact + (octaves", "(octaves", "e is missing: the far buckets stand behind the e near ones."),
        (".log()", ".log2()", "two kinds of logarithm: above log₂, below ln; they must be of one kind."),
        ("max=buckets - 1", "max=buckets", "the last bucket has the number b − 1; here it is b."),
        ("= buckets // 2", "= buckets // 4",
         "too few distances have a bucket of their own: half of each side's buckets hold one distance each."),
    ],
    hints=["Three zones: "
           "near distances one by one, far ones on a logarithmic scale, the rest in the last bucket.",
           "If both ways: halve the buckets, add that half where distance > 0, "
           "and go on with the absolute distance. Else n = (−distance).clamp(min=0).",
           "With e = buckets // 2: n below e keeps its number; "
           "else e + int(log(n / e) / log(farthest / e) · (buckets − e)), at most buckets − 1."],
)

quiz(1, "A VLM has read 576 image tokens and now writes an answer with a KV cache. "
        "What does the image cost at each further step?", [
    ("All 576 tokens go through the model again.", False,
     "That is what the cache saves: their keys and values are kept."),
    ("Nothing; the image was read already.", False,
     "Every new token still looks at them, and they stay in memory."),
    ("In every layer, the new token reads 576 kept keys and values.", True,
     "That is why few image tokens and few key heads matter."),
])
quiz(2, "Your caption model sees no image, yet its loss on new captions falls clearly below their entropy. "
        "What do you conclude?", [
    ("It generalises better than expected.", False,
     "No model can on average be less surprised than the process that made the captions."),
    ("Something shows it the answer: mask or labels are wrong.", True,
     "You planted exactly that: a mask that is off by one."),
    ("It was trained for too long.", False,
     "Overfitting raises the loss on new captions; it never lowers it below the entropy."),
])
quiz(3, "Why is BERT a poor choice for writing a caption word by word?", [
    ("It cannot name the last word, since nothing stands behind it.", False,
     "It can: put a mask at the end. But to do so it reads the whole caption anew for every word."),
    ("Its earlier tokens see the new one, so nothing can be kept.", True,
     "Without a causal mask every new word changes all keys and values. BLIP adds the mask, so BERT writes."),
    ("It learns from 15 % of the words only.", False,
     "That makes training slower, not writing: it would be just as awkward after learning from all."),
])
