"""Exercises of chapter 18: who learns in a stage, what a prompt costs, a difference, claims."""
from vlmcourse.diagnostics import cost
from vlmcourse.evaluation import claims, comparing
from vlmcourse.exercises.base import chapter
from vlmcourse.training import stages

exercise, quiz = chapter("18_capstone")

# parts alternate, so that whoever sorts them by part is noticed
_NAMES = ["vision.positions", "projector.expand.weight", "vision.blocks.0.norm.weight", "gated.1.look_gate",
          "resampler.latents", "language.embedding.weight", "gated.0.vision", "qformer.language.queries",
          "language.blocks.3.mlp.up.weight", "language_norm.scale", "projector.contract.weight",
          "visionary"]  # fmt: skip

exercise(stages.trained_parts,
    cases=lambda: [
        (_NAMES, ["connector"]),
        (_NAMES, ["language"]),
        (_NAMES[::-1], ["connector", "language"]),
        (_NAMES, ["vision"]),
        (_NAMES[2:], ["language", "vision"]),
        (_NAMES, []),
    ],
    slips=[
        ("if part in trains", "if part not in trains", "what is named stays frozen and the rest "
         "learns; it is the other way round."),
        ('name.split(".")[0]', 'name.split(".")[-1]', "the last word of a name is read; its part is "
         "the first."),
        ('else "connector"', 'else word', "only vision and language are parts by name; projector, "
         "gated blocks and Q-Former are all the connector."),
        ('{"vision", "language"}', '{"language"}', "the vision encoder is taken for a connector, "
         "and would learn with it."),
        ('{"vision", "language"}', '{"vision"}', "the language model is taken for a connector, and "
         "would learn with it."),
        ("if part in trains", 'if part in trains or part == "connector"',
         "the connector learns in every stage; it does only where the stage names it."),
        ("if part in trains", "if part in trains[:1]", "only the first of the parts learns; all "
         "that are named do."),
        ("first = [", 'names = sorted(names)\n    first = [',
         "the names come out sorted; keep the order in which they were given."),
        ("if part in trains]", 'if part in trains or not trains]',
         "where no part is named, nothing learns; here everything does."),
        ("if part in trains", 'if part in trains and part != "vision"',
         "the vision encoder learns in no stage; which parts do is for `trains` to say."),
        ("if part in trains", 'if part in trains and len(trains) == 1',
         "where two parts are named, none learns; each of them does."),
        ("first = [", 'names = [name for name in names if "." in name]\n    first = [',
         "a name without a dot is lost; all of it is its first word, so it belongs to the connector."),
        (('word if word in whole else "connector" for word in first',
          'next((one for one in sorted(whole)[::-1] if one in name), "connector") for name in names'),
         "the part is looked for anywhere in the name; only the first word counts."),
        (('word if word in whole else "connector" for word in first',
          'next((one for one in name.split(".") if one in whole), "connector") for name in names'),
         "the part is looked for among all words of a name; only the first counts."),
        ('else "connector"', 'else dict(projector="connector").get(word)',
         "only the projector is taken for the connector; so are the resampler, gated blocks and a Q-Former."),
        ('else "connector"',
         'else dict.fromkeys(("projector", "gated", "resampler", "qformer"), "connector").get(word)',
         "the parts of a connector are listed by name; another model has others, so what is neither vision "
         "nor language is one."),
        ("return [name for name, part in zip(names, parts, strict=True) if part in trains]",
         "return [name for one in trains for name, part in zip(names, parts, strict=True) if part == one]",
         "the names are sorted by their parts; keep the order in which they were given."),
        ("return [name for name, part in zip(names, parts, strict=True) if part in trains]",
         "return [name for one in dict.fromkeys(first) for name, word in zip(names, first) "
         'if word == one and (word if word in whole else "connector") in trains]',
         "the names are grouped by their first words; keep the order in which they were given."),
        ("word if word in whole", 'next((one for one in sorted(whole) if word.startswith(one)), '
         '"connector") if word not in whole else word\n             if word in whole',
         "a name that only begins with the same letters, such as language_norm, is no language "
         "model; compare the whole first word."),
    ],
    hints=["Every name begins with a word and a dot. Two of these words are parts themselves; what "
     "is everything else?",
           "`name.split(\".\")[0]`; if that is neither \"vision\" nor \"language\", the part is "
           "\"connector\". Keep the names whose part is in `trains`."],
)

exercise(cost.prompt_flops,
    cases=lambda: [(70, 128, 4, 341, 64, 1024), (13, 48, 3, 40, 24, 97),
                   (1, 8, 1, 5, 8, 11), (7, 6, 2, 9, 2, 3)],
    slips=[
        ("return 2 * (", "return (", "a weight costs a multiplication and an addition: two "
         "operations, not one."),
        ("2 * width * width", "width * width", "queries and output have one matrix each, so width × "
         "width comes twice."),
        ("2 * width * keys", "width * keys", "keys and values have one matrix each, so width × keys "
         "comes twice."),
        ("3 * width * hidden", "2 * width * hidden", "a LLaMA's MLP has three matrices: gate, up "
         "and down."),
        ("2 * tokens * tokens * width", "tokens * tokens * width",
         "the meetings are half of what they should be: every pair of tokens meets twice, once for the "
         "score and once for the value, and each of them multiplies and adds."),
        ("2 * tokens * tokens * width", "tokens * (tokens + 1) * width",
         "only pairs that a causal mask leaves are counted; the scores of all pairs are computed, and then "
         "masked."),
        ("2 * tokens * tokens * width", "4 * tokens * tokens * width",
         "the meetings are counted twice over; every pair meets once for the score, once for the value."),
        ("2 * tokens * tokens * width", "tokens * tokens * (width + keys)",
         "one of the two meetings is as wide as `keys`; queries come in all heads, so both are as wide as "
         "width."),
        ("2 * tokens * tokens * width", "2 * tokens * tokens * width + tokens * tokens",
         "softmax is counted, too; it is no matrix, and only matrices are counted here."),
        (" + meetings", "", "the meetings of tokens in attention are missing."),
        ("2 * tokens * tokens * width", "2 * tokens * tokens * keys",
         "every query head compares itself, so pairs of tokens cost width, however few keys are stored."),
        ("2 * tokens * tokens * width", "2 * tokens * width",
         "attention grows with the square of the tokens: each meets each."),
        (" + tokens * width * vocabulary", "", "the head is missing: it scores the whole vocabulary "
         "at every token."),
        ("tokens * width * vocabulary", "width * vocabulary",
         "the head scores every token of the prompt here, not only the last."),
        ("tokens * width * vocabulary", "depth * tokens * width * vocabulary",
         "the head is counted in every block; it stands once, behind the last."),
        ("tokens * width * vocabulary", "2 * tokens * width * vocabulary",
         "the head is counted twice. Is the embedding one of them? It looks a row up and multiplies "
         "nothing."),
        ("+ tokens * width * vocabulary)", "+ tokens * width * vocabulary // 2)",
         "the head's weights cost a multiplication and an addition, too; here they cost one operation."),
        ("return 2 * (", "return 6 * (",
         "this is the bill of a training step, whose way back costs twice as much again; here it reads."),
        ("2 * width * keys", "2 * width * width",
         "keys and values are counted as wide as the queries; with grouped queries they are `keys` wide."),
        ("2 * width * keys", "2 * keys * keys",
         "a matrix that makes keys reads a token and so has width × keys weights, not keys × keys."),
        ("3 * width * hidden", "3 * hidden * hidden",
         "a matrix of the MLP leads from width to hidden, or back: width × hidden, not hidden × hidden."),
        ("2 * width * width", "2 * (width + 1) * width + 2 * keys + 3 * hidden",
         "biases are counted; a LLaMA's matrices have none, and only matrices are counted."),
        ("tokens * weights", "weights",
         "the weights are counted once; every token passes through all of them."),
        ("(tokens * weights + meetings)", "(tokens * weights / 2 + meetings)",
         "the weights cost one operation each; a multiplication and an addition are two."),
        ("depth * (tokens * weights + meetings)", "tokens * weights + meetings",
         "one block is counted; there are `depth` of them."),
        ("depth * (tokens * weights + meetings)", "depth * tokens * weights + meetings",
         "the meetings of tokens happen in every block, too."),
    ],
    hints=["Count weights first: in a block two matrices width × width, two width × keys, three "
     "width × hidden. Each weight costs every token two operations.",
           "To that come tokens · tokens · width for the scores and as much for the values, in each "
           "block, and tokens · width · vocabulary for the head; all times 2."],
)

exercise(comparing.square_and_add,
    cases=lambda: [
        ((0.9, 0.85, 0.93), (0.8, 0.72, 0.86)),
        ((0.25, 0.2, 0.4), (0.5, 0.45, 0.52)),
        ((1.0, 0.98, 1.0), (0.97, 0.9, 0.99)),
        ((0.6, 0.6, 0.6), (0.3, 0.1, 0.7)),
        ((2.9, 2.5, 3.2), (0.4, 0.3, 0.8)),  # CIDEr is no share
    ],
    slips=[
        ("mean - other, mean - other - below, mean - other + above", "mean - other, below, above",
         "these are the distances; take the lower one from the difference, and add the upper one to it."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, -below, above",
         "these are the distances from the difference; the ends of its interval are asked for."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other - below, mean - other, mean - other + above",
         "the low end comes first; the order is (difference, low, high)."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, mean - other + above, mean - other - below",
         "the two ends are exchanged; the order is (difference, low, high)."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, low - other_low, high - other_high",
         "end is taken from end; the difference is lowest where one is low and the other is high."),
        (("other_high - other)", "other - other_low)"), ("above = math.hypot(high - mean, other - other_low)",
          "above = math.hypot(high - mean, other_high - other)"),
         "the ends of the same side are put together; the difference is lowest where the first is low and "
         "the second high."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, mean - other - above, mean - other + below",
         "the way down and the way up are exchanged: down goes from the first to its low end."),
        ("mean - other, mean - other - below, mean - other + above",
         "abs(mean - other), abs(mean - other) - below, abs(mean - other) + above",
         "the sign is lost; a negative difference says that the first is smaller."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, max(0, mean - other - below), max(0, mean - other + above)",
         "the ends are cut off at 0; a difference may be negative."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, max(0, mean - other - below), mean - other + above",
         "the low end is cut off at 0; a difference may be negative."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, max(-1, mean - other - below), min(1, mean - other + above)",
         "the ends are cut off at −1 and 1; a measure such as CIDEr is no share and may go beyond."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, mean - other - 1.96 * below, mean - other + 1.96 * above",
         "the distances are stretched by 1.96; they are those of 95 % intervals already."),
        ("mean - other, mean - other - below, mean - other + above",
         "round(mean - other, 3), round(mean - other - below, 3), round(mean - other + above, 3)",
         "the numbers are rounded; whoever shows them may round them, whoever computes with them not."),
        (("math.hypot(mean - low, other_high - other)", "max(mean - low, other_high - other)"),
         ("math.hypot(high - mean, other - other_low)", "max(high - mean, other - other_low)"),
         "the larger distance stands for both; add their squares and take the root."),
        (("math.hypot(mean - low, other_high - other)", "(mean - low + other_high - other) / 2"),
         ("math.hypot(high - mean, other - other_low)", "(high - mean + other - other_low) / 2"),
         "the distances are averaged; add their squares and take the root."),
        (("math.hypot(mean - low, other_high - other)", "math.sqrt(mean - low + other_high - other)"),
         ("math.hypot(high - mean, other - other_low)", "math.sqrt(high - mean + other - other_low)"),
         "the root of the sum is taken, but nothing was squared before."),
        (("math.hypot(mean - low, other_high - other)", "math.hypot(mean - low, other_high - other) ** 2"),
         ("math.hypot(high - mean, other - other_low)", "math.hypot(high - mean, other - other_low) ** 2"),
         "the root is missing."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, mean - other - below / 2**0.5, mean - other + above / 2**0.5",
         "the mean of the squares is taken; two uncertainties together are more than one, so add them."),
        (("math.hypot(mean - low, other_high - other)", "math.hypot(high - low, other_high - other_low) / 2"),
         ("math.hypot(high - mean, other - other_low)", "below"),
         "half the widths are added in squares; an interval near 0 or 1 is lopsided, so each end has its "
         "own distance."),
        ("(mean, low, high), (other, other_low, other_high) = first, second",
         "(mean, low, high), (other, other_low, other_high) = first, second\n"
         "    mean, other = (low + high) / 2, (other_low + other_high) / 2",
         "the middle of an interval is taken for its mean; an interval may be lopsided."),
        ("mean - other, mean - other - below, mean - other + above",
         "mean - other, low - other_high, high - other_low",
         "the ends are taken at their worst together; that is rarer than either, so add squares and "
         "take the root."),
        ("math.hypot(mean - low, other_high - other)", "math.hypot(mean - low, other - other_low)",
         "below, the second model's end is the wrong one: the difference is lowest where the second "
         "is high."),
        ("math.hypot(high - mean, other - other_low)", "math.hypot(high - mean, other_high - other)",
         "above, the second model's end is the wrong one: the difference is highest where the "
         "second is low."),
        ("math.hypot(mean - low, other_high - other)", "mean - low + other_high - other",
         "below, the distances are added; add their squares and take the root."),
        ("math.hypot(mean - low, other_high - other)", "math.hypot(mean - low, other_high - other) ** 2",
         "below, the root is missing."),
        ("= math.hypot(high - mean, other - other_low)", "= below",
         "both ends are as far away; an interval near 0 or 1 is lopsided, so the upper end has its "
         "own distance."),
        ("(mean, low, high), (other, other_low, other_high) = first, second",
         "(mean, low, high), (other, other_low, other_high) = second, first",
         "the models are exchanged: it says how much larger the first is."),
        ("math.hypot(mean - low, other_high - other)", "mean - low",
         "below, the second model's uncertainty is left out."),
        ("math.hypot(high - mean, other - other_low)", "high - mean",
         "above, the second model's uncertainty is left out."),
    ],
    hints=["When is first − second smallest? Where the first is at its low end and the second at "
     "its high end. How far is each from its mean?",
           "below = √((mean − low)² + (other_high − other)²); above with the other ends. "
           "`math.hypot` is that root."],
)

_LINES = {
    "all kinds": (0.9532, 0.9401, 0.9655),
    "twins": (0.875, 0.84, 0.9),
    "an empty image": (0.25, 0.21, 0.29),
    "CHAIR_i": (0.0005, None, None),
    "CHAIR_s": (0.125, None, None),
    "POPE": (1.0, 0.985, 1.0),
    "reads print": (0.02, 0.0, 0.06),
}
_CLAIMS = [
    ("all kinds", "is", 0.953), ("all kinds", "is", 0.954), ("all kinds", "at least", 0.94),
    ("all kinds", "at least", 0.95), ("never measured", "is", 0.0), ("twins", "at least", 0.84),
    ("twins", "at most", 0.9), ("twins", "at most", 0.88), ("an empty image", "at most", 0.25),
    ("an empty image", "at most", 0.3), ("CHAIR_i", "is", 0.0), ("CHAIR_s", "at most", 0.125),
    ("CHAIR_s", "at least", 0.125), ("CHAIR_s", "at most", 0.1), ("CHAIR_s", "at least", 0.2),
    ("all kinds", "is", 0.9538), ("twins", "at least", 0.89), ("twins", "at most", 0.86),
    ("POPE", "is", 0.985), ("POPE", "is", 1.0), ("POPE", "at least", 0.99), ("all kinds", "is", 0.951),
    ("reads print", "at least", 0.01), ("twins", "is", 0.889), ("twins", "is", 0.9),
    ("twins", "at most", 0.86), ("all kinds", "is", 0.9534),
    ("all kinds", "is", 0.9536), ("an empty image", "is", 0.2503),
]  # fmt: skip

exercise(claims.unproved,
    cases=lambda: [(_CLAIMS, _LINES), (_CLAIMS[::-1], _LINES), (_CLAIMS[:3], {}), ([], _LINES)],
    slips=[
        ("low is None", "not low", "a low end of 0.0 is taken for no interval; ask whether it `is None`."),
        ("return open_claims", "return list(dict.fromkeys(open_claims))",
         "a claim that stands twice comes out once; every claim counts."),
        (("low >= number", "high <= number"), ('"at most": high <= number', '"at most": low >= number'),
         "at least and at most are exchanged: at least wants the low end above the number."),
        ("abs(value - number) <= 0.0005", "round(value, 3) == number",
         "is compares a rounded value with the number; ask how far away the number is."),
        ("abs(value - number) <= 0.0005", 'f"{value:.1%}" == f"{number:.1%}"',
         "is compares two rounded texts; 95.32 % and 95.36 % are near enough, and read as two."),
        ("abs(value - number) <= 0.0005", "abs(value - number) < 0.0005",
         "is wants less than 0.0005; at most 0.0005 away is near enough."),
        ("abs(value - number) <= 0.0005", "abs(value - number) <= 0.0005 * max(value, number)",
         "is measures the distance as a part of the number; 0.0005 is meant as it stands, near 0 as well."),
        ("abs(value - number) <= 0.0005", "abs(value - number) <= 0.001",
         "is accepts what is a whole tenth of a percent away; what rounds to the number is half as far."),
        ("abs(value - number) <= 0.0005", "number - value <= 0.0005",
         "is accepts every number that is too low; at most 0.0005 away means on both sides."),
        ("(value, value) if low is None", "(number, number) if low is None",
         "a line without an interval bears out every \"at least\" and \"at most\"; its value has to."),
        ("low >= number", "value >= number", "at least is held against the mean; another sample may "
         "fall below, so the low end has to reach it."),
        ("high <= number", "value <= number", "at most is held against the mean; another sample may "
         "rise above, so the high end has to stay under it."),
        ("abs(value - number) <= 0.0005", "value == number",
         "is wants every digit; a number on a card is rounded to a tenth of a percent."),
        ("abs(value - number) <= 0.0005", "low <= number <= high",
         "is accepts whatever lies in the interval; it says what was measured, to a tenth of a percent."),
        ("abs(value - number) <= 0.0005", "value - number <= 0.0005",
         "is accepts every number that is too high; a card may not round up as it likes."),
        ("            open_claims.append((name, relation, number))\n            continue", "        "
         "    continue",
         "what was never measured passes; a claim without a line is the first to be refused."),
        ("if not borne[relation]", "if borne[relation]", "these are the claims that are borne out; "
         "wanted are the others."),
        ("low >= number", "high >= number", "at least is held against the high end, so luck counts "
         "as proof."),
        ("high <= number", "low <= number", "at most is held against the low end, so luck counts as "
         "proof."),
        ("low, high = (value, value) if low is None else (low, high)",
         "low, high = (0.0, 1.0) if low is None else (low, high)",
         "a line without an interval proves nothing at all here; its value counts."),
        ("low >= number", "low > number", "a low end that reaches the number exactly is enough."),
    ],
    hints=["What does each kind of claim promise? \"is\" speaks of this report, \"at least\" and "
     "\"at most\" of every other sample, too.",
           "A missing name is not borne out. \"is\": |value − number| ≤ 0.0005; \"at least\": low ≥ "
           "number; \"at most\": high ≤ number; without an interval low and high are the value."],
)

quiz(1, "Your model has 96.1 % (95.0 to 97.1), the course's 97.0 % (96.0 to 97.8). The two "
 "intervals overlap. What follows?", [
    ("Nothing yet: the difference has its own interval.", True,
     "Square and add: −0.9 points, from −2.3 to 0.5. Not told apart, but by that interval, not by "
     "the overlap."),
    ("They are equally good.", False, "Not told apart is not equal. With more scenes the difference "
     "may show."),
    ("The course's is better, since its mean is higher.", False,
     "Another 200 scenes could turn the order round; the interval of the difference holds 0."),
])  # fmt: skip
quiz(2, "All slots of your model run your code. What is still the course's?", [
    ("Nothing: every function was written by you.", False, "Every slot was. Classes that hold "
     "parameters, the loop, the optimizer and the data are no slots."),
    ("The modules that hold parameters, the loops, the data, and weights it started from.", True,
     "Slots are the ideas; the rest is plumbing and starting points, and a card should say so."),
    ("The connector, since its class stands in the package.", False,
     "Its class holds the parameters; what is computed with them is your function."),
])  # fmt: skip
quiz(3, "Three connectors, the same steps and pictures, one run each; LLaVA is ahead. What may you "
 "write?", [
    ("LLaVA is the better architecture.", False, "At this budget, with this language model, which "
     "had read image tokens before. Longer runs brought all three above 98 %."),
    ("The comparison is worthless without ten seeds.", False,
     "Intervals over scenes say what these models do; seeds would say what such trainings do. Both "
     "are worth writing, apart."),
    ("At this budget, with these parts, this LLaVA answers more; a longer run may close the gap.", True,
     "The claim names its conditions, and the chapter's longer runs show why it must."),
])  # fmt: skip
