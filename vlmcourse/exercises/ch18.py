"""Exercises of chapter 18: who learns in a stage, what a prompt costs, a difference, claims."""
from vlmcourse.diagnostics import cost
from vlmcourse.evaluation import claims, comparing
from vlmcourse.exercises.base import chapter
from vlmcourse.training import stages

exercise, quiz = chapter("18_capstone")

_NAMES = ["vision.positions", "vision.blocks.0.norm.weight", "projector.expand.weight", "gated.1.look_gate",
          "resampler.latents", "language.embedding.weight", "language.blocks.3.mlp.up.weight",
          "language_norm.scale",
          "qformer.language.queries", "visionary"]  # fmt: skip

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
        ("2 * width * keys", "2 * width * width", "keys and values are as wide as `keys`; with "
         "grouped queries that is less than width."),
        ("2 * width * keys", "width * keys", "keys and values have one matrix each, so width × keys "
         "comes twice."),
        ("3 * width * hidden", "2 * width * hidden", "a LLaMA's MLP has three matrices: gate, up "
         "and down."),
        ("2 * tokens * tokens * width", "tokens * tokens * width",
         "every pair of tokens meets twice: once for the score, once for the value."),
        ("2 * tokens * tokens * width", "2 * tokens * tokens * keys",
         "every query head compares itself, so pairs of tokens cost width, however few keys are stored."),
        ("2 * tokens * tokens * width", "2 * tokens * width",
         "attention grows with the square of the tokens: each meets each."),
        (" + tokens * width * vocabulary", "", "the head is missing: it scores the whole vocabulary "
         "at every token."),
        ("tokens * width * vocabulary", "width * vocabulary",
         "the head scores every token of the prompt here, not only the last."),
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
    ],
    slips=[
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
}
_CLAIMS = [
    ("all kinds", "is", 0.953), ("all kinds", "is", 0.954), ("all kinds", "at least", 0.94),
    ("all kinds", "at least", 0.95), ("never measured", "is", 0.0), ("twins", "at least", 0.84),
    ("twins", "at most", 0.9), ("twins", "at most", 0.88), ("an empty image", "at most", 0.25),
    ("an empty image", "at most", 0.3), ("CHAIR_i", "is", 0.0), ("CHAIR_s", "at most", 0.125),
    ("CHAIR_s", "at least", 0.125), ("CHAIR_s", "at most", 0.1), ("CHAIR_s", "at least", 0.2),
    ("all kinds", "is", 0.9538), ("twins", "at least", 0.89), ("twins", "at most", 0.86),
    ("POPE", "is", 0.985), ("POPE", "is", 1.0), ("POPE", "at least", 0.99), ("all kinds", "is", 0.951),
]  # fmt: skip

exercise(claims.unproved,
    cases=lambda: [(_CLAIMS, _LINES), (_CLAIMS[::-1], _LINES), (_CLAIMS[:3], {}), ([], _LINES)],
    slips=[
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
