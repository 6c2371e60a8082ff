"""Exercises of chapter 09: who sees which image, the resampler, the gated block, prompts with examples."""

import torch
from torch import Tensor, nn

from vlmcourse.data import chat
from vlmcourse.exercises.base import Unaffected, chapter
from vlmcourse.models import flamingo

exercise, quiz = chapter("09_flamingo")


def _starts(token: int, *places: list[int]) -> Tensor:
    """True at the placeholders of each text."""
    starts = torch.zeros(len(places), token, dtype=torch.bool)
    for row, own in zip(starts, places, strict=True):
        row[own] = True
    return starts


def _later(case: tuple) -> tuple:
    """No image behind the first three tokens, so that there are never more than ``images``."""
    starts, images, last_only = case
    return torch.cat([starts[:, :3], torch.zeros_like(starts[:, 3:])], dim=1), images, last_only


exercise(flamingo.media_mask, picture=lambda output: output[0].float(),
    cases=lambda: [
        (_starts(7, [1, 4], [3]), 3, True),
        (_starts(7, [1, 4], [3]), 3, False),
        (_starts(6, [0, 1, 4], [2, 3], []), 3, True),
        (_starts(6, [0, 1, 4], [2, 3], []), 4, False),
    ],
    slips=[
        ("number == begun", "number <= begun",
         "with last_only a token sees all images before it; only the last one counts there."),
        ("number == begun", "number >= begun", "with last_only a token sees the last image and all that "
         "follow; what comes later in the text must stay hidden."),
        ("number <= begun", "number == begun",
         "without last_only a token still sees the last image alone; there it may look at all before it."),
        ("number <= begun", "number >= begun",
         "without last_only a token sees what follows; it may look at what stands before it."),
        ("number <= begun", "number < begun",
         "without last_only the last image is left out; it stands before the token, too."),
        (("arange(1, images + 1", "arange(images"),
         "images are counted from 0 here and those that have begun from 1, so a token sees the next one."),
        ("starts.cumsum(dim=1)", "(starts.cumsum(dim=1) - starts.long())",
         "a placeholder does not see its own image; the image begins there, so it may."),
        ("dim=1", "dim=0", "images are counted from text to text; each text counts its own, token by token."),
        ("if last_only", "if not last_only", "the two masks are exchanged."),
        ("== begun if", "== begun.clamp(min=1) if",
         "with last_only the text before the first image sees that image; it may see none."),
        ("starts.cumsum(dim=1)", "starts.long().flip(1).cumsum(dim=1).flip(1)",
         "images are counted from the end of the text; how many have begun says the count from its start."),
        ("starts.cumsum(dim=1)", "starts.flatten().cumsum(dim=0).view_as(starts)",
         "the count goes on from one text to the next; each text begins again at 0."),
        ("return number == begun if last_only else number <= begun",
         "begun = torch.where(begun > 0, begun, images if last_only else 0)\n"
         "    return number == begun if last_only else number <= begun",
         "with last_only the text before the first image sees the last one, as an index of -1 does; "
         "it may see none."),
        ("starts.cumsum(dim=1)", "starts.cumsum(dim=1).clamp(min=1)",
         "the text before the first image sees that image; it may see none."),
        ("number <= begun", "(number <= begun) | True",
         "without last_only a token sees every image, those that follow, too; it may see those before it."),
        ("starts.cumsum(dim=1)", "torch.ones_like(starts).cumsum(dim=1)",
         "every token is counted as an image; only the placeholders are, which `starts` marks."),
    ],
    hints=["Number the images of a text 1, 2, 3, … How many have begun at each token?",
           "`starts.cumsum(dim=1)` counts them: (batch, token). Give it a last axis and compare it with "
           "`torch.arange(1, images + 1)`: == for the last one, <= for all before."],
    unaffected=[Unaffected("what a token may see depends on the text behind it; "
                           "only images at or before it count.", _later, lambda output: output[:, :3])],
)


def _doubled(case: tuple) -> tuple | None:
    """The first case, in which text 1 has one image of two latents; all images shown twice as large."""
    latents, counts = case
    return (2 * latents, counts) if counts.tolist() == [2, 1, 3] else None


exercise(flamingo.side_by_side, gradient=("latents",),
    cases=lambda: [
        (torch.randn(6, 2, 5), torch.tensor([2, 1, 3])),
        (torch.randn(4, 3, 2), torch.tensor([0, 4])),
        (torch.randn(5, 2, 3), torch.tensor([3, 0, 1, 1])),
    ],
    slips=[
        ("image < counts[:, None]", "image >= counts.max() - counts[:, None]",
         "shorter rows are filled up in front; images come first, then the zeros."),
        ("return rows.flatten(1, 2)", "return rows.transpose(1, 2).flatten(1, 2)",
         "the images of a text are interleaved; all latents of one image come first, then the next one's."),
        ("= latents\n", "= latents.flip(0)\n", "the images come in the wrong order: the last one first."),
        ("= latents\n", "= latents.flip(1)\n", "the latents of each image come in the wrong order."),
        ("return rows", "first = counts.cumsum(0) - counts\n"
         "    rows = latents[(first[:, None] + image).clamp(max=len(latents) - 1)]\n    return rows",
         "a shorter row is filled up with images of other texts; zeros belong there."),
        ("return rows.flatten(1, 2)", "return rows",
         "image and latent are two axes still; put them together."),
        ("rows[there] = latents", "rows[:] = latents[0]",
         "every place shows the first image; each image has its own place."),
        ("return rows", "return rows.sum(dim=1) / counts.clamp(min=1)[:, None, None]\n    return rows",
         "the images of a text are averaged; they stand one behind the other."),
        ("return rows", "return rows[:, 0]\n    return rows",
         "only the first image of each text is there; all of them stand side by side."),
        ("return rows", "return rows.transpose(0, 1).flatten(1, 2)\n    return rows",
         "texts and images are exchanged: a row belongs to a text, and its images stand in it."),
        ("int(counts.max())", "int(counts.sum())",
         "rows have room for all images of all texts; the most that one text has is enough."),
        ("rows[there] = latents", "rows[there] = latents[image.expand_as(there)[there]]",
         "every text takes the first images of all; each goes on where the text before it ended."),
        ("rows[there] = latents", "rows[there] = latents[there.nonzero()[:, 0]]",
         "all places of text i show image i; the images are counted on from text to text."),
        ("return rows", "rows = rows[counts > 0]\n    return rows",
         "a text without images is left out; it keeps its row, all zeros."),
        ("return rows", "last = rows[torch.arange(len(rows)), counts - 1]\n"
         "    rows = torch.where(there[..., None, None], rows, last[:, None])\n    return rows",
         "a shorter row is filled up with its last image again; zeros belong there."),
    ],
    hints=["Make a table of zeros with a row for each text and a column for each image. "
           "Which of its places are real?",
           "`there = torch.arange(most) < counts[:, None]` marks them, row by row, in the order in which the "
           "images come: `rows[there] = latents`, then `flatten(1, 2)`."],
    unaffected=[Unaffected("the end of a shorter row changes with the images; only zeros belong there.",
                           _doubled, lambda output: output[1, 2:])],
)


class _Ask(nn.Module):
    """Attention with one head, from the first argument to the second; the same in any order of the latter."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        for matrix in self.parameters():
            nn.init.normal_(matrix, std=width**-0.5)

    def forward(self, asking: Tensor, context: Tensor) -> Tensor:
        scores = self.query(asking) @ self.key(context).transpose(1, 2)
        return scores.softmax(dim=-1) @ self.value(context)


def _norm(width: int) -> nn.LayerNorm:
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight, 1.0, 0.5)
    nn.init.normal_(norm.bias)
    return norm


def _resample_case(picture: int, latent: int, patch: int, width: int) -> tuple:
    latents, patches = 2 * torch.randn(picture, latent, width), 3 * torch.randn(picture, patch, width) + 1
    return latents, patches, _norm(width), _norm(width), _Ask(width)


exercise(flamingo.resample, gradient=("latents", "patches"),
    cases=lambda: [_resample_case(2, 3, 5, 4), _resample_case(3, 2, 7, 6)],
    slips=[
        ("latents + attend", "attend", "the residual stream is missing: add what was seen to the latents."),
        ("return latents", "return asking",
         "the normalised latents go on; the latents themselves do, the norm is for attention alone."),
        ("torch.cat([norm_patches(patches), asking], dim=1)", "norm_patches(patches)",
         "the latents do not see each other; they stand in the context beside the patches."),
        ("torch.cat([norm_patches(patches), asking], dim=1)", "asking",
         "the latents look at each other alone, so no image comes in; the context begins with the patches."),
        ("norm_patches(patches)", "patches", "the patches are not normalised; norm_patches is theirs."),
        ("norm_patches(patches)", "norm_latents(patches)",
         "the patches went through the norm of the latents."),
        ("= norm_latents(latents)", "= latents", "the latents are not normalised before they ask."),
        ("= norm_latents(latents)", "= norm_patches(latents)",
         "the latents went through the norm of the patches."),
        ("asking]", "latents]", "in the context the latents stand as they are; "
         "there, too, attention reads them normalised."),
        ("asking]", "norm_patches(latents)]",
         "in the context the latents went through the norm of the patches; they have their own."),
        ("attend(asking", "attend(latents", "the latents ask as they are; attention reads them normalised."),
        (("= norm_latents(latents)", "= norm_patches(latents)"),
         ("norm_patches(patches)", "norm_latents(patches)"),
         "the two norms changed places."),
        (("torch.cat([norm_patches(patches), asking], dim=1)", "norm_patches(patches)"),
         ("return latents + ", "latents = latents + "),
         ("norm_patches(patches))", "norm_patches(patches))\n    asking = norm_latents(latents)\n"
          "    return latents + attend(asking, asking)"),
         "patches and latents are asked one after the other; they stand in one context, asked once."),
        ("torch.cat([norm_patches(patches), asking], dim=1)",
         "norm_patches(patches)) + attend(asking, asking",
         "patches and latents are asked apart and the answers added; "
         "in one context they compete for the same attention."),
    ],
    hints=["Who asks: the latents. Who is asked: the patches, and the latents as well. Everyone normalised.",
           "`asking = norm_latents(latents)`; the context is "
           "`torch.cat([norm_patches(patches), asking], dim=1)`; and the result is added to `latents`."],
)


def _gated_case(batch: int, token: int, width: int, look_gate: float, think_gate: float) -> tuple:
    look, think = (nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(2))
    for matrix in (look[0].weight, think[0].weight):
        nn.init.normal_(matrix, std=0.8)
    return torch.randn(batch, token, width), look, think, torch.tensor(look_gate), torch.tensor(think_gate)


def _other_steps(case: tuple) -> tuple | None:
    """Closed gates, and look and think exchanged."""
    tokens, look, think, *gates = case
    return None if any(gates) else (tokens, think, look, *gates)


exercise(flamingo.gated_block, gradient=("tokens", "look_gate", "think_gate"),
    cases=lambda: [
        _gated_case(2, 3, 4, 0.8, -1.4),
        _gated_case(3, 2, 5, -0.6, 0.9),
        _gated_case(2, 4, 3, 0.0, 0.7),
        _gated_case(2, 5, 4, 1.2, 0.0),
        _gated_case(3, 4, 5, 0.0, 0.0),
    ],
    slips=[
        ("look_gate.tanh()", "look_gate", "the first gate lacks its tanh."),
        ("think_gate.tanh()", "think_gate", "the second gate lacks its tanh."),
        (("look_gate.tanh()", "look_gate"), ("think_gate.tanh()", "think_gate"),
         "both gates lack their tanh, which keeps them between −1 and 1."),
        (("look_gate.tanh()", "look_gate.sigmoid()"), ("think_gate.tanh()", "think_gate.sigmoid()"),
         "a sigmoid is half open at 0; a gate of 0 must change nothing, as tanh(0) = 0 does."),
        (("tokens = tokens + look", "seen = tokens + look"), ("return tokens", "return seen"),
         "look and think read the same tokens; the second step reads what the first one made."),
        (("look_gate.tanh() * look", "think_gate.tanh() * look"),
         ("think_gate.tanh() * think", "look_gate.tanh() * think"), "the gates are exchanged."),
        ("think_gate.tanh() * think", "look_gate.tanh() * think",
         "one gate serves both steps; each has its own."),
        ("tokens = tokens + ", "tokens = ", "the first step lost the residual stream."),
        ("return tokens + ", "return ", "the second step lost the residual stream."),
        (("tanh() * look(tokens)", "tanh() * think(tokens)"),
         ("think_gate.tanh() * think(tokens)", "think_gate.tanh() * look(tokens)"),
         "it thinks before it looks; first comes the image."),
        (("look_gate.tanh() * look(tokens)", "(look_gate * look(tokens)).tanh()"),
         ("think_gate.tanh() * think(tokens)", "(think_gate * think(tokens)).tanh()"),
         "the tanh goes around all of it; only the gates get one."),
        ("= tokens + look_gate", "= (1 - look_gate.tanh()) * tokens + look_gate",
         "this blends: an open gate shuts out the words. The stream is added in full."),
        (("= tokens + look_gate", "= (1 - look_gate.tanh()) * tokens + look_gate"),
         ("return tokens + think_gate", "return (1 - think_gate.tanh()) * tokens + think_gate"),
         "this blends: an open gate shuts out the words. The stream is added in full."),
        ("look_gate.tanh() * ", "", "the first gate is not used."),
        ("think_gate.tanh() * ", "", "the second gate is not used."),
        (("tokens + look_gate.tanh() * look(tokens)", "look_gate.tanh() * (tokens + look(tokens))"),
         ("tokens + think_gate.tanh() * think(tokens)", "think_gate.tanh() * (tokens + think(tokens))"),
         "the gate is on the stream as well, which a gate of 0 makes 0; only what a step adds is gated."),
        (("tokens = tokens + look", "seen = look"), ("return tokens", "return tokens + seen"),
         ("think(tokens)", "think(seen)"),
         "think reads only what look saw; it reads the stream, to which that was added."),
        (("tokens = tokens + look", "tokens = look"), ("return tokens + ", "return "),
         "both steps lost the residual stream."),
        (("look_gate.tanh() * look(tokens)", "look_gate * look(tokens).tanh()"),
         ("think_gate.tanh() * think(tokens)", "think_gate * think(tokens).tanh()"),
         "the tanh is on what the steps make; it belongs to the gates."),
        (("look_gate.tanh() * look", "(look_gate.tanh() * think_gate.tanh()) * look"),
         ("think_gate.tanh() * think", "(look_gate.tanh() * think_gate.tanh()) * think"),
         "both gates are on both steps; each step has one gate."),
        (("tokens = tokens + look", "seen = look"), ("think(tokens)", "think(seen)"),
         "what look saw goes into think alone; it is added to the stream, too, and think reads that."),
        (("look_gate.tanh()", "(look_gate != 0)"), ("think_gate.tanh()", "(think_gate != 0)"),
         "a gate is a switch here, open or shut; tanh opens it little by little."),
        (("look_gate.tanh()", "look_gate.relu()"), ("think_gate.tanh()", "think_gate.relu()"),
         "a ReLU lets no gate below 0; tanh lets it subtract as well as add."),
        (("look_gate.tanh() * look(tokens)", "think_gate.tanh() * think(tokens)"),
         ("+ think_gate.tanh() * think(tokens)\n    return tokens + think_gate.tanh() * think(tokens)",
          "+ think_gate.tanh() * think(tokens)\n    return tokens + look_gate.tanh() * look(tokens)"),
         "it thinks before it looks; first comes the image."),
    ],
    hints=["Two steps, each of the form tokens + gate · something(tokens).",
           "`tokens = tokens + look_gate.tanh() * look(tokens)`, and the same with think."],
    unaffected=[Unaffected("with both gates at 0 it matters still what look and think do; "
                           "a gate of 0 must shut its step out.", _other_steps)],
)

exercise(chat.few_shot,
    cases=lambda: [
        ([("what colour?", "red"), ("which Shape?", "star")], "what size?"),
        ([("dax?", "large")], "dax?"),
        ([], "where?"),
        ([("a?", "b"), ("c?", "d"), ("a?", "e")], "c?"),
    ],
    slips=[
        ("IMAGE_WORD + asked", "asked + IMAGE_WORD",
         "in the examples the image stands behind the instruction; it stands before it."),
        (("IMAGE_WORD + asked", "asked + IMAGE_WORD"),
         ("IMAGE_WORD + instruction", "instruction + IMAGE_WORD"),
         "the image stands behind the instruction; put it in front."),
        ("IMAGE_WORD + asked", "asked", "the examples have no images; each instruction has its own."),
        ("IMAGE_WORD + instruction", "instruction", "the last instruction has no image."),
        (("IMAGE_WORD + asked", "asked"), ("IMAGE_WORD + instruction",
          "IMAGE_WORD * (len(examples) + 1) + instruction"),
         "all images stand together at the end; each stands before its own instruction."),
        ("IMAGE_WORD + asked", "IMAGE_WORD + instruction",
         "the examples ask what is asked last; each has an instruction of its own."),
        ("in examples", "in reversed(examples)", "the examples come in reverse order."),
        ("instruction)]", 'instruction), ("assistant", "")]',
         "an empty answer stands at the end; the model is to write it, so nothing follows the instruction."),
        (("(\"user\", IMAGE_WORD + asked)", "(\"assistant\", IMAGE_WORD + asked)"),
         ("(\"assistant\", answer)", "(\"user\", answer)"), "the roles of the examples are exchanged."),
        (("IMAGE_WORD + asked), (\"assistant\", answer)", "IMAGE_WORD + answer), (\"assistant\", asked)"),
         "instruction and answer of the examples are exchanged."),
        (("(\"user\", IMAGE_WORD + asked)", "(IMAGE_WORD + asked, \"user\")"),
         ("(\"assistant\", answer)", "(answer, \"assistant\")"),
         ("(\"user\", IMAGE_WORD + instruction)", "(IMAGE_WORD + instruction, \"user\")"),
         "role and text of the turns are exchanged; the role comes first."),
        (', ("assistant", answer)', "", "the answers of the examples are missing; they are the example."),
        ("return [*turns, (\"user\", IMAGE_WORD + instruction)]", "return turns",
         "the last instruction is missing."),
        (("IMAGE_WORD + asked), (\"assistant\", answer)", "IMAGE_WORD + asked + answer)"),
         "an example's answer stands in the user's turn; it is a turn of its own, the assistant's."),
        (("[(\"user\", IMAGE_WORD + asked)", "[(\"user\", IMAGE_WORD), (\"user\", asked)"),
         ("(\"user\", IMAGE_WORD + instruction)]", "(\"user\", IMAGE_WORD), (\"user\", instruction)]"),
         "the image has a turn of its own; it belongs into the instruction's, in front."),
        ("[*turns,", "[*turns[::2], *turns[1::2],",
         "all instructions come first and then all answers; each answer follows its own instruction."),
        ("[*turns, (\"user\", IMAGE_WORD + instruction)]", "[(\"user\", IMAGE_WORD + instruction), *turns]",
         "what is asked stands before the examples; put it last."),
        ("in examples", "in dict(examples).items()",
         "of two examples with the same instruction one is lost; they may differ in their images."),
        ("in examples", "in examples[-1:]", "only the last example is shown; all of them are."),
        ("in examples", "in examples[:1]", "only the first example is shown; all of them are."),
    ],
    hints=["An example is two turns, and what is asked at the end is one more of the user's.",
           '`("user", "<image>" + asked)`, then `("assistant", answer)`, for each example.'],
)

quiz(1, "Why does a Flamingo begin with gates at 0?", [
    ("So that it starts as the language model it was made from, and images come in as they prove useful.",
     True,
     "With open gates new random layers write into every block. "
     "In section 7 the loss at step 1 was a multiple of the text model's."),
    ("So that the frozen weights get no gradients.", False,
     "They are frozen anyway. With gates at 0 it is the new layers that get none, "
     "until the gates have moved a little."),
    ("So that text before the first image sees nothing.", False,
     "That is the media mask's work, and holds with any gates."),
])
quiz(2, "A word behind the third image looks at that image only. "
        "How can it know what the first one showed?", [
    ("It cannot.", False,
     "Words behind the first image looked at it, and later words read those words."),
    ("Through the words between them, in the language model's own attention.", True,
     "What nobody looked up in the first image when its words were read is lost, though. "
     "That is the price of the short mask."),
    ("The resampler mixes all images of a text.", False,
     "It reads one image at a time; its latents know nothing of the others."),
])
quiz(3, "Four examples with wrong answers help your model nearly as much as four with right ones. "
        "What do examples tell it?", [
    ("Which answers are common; it gives one that it has just read.", False,
     "Then wrong examples would make its answers wrong too; they are right about its own image."),
    ("How to see: which features of the image go with which answer.", False,
     "Then wrong answers would teach it wrong ones."),
    ("What kind of answer is asked for; what is in the image it knows already.", True,
     "Examples whose answers are of another kind lead it astray at once."),
])
