"""Exercises of chapter 12: a published row as a record, what answers tell, filters, balance and likeness."""

from collections import Counter

import torch

from vlmcourse.data import quality
from vlmcourse.data.formats import llava
from vlmcourse.exercises.base import Slip, chapter

exercise, quiz = chapter("12_data")


def _row(key: str | int, *said: tuple[str, str], **more: str) -> tuple:
    """A published row of these (from, value)."""
    turns = [{"from": who, "value": text} for who, text in said]
    return ({"id": key, **more, "conversations": turns},)


exercise(llava.llava_record,
    cases=lambda: [
        _row("000033471", ("human", "<image>\nWhat is red?"), ("gpt", "The star."), image="coco/33471.jpg"),
        _row("7", ("human", "Is it large?\n<image>"), ("gpt", "Yes, it is. "), ("human", "And round?\n"),
             ("gpt", "No."), image="a/7.png"),
        _row(58, ("human", " Which colours do you know? "), ("gpt", "Red,\nand blue."), model="vicuna"),
        _row("c-9", ("gpt", "Hello!"), ("human", "<image>\nWhere is it?"), ("gpt", "Top left."),
             image="9.jpg"),
        _row("d", ("system", "Be brief. "), ("gpt", "Yes?"), ("human", "What <image> is this?"),
             ("gpt", "A cross."), image="d.jpg"),
        _row("e", ("human", "Hello."), ("gpt", "Hi."), ("system", " Be brief."),
             ("human", "<image> And this?"), ("gpt", "A ring."), image="e.jpg"),
    ],
    slips=[
        ('image_first(said["value"]) if role == "user" else said["value"]', 'said["value"]',
         "<image> stays where the file has it, with its line end; it stands in front, without one."),
        (('SPEAKERS[said["from"]]', 'said["from"]'), ('role == "assistant"', 'role == "gpt"'),
         ('before == "user"', 'before == "human"'), ('if role == "user"', 'if role == "human"'),
         "the roles keep the file's names, human and gpt; here they are called user and assistant."),
        ('role == "assistant" and not', "False and not",
         "an answer before the first question is kept; nobody asked for it, so it is dropped."),
        (' and not any(before == "user" for before, _ in turns)', "",
         "all answers are dropped; only those before the first question are."),
        ('image_first(said["value"])', 'said["value"].replace("<image>\\n", "<image>").strip()',
         "only an <image> in front is put right; in many rows it stands behind the question."),
        ("turns=tuple(turns)", "turns=turns", "the turns are a list; a record holds a tuple of them."),
        ('str(row["id"])', 'row["id"]', "the key is what the file has, sometimes a number; make it a text."),
        (', key=str(row["id"])', "", "the key is missing: the row's id, as a text."),
        ('image=row.get("image")', "image=None", "the picture's name is lost."),
        ('row.get("image")', 'row.get("image", "")',
         "a row without picture gets an empty name; None says that there is none."),
        ('image_first(said["value"])', '"<image>" + image_first(said["value"]).replace("<image>", "")',
         "every question gets an <image>; it stands only where the file has one."),
        ('image_first(said["value"])', 'image_first(said["value"]).replace("<image>", "")',
         "<image> is taken out; it stays, in front of its turn."),
        ("SPEAKERS[", 'dict(human="assistant", gpt="user", system="system")[',
         "the roles are exchanged: human is the user, and gpt the assistant."),
        (' if role == "user" else said["value"]', "",
         "answers and the system's words are stripped, too; only the user's turns change."),
        (('role == "assistant" and not any(before == "user" for before, _ in turns)', "not turns and role "
          '!= "user"'), "whatever comes before the first question is dropped; the system's words stay."),
        ('if role == "assistant" and not', 'if role == "system" or role == "assistant" and not',
         "the system's turns are left out; they stay, as they are."),
        ('SPEAKERS[said["from"]]', 'dict(human="user").get(said["from"], "assistant")',
         "whoever is not human is called assistant; the system keeps its role."),
    ],
    hints=["Go through row[\"conversations\"] one by one. Which of them stay, under which role, "
           "and how do they begin?",
           "`SPEAKERS[said[\"from\"]]` is the role. Skip an assistant's turn while no turn of the user is in "
           "`turns`; for the user's, append `image_first(said[\"value\"])`."],
)

exercise(quality.answer_entropy,
    cases=lambda: [
        (["red"] * 10,),
        (["red"] * 5 + ["pink"] * 3 + ["rose"] * 2,),
        (["2", "3", "2", "4", "2"],),
        ([f"word {number}" for number in range(10)],),
        (["yes", "no"] * 5,),
        (["yes", "yes", "no", "no", "no", "yes", "no"],),
    ],
    slips=[
        ("math.log2(share)", "math.log(share)",
         "the logarithm is the natural one; bits come from the logarithm to base 2."),
        ("math.log2(share)", "math.log10(share)",
         "the logarithm is the one to base 10; bits come from the logarithm to base 2."),
        ("-share * math.log2", "share * math.log2",
         "the sign is missing: logarithms of shares are negative, and disagreement is not."),
        ("-share * math.log2", "-math.log2",
         "each answer's surprise counts the same; weigh it by the answer's share."),
        ("sum(-share * math.log2(share) for share in shares)", "math.log2(len(shares))",
         "this counts how many different answers there are; how often each was given matters, too."),
        ("sum(-share * math.log2(share) for share in shares)", "float(len(shares))",
         "this is the number of different answers; entropy weighs them by their shares."),
        ("sum(-share * math.log2(share) for share in shares)", "1 - max(shares)",
         "this is the share of those who disagree with the majority; entropy looks at all answers."),
        ("sum(-share * math.log2(share) for share in shares)", "1 - sum(share**2 for share in shares)",
         "this is the chance that two people disagree (Gini's impurity); entropy is the mean surprise."),
        ("sum(-share * math.log2(share) for share in shares)",
         "sum(-share * math.log2(share) for share in shares) / math.log2(len(answers))",
         "it is divided by the largest possible entropy; here bits are wanted."),
        ("sum(-share * math.log2(share) for share in shares)",
         "sum(-share * math.log2(share) for share in shares) / len(shares)",
         "it is divided by the number of different answers; the shares are the weights already."),
        ("sum(-share * math.log2(share) for share in shares)",
         "2 ** sum(-share * math.log2(share) for share in shares)",
         "this is the perplexity, 2 to the entropy; stop before the power."),
        ("count / len(answers)", "float(count)", "the counts are not divided by the number of people."),
        ("count / len(answers)", "count / len(set(answers))",
         "the counts are divided by the number of different answers; divide by all answers."),
        ("Counter(answers).values()", "[1] * len(answers)",
         "each person counts as an answer of their own; those who say the same belong together."),
        ("Counter(answers).values()", "[len([*run]) for _, run in __import__('itertools').groupby(answers)]",
         "only neighbours who say the same are counted together; count them wherever they stand."),
        ("sum(-share * math.log2(share) for share in shares)", "-max(shares) * math.log2(max(shares))",
         "only the most frequent answer is counted; each answer adds its part."),
        ("sum(-share * math.log2(share) for share in shares)",
         "sum(-share * math.log2(share) for share in (max(shares), 1 - max(shares)) if share)",
         "all who disagree with the majority are taken together; each answer has a share of its own."),
        ("sum(-share * math.log2(share) for share in shares)",
         "max(-math.log2(share) for share in shares)",
         "this is the surprise at the rarest answer; weigh each answer's by its share, and add them."),
    ],
    hints=["What share of the people gave each answer? `Counter(answers)` counts them.",
           "For each share add -share · log2(share)."],
)


def _losses(rows: int) -> tuple:
    """Of each row: with its picture, without one, with a wrong one."""
    return tuple(2 * torch.randn(rows).abs() for _ in range(3))


exercise(quality.image_dependence, gradient=("seen", "unseen", "wrong"),
    cases=lambda: [_losses(7), _losses(4), (torch.tensor([0.2, 1.0, 3.0]), torch.tensor([2.0, 1.0, 0.5]),
                                            torch.tensor([4.0, 2.5, 1.0]))],
    slips=[
        ("torch.minimum(unseen, wrong)", "torch.maximum(unseen, wrong)",
         "the picture is compared with the worse control; only beating the better one proves anything."),
        ("torch.minimum(unseen, wrong) - seen", "seen - torch.minimum(unseen, wrong)",
         "the sign is turned round: a picture that saves loss has a positive score."),
        ("torch.minimum(unseen, wrong)", "unseen",
         "the wrong picture is not used; any picture might help as much as the right one."),
        ("torch.minimum(unseen, wrong)", "wrong",
         "the loss without picture is not used; the text alone might do as well."),
        ("torch.minimum(unseen, wrong)", "(unseen + wrong) / 2",
         "the controls are averaged; the better one of the two counts, row by row."),
        ("torch.minimum(unseen, wrong) - seen", "(torch.minimum(unseen, wrong) - seen).clamp(min=0)",
         "a negative score is cut off at 0; it says that the picture misleads."),
        ("torch.minimum(unseen, wrong) - seen", "torch.minimum(unseen, wrong) / seen",
         "this is a ratio of losses; the difference is what the picture saves."),
        ("torch.minimum(unseen, wrong) - seen", "(torch.minimum(unseen, wrong) - seen) / seen",
         "it is divided by the loss with the picture; the difference itself is wanted."),
        ("torch.minimum(unseen, wrong) - seen",
         "(torch.minimum(unseen, wrong) - seen) / torch.minimum(unseen, wrong)",
         "it is divided by the loss of the control; the difference itself is wanted."),
        ("torch.minimum(unseen, wrong)", "torch.minimum(unseen.mean(), wrong.mean())",
         "the controls are averaged over all rows; each row has its own."),
        ("torch.minimum(unseen, wrong)", "torch.minimum(unseen.min(), wrong.min())",
         "the best control of all rows is taken for every row; each row has its own."),
        ("torch.minimum(unseen, wrong) - seen", "(torch.minimum(unseen, wrong) - seen).mean()",
         "this is the mean over rows; one score for each row is wanted."),
        ("torch.minimum(unseen, wrong) - seen", "(torch.minimum(unseen, wrong) > seen).float()",
         "this only says whether the picture helps; by how much is wanted."),
        ("torch.minimum(unseen, wrong) - seen", "unseen - torch.minimum(seen, wrong)",
         "the wrong picture is set against no picture; both are controls, and `seen` stands alone."),
        ("torch.minimum(unseen, wrong) - seen", "unseen - wrong",
         "the loss with the right picture is not used; what it saves is asked."),
        ("torch.minimum(unseen, wrong) - seen", "(torch.minimum(unseen, wrong) - seen).abs()",
         "the sign is lost; below 0 the picture misleads."),
        ("torch.minimum(unseen, wrong) - seen", "(-seen).exp() - (-torch.minimum(unseen, wrong)).exp()",
         "these are differences of probabilities; subtract the losses as they are."),
        ("torch.minimum(unseen, wrong) - seen", "(unseen - seen) + (wrong - seen)",
         "what is saved beside each control is added up; only the better control counts."),
    ],
    hints=["Two controls: no picture, and a wrong one. Which of the two is harder to beat?",
           "`torch.minimum(unseen, wrong)` is the better control, row by row; subtract `seen`."],
)

_NAN = float("nan")

exercise(quality.clip_filter,
    cases=lambda: [
        (torch.rand(10) - 0.2, 0.3),
        (torch.tensor([0.3, _NAN, 0.1, 0.5, _NAN, -0.2, 0.4]), 0.5),
        (torch.tensor([0.2, 0.3, 0.3, 0.1, 0.3, 0.2]), 0.4),
        (torch.tensor([-0.1, _NAN, -0.4, 0.2]), 1.0),
        (torch.tensor([-0.6, 0.1, -0.7, 0.05, 0.3]), 0.75),
        (torch.full((5,), 0.25), 0.6),
        (torch.tensor([-0.1, _NAN, -0.3, 0.2, -0.2]), 0.6),
        (torch.rand(3), 0.2),
    ],
    slips=[
        ("descending=True, ", "", "the rows that fit worst are kept."),
        (("kept[order[:room]] = True", "kept = similarity > 0.3"),
         "a fixed threshold decides; here it is a share of the rows, whatever their similarities."),
        (("torch.where(similarity.isnan(), -torch.inf, similarity)", "similarity"),
         "a row without similarity (NaN) takes up the room of a good one; sorting puts NaN on top."),
        (("torch.where(similarity.isnan(), -torch.inf, similarity)", "similarity"),
         (" & ~similarity.isnan()", ""),
         "rows without similarity (NaN) are kept, and as the best ones; sorting puts NaN on top."),
        (" & ~similarity.isnan()", "",
         "a row without similarity (NaN) is kept where there is room for all; nobody knows that it fits."),
        (("int(len(similarity) * share + 1e-9)", "int((~similarity.isnan()).sum() * share + 1e-9)"),
         "rows without similarity (NaN) do not count in n; the share is one of all rows."),
        (("int(len(similarity) * share + 1e-9)", "math.ceil(len(similarity) * share - 1e-9)"),
         "the number of rows is rounded up; it is rounded down."),
        (("int(len(similarity) * share + 1e-9)", "round(len(similarity) * share)"),
         "the number of rows is rounded to the nearest; it is rounded down."),
        (("int(len(similarity) * share + 1e-9)", "max(1, int(len(similarity) * share + 1e-9))"),
         "at least one row is kept; rounded down there may be none."),
        (("argsort(descending=True, stable=True)", "argsort(stable=True).flip(0)"),
         "of equal similarities the later row is kept; the earlier one is kept first."),
        (("kept[order[:room]] = True",
          "kept = similarity >= torch.where(similarity.isnan(), -torch.inf, similarity)"
          "[order[:room]].amin() if room else kept"),
         "all rows as good as the last one kept stay, too, and that is more than the share."),
        (("return kept", "return ~kept"), "the output is turned round: True is for rows that stay."),
        (("return kept & ~similarity.isnan()", "return order[:room]"),
         "the output is numbers of rows; a bool for each row is wanted."),
        (("torch.where(similarity.isnan(), -torch.inf, similarity)",
          "torch.where(similarity.isnan(), -torch.inf, similarity.abs())"),
         "the sign of a similarity is lost; -0.6 fits worse than 0.1."),
        (("* share", "* (1 - share)"), "`share` is taken for what is thrown away; it is what stays."),
        (("kept[order[:room]] = True", "kept[order] = torch.arange(len(order)) < room\n"
          "    kept = kept & (similarity > 0)"),
         "rows with a similarity below 0 are thrown out, whatever the share."),
        (("kept[order[:room]] = True", "kept[:room] = True"),
         "the first rows of the set are kept; the best ones stay, in their places."),
        (("return kept & ~similarity.isnan()",
          "return similarity >= torch.nanquantile(similarity, 1 - share)"),
         "a quantile decides, which interpolates and ignores NaN; count n · share rows, rounded down."),
        (("return kept & ~similarity.isnan()", "return similarity >= similarity.quantile(1 - share)"),
         "a quantile decides, which is NaN if one similarity is, and interpolates; count n · share rows."),
        (("torch.where(similarity.isnan(), -torch.inf, similarity)", "similarity.nan_to_num(nan=0.0)"),
         "a row without similarity (NaN) counts as 0 and takes up the room of one below 0."),
        (("kept[order[:room]] = True", "kept[order.flip(0)[-room:]] = True"),
         "with room for 0 rows all are kept: `[-0:]` is everything."),
        (("kept[order[:room]] = True", "kept = similarity > similarity[order[room]]"),
         "rows as good as the first one left out go, too; of equal ones the earlier stay, if there is room."),
        (("kept[order[:room]] = True", "kept = similarity >= similarity[order[room - 1]]"),
         "all rows as good as the last one kept stay; with room for 0 rows that is `[-1]`, the worst."),
        (("return kept & ~similarity.isnan()", "return kept[~similarity.isnan()]"),
         "rows without similarity (NaN) are taken out; the output has one bool for every row."),
        (("return kept & ~similarity.isnan()",
          "return similarity[~similarity.isnan()].sort(descending=True)[0][:room]"),
         "these are similarities; a bool for each row is wanted."),
    ],
    hints=["How many rows stay? Which ones are they, if a row without similarity is the worst of all?",
           "Put -inf where it is NaN, sort with `argsort(descending=True, stable=True)`, set the first "
           "n · share of that order to True, and never a NaN."],
)

_SKY, _DOG = "what colour is the sky?", "how many dogs are there?"


def _pairs(*pairs: tuple[str, str]) -> tuple[list[str], list[str]]:
    """Questions, and their answers."""
    asked, answers = zip(*pairs, strict=True)
    return list(asked), list(answers)


def _counted_on_the_way(asked: list[str], answers: list[str]) -> list[int]:
    """A row stays unless its answer is ahead of all others of its question so far."""
    before: dict[str, Counter] = {}
    kept = []
    for row, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        count = before.setdefault(question, Counter())
        if count[answer] <= count.total() - count[answer]:
            kept.append(row)
        count[answer] += 1
    return kept


exercise(quality.balanced_rows,
    cases=lambda: [
        _pairs((_SKY, "blue"), (_SKY, "blue"), (_DOG, "1"), (_SKY, "grey"), (_SKY, "blue"), (_DOG, "2"),
               (_SKY, "blue"), (_SKY, "red"), (_SKY, "blue")),
        _pairs((_DOG, "2"), (_DOG, "2"), (_SKY, "blue"), (_DOG, "1"), (_SKY, "blue"), (_DOG, "1"),
               (_DOG, "2"), (_DOG, "3")),
        _pairs(("is it?", "no"), ("is it?", "yes"), ("was it?", "yes"), ("is it?", "yes"), ("was it?", "no"),
               ("was it?", "no"), ("was it?", "no"), ("is it?", "yes"), ("was it?", "yes")),
        _pairs(("a?", "x"), ("b?", "x"), ("a?", "y"), ("a?", "z"), ("b?", "x"), ("a?", "x"), ("b?", "x"),
               ("b?", "y"), ("a?", "y")),
        _pairs(("a?", "x"), ("a?", "w"), ("a?", "x"), ("a?", "x"), ("a?", "w"), ("a?", "x"), ("a?", "x"),
               ("a?", "v"), ("a?", "x")),
        _pairs(("c?", "m"), ("d?", "n")),
    ],
    slips=[
        (("setdefault(question,", 'setdefault("",'), ("zip(asked, answers, strict=True)):",
          'zip([""] * len(asked), answers, strict=True)):'),
         "answers are counted over all questions; each question has a habit of its own."),
        ("count.total() - often", "0",
         "all rows with the most frequent answer are gone; as many stay as there are with another one."),
        ("count.total() - often", "min(often, 1)",
         "of the most frequent answer one row is kept; as many stay as there are with another answer."),
        ("count.total() - often", "(count.most_common(2) + [(None, 0)])[1][1]",
         "the most frequent answer is cut to the second one; all other answers together count."),
        ("count.total() - often", "count.total() // 2",
         "half of the rows before the cut are kept for it; then it is still more than the others are."),
        ("count.total() - often", "len(count) - 1",
         "the *different* other answers are counted; count the rows that have one of them."),
        ("count.total() - often", "count.total() - often - 1",
         "one row too few is kept of the most frequent answer."),
        (">= 0", "> 0", "one row too few is kept of the most frequent answer, "
         "and none of answers that nothing was wrong with."),
        (">= 0", ">= -1", "one row too many is kept of the most frequent answer."),
        ("        room[question, habit] = count.total() - often",
         "        room[question, habit] = often if len(count) == 1 else count.total() - often",
         "a question that always has the same answer stays; without another answer it teaches a habit."),
        ("        room[question, habit] = count.total() - often",
         "        room |= {(question, answer): min(count.values()) for answer in count}",
         "all answers are cut to the rarest one; only one that outweighs all others is cut."),
        ("            room[pair] -= 1", "            pass",
         "nothing is thrown away: the rows that were kept are not counted."),
        ("kept.append(row)", "kept.append(pair)",
         "the output is questions and answers; the numbers of the rows are wanted."),
        ("return kept", "return [row for row in range(len(asked)) if row not in kept]",
         "these are the rows that go; those that stay are wanted."),
        ("return kept", "return [row in kept for row in range(len(asked))]",
         "the output says for each row whether it stays; the numbers of those that stay are wanted."),
        (("for row, pair in enumerate(zip(asked, answers, strict=True)):",
          "for row, pair in reversed(list(enumerate(zip(asked, answers, strict=True)))):"),
         ("return kept", "return kept[::-1]"),
         "of the most frequent answer the last rows are kept; the first ones are."),
        (("for row, pair in enumerate(zip(asked, answers, strict=True)):",
          "for row, pair in enumerate(zip(asked, answers, strict=True), 1):"),
         "rows are counted from 1; they are counted from 0."),
        ("return kept", "return sorted(kept, key=lambda row: asked[row])",
         "the rows stand in groups by question; they stay in their order."),
        ("return kept", "cut = [asked[row] for row in range(len(asked)) if row not in kept]\n"
         "    return [row for row in kept if asked[row] not in cut]",
         "a question with a habit is thrown out altogether; its other answers, and as many rows, stay."),
        ("return kept", "return tuple(kept)", "the numbers stand in a tuple; a list of them is wanted."),
        Slip(_counted_on_the_way,
             "rows are counted as they come by; count all rows of a question before the first one is cut."),
    ],
    hints=["For each question: which answer is the most frequent, and how many rows have another one?",
           "With a `Counter` per question: room for the most frequent answer is `count.total() - often`. "
           "Then go through the rows, and keep one with that answer only while there is room."],
)

exercise(quality.difference_hash, picture=lambda output: output.float(),
    cases=lambda: [
        (torch.randint(0, 5, (3, 8, 9)).float(),),
        (torch.randint(0, 4, (2, 5, 4)).float(),),
        (torch.tensor([[[3.0, 5.0, 1.0, 1.0]], [[2.0, 2.0, 7.0, 9.0]]]).expand(2, 3, 4).contiguous(),),
        (torch.rand(2, 6, 5),),
    ],
    slips=[
        (("grey[:, :, 1:] > grey[:, :, :-1]", "grey[:, 1:] > grey[:, :-1]"),
         "each pixel is compared with the one above it; the one to its left is wanted."),
        ("] > grey", "] < grey", "the comparison is turned round: a bit is True where a pixel is "
         "brighter than the one to its left."),
        ("] > grey", "] >= grey", "equal neighbours give True; a pixel must be brighter."),
        ("] > grey", "] != grey", "a bit says that the two differ; it should say which one is brighter."),
        ("grey[:, :, :-1]", "grey.mean(dim=(1, 2), keepdim=True)",
         "this compares with the mean of the picture, which is another hash (average hash)."),
        (("grey[:, :, 1:] > grey[:, :, :-1]", "grey > grey.mean(dim=(1, 2), keepdim=True)"),
         "all pixels are compared with the picture's mean, which is another hash (average hash)."),
        (".flatten(1)", "", "rows and columns are two axes still; the bits stand in one row."),
        (".flatten(1)", ".flatten()", "the bits of all pictures stand in one row; each has its own."),
        (".flatten(1)", ".transpose(1, 2).flatten(1)", "the bits come column by column; go row by row."),
        ("grey[:, :, :-1]", "grey[:, :, :1]",
         "each pixel is compared with the first of its row; its left neighbour is wanted."),
        (("grey[:, :, 1:] > grey[:, :, :-1]", "grey > grey.roll(1, 2)"),
         "the first column is compared with the last one; it has no left neighbour and gives no bit."),
        (("grey[:, :, 1:] > grey[:, :, :-1]", "grey[:, :, 2:] > grey[:, :, :-2]"),
         "pixels two apart are compared; neighbours are wanted."),
        (("(grey[:, :, 1:] > grey[:, :, :-1])", "(grey[:, :, 1:] - grey[:, :, :-1])"),
         "these are differences; a bit only says which one is brighter."),
        (("(grey[:, :, 1:] > grey[:, :, :-1])", "(grey[:, :, 1:] > grey[:, :, :-1]).float()"),
         "the bits are floats; a comparison gives bool already."),
        (("(grey[:, :, 1:] > grey[:, :, :-1])", "(grey[:, :, 1:] > grey[:, :, :-1]).flip(2)"),
         "the bits of each row come from right to left."),
        (("(grey[:, :, 1:] > grey[:, :, :-1])", "(grey[:, :, 1:].int() > grey[:, :, :-1].int())"),
         "pixels are cut to whole numbers first; compare them as they are."),
    ],
    hints=["Which part of the picture are the pixels, and which part are their left neighbours?",
           "`grey[:, :, 1:]` has all pixels but the first column, `grey[:, :, :-1]` their left neighbours; "
           "compare, then `flatten(1)`."],
)

quiz(1, "A model answers 88 % of a test right, and 85 % without the pictures. What would you ask first?", [
    ("Which questions need their picture, and how the model does on those alone.", True,
     "85 % are habits of the text. Image dependence finds the rows that measure seeing."),
    ("Whether the vision encoder is too small; three points are a weak eye.", False,
     "It may be, but this test could not show it: habits answer nearly all of it."),
    ("Whether 88 % is above what people reach.", False,
     "That says nothing about seeing; habits alone reach 85 %."),
])
quiz(2, "All rows of set E are true. Why does its student fail on clean pictures?", [
    ("Rare colours are labelled less carefully.", False,
     "All are labelled by the same rule; nothing in section 5 was mislabelled."),
    ("There are too few rows; more of the same kind would mend it.", False,
     "More of the same rows bear the same habit; the clean set is no larger."),
    ("The habit lowers the loss before the student has learned to look.", True,
     "What the question tells already leaves little for the picture to teach. "
     "With twins only the picture tells."),
])
quiz(3, "A CLIP filter keeps the best 40 % of web pairs. Which good pairs does it tend to throw out?", [
    ("Those with long captions, since CLIP cannot read them.", False,
     "CLIP cuts long captions, but their beginning scores as others do."),
    ("Those whose truth CLIP itself cannot see: rare things, counts, places.", True,
     "A filter passes what it knows. What it is blind to scores low, true or not."),
    ("Those of large pictures, since CLIP shrinks all to one size.", False,
     "Shrinking loses detail, but most captions speak of what stays visible."),
])
