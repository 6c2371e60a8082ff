"""Exercises of chapter 15: efficient fine-tuning."""

import torch
from torch import nn
from torch.nn import functional as F

from vlmcourse.exercises.base import chapter
from vlmcourse.models import lora, quantise, recompute
from vlmcourse.training import memory, scaling

exercise, quiz = chapter("15_efficient_finetuning")

exercise(memory.state_bytes,
    cases=lambda: [(1000.0, 1000.0, 32), (1000.0, 0.0, 4.5), (1010.0, 10.0, 16, 2, 2, 12),
                   (5000.0, 200.0, 8, 4, 2, 6), (300.0, 100.0, 32, 2, 4, 0)],
    slips=[
        ("frozen * bits / 8", "frozen * bits", "bits are taken for bytes; a byte has eight of them."),
        ("frozen = parameters - learned", "frozen = parameters",
         "the parameters that learn are counted twice among the weights."),
        ("learned * gradient,", "parameters * gradient,",
         "frozen parameters get gradients here; only those that learn have one."),
        ("learned * optimizer", "parameters * optimizer",
         "the optimizer keeps its averages only for what learns; frozen parameters have none."),
        ("+ learned * weight,", "+ learned * bits / 8,",
         "what learns is kept in few bits too; it is kept in `weight` bytes a parameter."),
        ("+ learned * weight,", ",", "the weights that learn are forgotten among the weights."),
        ("frozen * bits / 8 + learned * weight", "parameters * weight",
         "all weights are counted as if they learned; frozen ones take `bits` bits each."),
        ("learned * gradient, learned * optimizer", "learned * optimizer, learned * gradient",
         "gradients and optimizer are exchanged; the order is weights, gradients, optimizer."),
    ],
    hints=["Two kinds of parameters: those that learn and those that do not. Which of them needs what?",
           "`frozen = parameters - learned`; weights are `frozen * bits / 8 + learned * weight`; the other "
           "two count what learns only."],
)

exercise(memory.block_numbers,
    cases=lambda: [(8, 20, 0.25, True, True), (8, 32, 1.0, False, True), (12, 30, 1.0, False, False),
                   (16, 44, 0.5, True, False), (10, 7, 0.5, False, True)],
    slips=[
        ("width * (1 + 2 * share) + width", "width * (1 + 2 * share)",
         "what attention makes is forgotten; the matrix behind it, and its own way back, need it."),
        ("width * (1 + 2 * share) + width", "4 * width",
         "keys and values are counted as wide as queries; grouped queries share them."),
        ("attention += width * (1 + share)", "pass",
         "query and key before they are turned are forgotten; in a gated block both versions stay."),
        ("attention += width * (1 + share)", "attention += width * (1 + 2 * share)",
         "the value is turned here; only query and key are."),
        ("3 * hidden if gated else hidden", "hidden",
         "a gated MLP keeps three vectors: the gate before and after its activation, and up."),
        ("3 * hidden if gated else hidden", "2 * hidden if gated else hidden",
         "of the gate both versions stay, before and after its activation; three vectors in all."),
        ("read = 2 * width + hidden if learns else 0", "read = 2 * width + hidden",
         "what a matrix reads is needed for its own gradient; a frozen one does not keep it."),
        ("read = 2 * width + hidden if learns else 0", "read = 2 * width if learns else 0",
         "the last matrix reads a vector of the hidden width; it is kept if it learns."),
        ("read = 2 * width + hidden if learns else 0", "read = width + hidden if learns else 0",
         "two matrices read a vector of the width: the first of the attention and the first of the MLP."),
        ("attention + mlp + read", "attention + mlp + read if learns else 0",
         "a block that does not learn keeps something, too: a gradient passes through it. Only what the "
         "matrices read goes away."),
        ("return 2.0 * width,", "return 1.0 * width,", "there are two norms, and each keeps what it reads."),
        ("return 2.0 * width, attention + mlp + read", "return attention + mlp + read, 2.0 * width",
         "the two numbers are exchanged; the residual stream comes first."),
    ],
    hints=["Go through the table row by row and write one sum for the attention, one for the MLP.",
           "attention = width · (1 + 2 · share) + width, and for a gated block width · (1 + share) more; "
           "the MLP has 3 · hidden if gated, else hidden; if it learns, 2 · width + hidden more."],
)


class _Chain(nn.Module):
    """Two linear layers that the first input runs through, with dropout; a second one is a factor."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.idle = nn.Parameter(torch.ones(2))  # the output does not depend on it

    def forward(self, tokens, bias=None):
        said = F.dropout(self.second(self.first(tokens).tanh()), 0.3, self.training)
        return said if bias is None else said * bias


def _again_case(width: int, hidden: int, needs: list[bool]) -> tuple:
    chain = _Chain(width, hidden)
    chain.first.bias.requires_grad_(False)
    chain.second.bias.grad = torch.ones(width)  # of examples that came before
    inputs = [torch.randn(2, 3, width), torch.rand(width) + 0.5][: len(needs)]
    return chain, inputs, needs, torch.randn(2, 3, width)


def _twice(case: tuple) -> tuple:
    """The first input is the second, too."""
    chain, (tokens, *_), needs, gradient = case
    return chain, [tokens, tokens], needs, gradient


def _frozen(case: tuple) -> tuple:
    case[0].requires_grad_(False)
    return case


exercise(recompute.gradients_again, no_graph=True,
    cases=lambda: [_again_case(4, 6, [True]), _again_case(5, 3, [False]), _again_case(7, 4, [True, True]),
                   _again_case(6, 2, [False, True]), _again_case(9, 5, [True, False]),
                   _twice(_again_case(4, 5, [True, True])), _frozen(_again_case(8, 5, [True, False]))],
    slips=[
        ("    with torch.enable_grad():\n        output = block(*copies)", "    output = block(*copies)",
         "the second run has no memory either: backward is called where torch follows no gradients. Run the "
         "block inside `with torch.enable_grad():`."),
        ("iter(torch.autograd.grad(output, wanted, gradient, allow_unused=True))",
         "(output.backward(gradient), iter([one.grad for one in wanted]))[1]",
         "backward() adds to the .grad of the weights, and training will add what you return once more; "
         "torch.autograd.grad only hands the gradients out."),
        ("tensor.detach().requires_grad_(need) for", "tensor.requires_grad_(need) for",
         "the inputs themselves are run, so an input that comes twice gets the gradients of both; run "
         "copies, made with detach()."),
        ("block(*copies)", "block.eval()(*copies)",
         "the block is run in another mode than the first time; leave train and eval as they are."),
        (", gradient, allow_unused=True)", ", torch.ones_like(output), allow_unused=True)",
         "the gradient that arrives from above is ignored; backward starts with it, not with ones."),
        (", gradient, allow_unused=True)", ", gradient * output, allow_unused=True)",
         "the gradient is multiplied by the output; it is handed over as it is."),
        ("+ list(found)", "+ list(found)[::-1]",
         "the gradients of what is learned come back in reverse order."),
        ("[next(found) if need else None for need in needs] + list(found)", "list(found)",
         "an input that needs no gradient still has a place in the list: None."),
        ("[next(found) if need else None for need in needs] + list(found)",
         "[next(found) if need else None for need in needs]",
         "the gradients of what is learned are missing: without them the block never learns."),
    ],
    hints=["Four steps: copies without a past, run with a memory, ask for gradients, put them in order.",
           "`copies = [x.detach().requires_grad_(need) for x, need in zip(inputs, needs)]`, and "
           "`output = block(*copies)` inside `with torch.enable_grad():`.",
           "`torch.autograd.grad(output, wanted, gradient, allow_unused=True)`, where `wanted` are the "
           "copies and the block's parameters that require a gradient; None for inputs that need none."],
)

exercise(scaling.next_scale,
    cases=lambda: [(65536.0, 1999, False), (1024.0, 3, True), (8.0, 1, False, 2.0, 0.5, 3),
                   (8.0, 2, False, 4.0, 0.5, 3), (8.0, 2, True, 2.0, 0.25, 3), (10.0, 0, False, 3.0, 0.5, 1),
                   (5.0, 0, True), (1.0, 7, True), (2.0**24, 1999, False)],
    slips=[
        ("scale * backoff, 0", "scale * backoff, quiet",
         "after an overflow counting goes on; it starts again at 0."),
        ("scale * backoff, 0", "scale, 0",
         "the scale stays after an overflow, so the next step overflows as well; multiply it by backoff."),
        ("scale * backoff, 0", "scale / backoff, 0",
         "the scale grows after an overflow; multiply by backoff, do not divide."),
        ("scale * growth, 0", "scale * growth, quiet + 1",
         "after growing, counting goes on; it starts again at 0."),
        ("quiet + 1 == interval", "quiet == interval",
         "this step counts too: it is the last of the interval if quiet + 1 reaches it."),
        ("return scale, quiet + 1", "return scale, quiet",
         "a step that went well is not counted, so the scale never grows."),
        ("return scale, quiet + 1", "return scale * growth, quiet + 1",
         "the scale grows after every step that went well; only after `interval` of them."),
        ("scale * growth, 0", "scale + growth, 0", "growth is added; the scale is multiplied by it."),
        ("scale * backoff, 0", "max(scale * backoff, 1.0), 0",
         "the scale stops at 1; if gradients overflow even there, it has to fall below."),
        ("scale * growth, 0", "min(scale * growth, 2.0**24), 0",
         "the scale stops at 2**24; it has no upper limit, since an overflow will lower it again."),
        ("quiet + 1 == interval", "quiet + 1 == 2000", "2000 is only the default; `interval` says when."),
        ("if overflow:", "if overflow and quiet + 1 != interval:",
         "a step that overflowed counts as the last good one; look at the overflow first."),
    ],
    hints=["Three cases: an overflow, the last step of a quiet interval, any other step.",
           "An overflow: `scale * backoff, 0`. If `quiet + 1 == interval`: `scale * growth, 0`. "
           "Else `scale, quiet + 1`."],
)


def _levels(*levels: float) -> torch.Tensor:
    return torch.tensor(levels)


exercise(quantise.quantise_blocks,
    cases=lambda: [
        (torch.tensor([[2.0, -1.2, 0.1, 0.4], [0.0, 0.0, 0.0, 0.0], [-4.0, 3.9, -0.9, -1.1]]),
         _levels(-1, -0.5, 0, 0.25, 1)),
        (torch.randn(5, 9) * torch.tensor([[1.0], [30.0], [0.01], [2.0], [5.0]]), quantise.normal_levels()),
        (-torch.rand(3, 6) - 0.1, _levels(-1, -0.7, -0.2, 0, 0.5, 1)),
        (torch.randn(2, 9) * 3e-6, quantise.normal_levels()),
        (torch.zeros(1, 3), _levels(-1, 0.1, 0.4, 0.6, 1)),
    ],
    slips=[
        ("weights.abs().amax(dim=1)", "weights.amax(dim=1)",
         "the largest weight is not always the largest in size: take the absolute value first."),
        ("weights.abs().amax(dim=1)", "weights.abs().amax().expand(len(weights))",
         "all blocks have one scale here; one large weight would spoil them all. Each block has its own."),
        ("weights.abs().amax(dim=1)", "weights.abs().mean(dim=1)",
         "the scale is the mean size; with it the largest weights lie beyond the levels."),
        ("weights.abs().amax(dim=1)", "weights.std(dim=1)",
         "the scale is the standard deviation; it is the largest absolute value of the block."),
        ("torch.where(scales == 0, 1, scales)[:, None]", "scales[:, None]",
         "a block of zeros is divided by zero; leave it as it is."),
        ("torch.where(scales == 0, 1, scales)", "scales.clamp(min=1e-3)",
         "a block of small weights is divided by more than its scale; only a scale of 0 is replaced."),
        ("scaled = weights / torch.where(scales == 0, 1, scales)[:, None]", "scaled = weights",
         "the weights are compared with the levels before they are divided by their scale."),
        (".abs()\n    return distance.argmin(dim=-1)", "\n    return distance.argmin(dim=-1)",
         "the distance has a sign here, so the largest level always wins; take its size."),
        ("distance.argmin(dim=-1)", "torch.bucketize(scaled, levels).clamp(max=len(levels) - 1)",
         "every weight is rounded up to the next level; the nearest one may lie below it."),
        (".to(torch.uint8), scales", ".to(torch.uint8), 1 / scales",
         "the scales come back upside down; dequantising multiplies by them."),
    ],
    hints=["Per block: the largest absolute value, weights divided by it, and for each the nearest level.",
           "`distance = (scaled[..., None] - levels).abs()`; `.argmin(-1).to(torch.uint8)`.",
           "Where the scale is 0, divide by 1."],
)

exercise(quantise.dequantise_blocks, gradient=("scales",),
    cases=lambda: [
        (torch.randint(16, (5, 7), dtype=torch.uint8), torch.rand(5), quantise.normal_levels()),
        (torch.randint(5, (3, 4), dtype=torch.uint8), torch.tensor([2.0, 0.0, 9.0]),
         _levels(-1, -0.5, 0, 0.2, 1)),
        (torch.tensor([[1, 3, 2]], dtype=torch.uint8), torch.tensor([0.5]), _levels(-1, -0.5, 0, 0.2, 1)),
    ],
    slips=[
        ("* scales[:, None]", "", "the scales are missing; every block gets its own size back."),
        ("* scales[:, None]", "/ scales[:, None]", "divided by the scales; they were divided by before."),
        ("* scales[:, None]", "* scales.mean()", "all blocks get one scale; each has its own."),
        ("levels[numbers.long()]", "numbers.to(scales)",
         "the numbers are names of levels, not values: look the level up."),
        ("levels[numbers.long()]", "levels.flip(0)[numbers.long()]",
         "the levels are read backwards; number 0 is the lowest."),
        ("levels[numbers.long()]", "(numbers.to(scales) / (len(levels) - 1) * 2 - 1)",
         "the levels are taken to be evenly spaced; they are given, and they are not."),
    ],
    hints=["Look up, then multiply.", "`levels[numbers.long()]`, times `scales[:, None]`."],
)

exercise(lora.dora_forward, gradient=("tokens", "down", "up", "magnitude"),
    axes={"tokens": "group batch token width", "return": "group batch token out"},
    cases=lambda: [
        (torch.randn(2, 4, 5), nn.Linear(5, 7), torch.randn(3, 5), torch.randn(7, 3), 2.5,
         torch.rand(7) + 0.5),
        (torch.randn(3, 5, 6), nn.Linear(6, 4, bias=False), torch.randn(2, 6), torch.randn(4, 2), 0.5,
         torch.rand(4) + 0.5),
        (torch.randn(4, 6), nn.Linear(6, 6), torch.randn(2, 6), torch.randn(6, 2), 1.5, torch.randn(6)),
    ],
    slips=[
        ("- bias) + bias", "- bias) - bias", "the bias is subtracted twice; put it back at the end."),
        ("lora_merge(frozen.weight, down.detach(), up.detach(), scale).norm(dim=1)",
         "frozen.weight.norm(dim=1)",
         "the length is that of the frozen weight; divide by the length of what it became with the detour."),
        ("- bias) + bias", ")",
         "the bias is stretched too; only the weight has a magnitude."),
        ("- bias) + bias", "- bias)",
         "the bias is lost; add it at the end."),
        ("magnitude / lengths", "magnitude",
         "the rows are not divided by their lengths, so direction and magnitude are not apart."),
        ("magnitude / lengths", "lengths / magnitude", "upside down: multiply by the magnitude, "
         "divide by the length."),
        (".norm(dim=1)", ".norm()", "this is one length for the whole matrix; every row has its own."),
    ],
    hints=["What would the merged weight be, and how long is each of its rows?",
           "`lengths = lora_merge(frozen.weight, down.detach(), up.detach(), scale).norm(dim=1)`.",
           "Take the bias off what lora_forward says, multiply by magnitude / lengths, put the bias back."],
)

quiz(1, "A model of 7 billion parameters is tuned with LoRA in bf16 on one GPU of 24 GB. "
        "The memory is full before the first forward pass ends. What helps most?", [
    ("A smaller rank.", False,
     "LoRA's own parameters, gradients and averages are a few hundredths of it; the rank hardly counts."),
    ("Gradient checkpointing.", True,
     "Right: the weights are there already, and what filled the rest are activations of every block."),
    ("An optimizer that keeps 8 bits.", False,
     "It would help in full tuning; with LoRA the optimizer keeps averages of very few parameters."),
])
quiz(2, "In fp16 the loss is multiplied by 65,536. A gradient becomes infinite. "
        "What happens to this step?", [
    ("The gradient is clipped to 65,504, and the step is taken.", False,
     "Nothing tells how large it should have been; clipping infinity gives no direction."),
    ("The step is left out, and the scale is halved.", True,
     "Right: one lost step costs less than one wrong one, and the next try has a smaller scale."),
    ("The weights become NaN; the run has to be started again.", False,
     "That is what happens without a scaler that looks before the optimizer steps."),
])
quiz(3, "Why does QLoRA keep LoRA's own matrices in 16 or 32 bits?", [
    ("Four bits are too few for the small steps of training; they would be rounded away.", True,
     "Right: the levels are about a tenth apart, a step of the optimizer is about a thousandth."),
    ("They are the largest part of the model.", False, "They are the smallest: a hundredth, often less."),
    ("Products of four-bit numbers cannot be computed.", False,
     "Even the frozen ones are turned back into ordinary numbers before every product."),
])
