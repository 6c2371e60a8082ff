"""Wrong answers that are no slips are told their actual mistake, in words that name it."""

import importlib
import re

import pytest

from tests.workbook.learner import cell
from vlmcourse.exercises.base import all_exercises
from vlmcourse.exercises.edits import plain_source
from vlmcourse.workbook.check import judge

AS_EDITS = {  # slot: (old text, new text, what the sentence must say, None if it does not know)
    "vit.patchify": [
        ("0, 2, 4, 3, 5, 1", "0, 2, 4, 5, 1, 3", r"permute\(.*4, 3, 5, 1"),
        ("= images.reshape(", "= images.flip(-1).reshape(",
         r"`images\.flip\(-1\)\.reshape`: with `images\.reshape`"),
        ("size * size * channel)", "size * size * channel)[:, 1:]", r"`.*\[:, 1:\]"),
        ("size * size * channel)", "size * size * channel).contiguous() / 2", r"factor: every number is 0.5"),
        ("size * size * channel)", "size * size * channel).mean(1)", r"mean\("),
    ],
    "vit.add_class_and_positions": [
        (" + positions", " - positions", r"- positions`: with .* \+ positions`"),
        (" + positions", " * positions", r"\* positions`: with .* \+ positions`"),
        ("+ positions", "+ positions.flip(0)", r"\+ positions\.flip\(0\)`: with .*\+ positions`"),
        ("= class_token.expand", "= torch.zeros_like(class_token).expand",
         r"`torch\.zeros_like\(class_token\)\.expand\(.*: with `class_token\.expand"),
        ("+ positions", "+ positions[:1]", r"\+ positions\[:1\]`: with .*\+ positions`"),
    ],
    "attention.split_heads": [
        ("transpose(1, 2)", "permute(0, 2, 3, 1)", r"permute\(0, 2, 3, 1\)`: with .*permute\(0, 2, 1, 3\)`"),
        ("tokens.reshape(", "tokens.flip(1).reshape(",
         r"reversed along token.*`tokens\.flip\(1\)\.reshape\(.*: with `tokens\.reshape\("),
        (".transpose(1, 2)", ".transpose(1, 2) * 2", r"every number is 2 times"),
    ],
    "attention.scaled_dot_product": [
        ("softmax(dim=-1)", "softmax(dim=1)", r"softmax\(.*dim=1\)`: with .*dim=-1"),
        ("weights @ value, weights", "weights @ value, weights.T", r"axes are in another order: output\[1\]"),
        ("softmax(dim=-1)", "sigmoid()", r"sigmoid\(.*softmax\("),
        ("softmax(dim=-1)", "log_softmax(dim=-1)", r"log_softmax\(.*softmax\("),
        ("math.sqrt(query.shape[-1])", "math.sqrt(query.shape[-2])",
         r"shape\[-2\]\) @ .*: with `query / math\.sqrt\(query\.shape\[-1\]\) @"),
        ("math.sqrt(query.shape[-1])", "math.sqrt(query.shape[-1] + 1)",
         r"shape\[-1\] \+ 1\) @ .*: with `query / math\.sqrt\(query\.shape\[-1\]\) @"),
    ],
    "attention.pre_norm_block": [
        ("tokens + mlp(", "tokens - mlp(", r"`tokens - mlp\(.*: with `tokens \+ mlp\("),
        ("norm_before_attention(tokens)", "norm_before_mlp(tokens)",
         r"attend\(norm_before_mlp\(tokens\)\)`: with .*attend\(norm_before_attention\("),
        ("norm_before_mlp(tokens)", "norm_before_mlp(norm_before_mlp(tokens))",
         r"norm_before_mlp\(norm_before_mlp\(tokens\)\)\)`: with .*mlp\(norm_before_mlp\(tokens\)\)`"),
        ("return tokens + ", "return 2 * tokens + ", r"`2 \* tokens \+ mlp\(.*: with `tokens \+ mlp\("),
        ("return tokens", "return tokens + tokens", None),
        ("mlp(norm_before_mlp(tokens))", "mlp(mlp(norm_before_mlp(tokens)))",
         r"\+ mlp\(mlp\(.*: with `tokens \+ mlp\(norm"),
        ("mlp(norm_before_mlp(tokens))", "mlp(norm_before_mlp(tokens).relu())",
         r"\.relu\(\)\)`: with .*mlp\(norm_before_mlp\(tokens\)\)`"),
    ],
    "clip.pool_at_eos": [
        ("argmax(dim=1)", "argmax(dim=1).clamp(max=3)",
         r"argmax\(dim=1\)\.clamp\(max=3\)`: with .*argmax\(dim=1\)`"),
    ],
    "clip.info_nce": [
        (" / 2", " / 3", r"/ 3`: with .*/ 2"),
        ("(logits.T, partner)", "(logits.T, partner, label_smoothing=0.1)", r"label_smoothing=0\.1\)`: with"),
        ("scale * image @ text.T", "scale * text @ image.T * scale",
         r"@ image\.T \* scale`: with `scale \* text @ image\.T`"),
        ("scale * image @ text.T", "scale * image @ image.T",
         r"`scale \* image @ image\.T`: with `scale \* (text @ image|image @ text)\.T`"),
    ],
    "gap.modality_gap": [
        ("normalise(text).mean(dim=0)", "normalise(text).median(dim=0).values", None),
        ("gap.norm()", "gap.abs().sum()", r"abs\(\)\.sum\(\)\)`: with .*norm\("),
        ("gap.norm()", "gap.abs().max()", r"abs\(\)\.max\(\)\)`: with .*norm\("),
        ("- normalise(text)", "+ normalise(text)", r"\+.*: with .*-"),
        ("normalise(image).mean(dim=0)", "normalise(image)[0]",
         r"`normalise\(image\)\[0\] - .*: with `normalise\(image\)\.mean\("),
    ],
    "language.causal_mask": [
        ("keys - queries :", "keys - queries - 1 : -1",
         r"- 1:-1, None\]`: with .*\[keys - queries:, None\]`"),
        ("position <=", "position ==", r"==.*: with .*<="),
        ("position <=", "position !=", r"!=.*: with .*<="),
    ],
    "language.rms_norm": [
        ("+ epsilon", "- epsilon", r"- .*: with .*\+"),
        ("+ epsilon", "+ 1e-5", r"\+ 1e-05\)`: with .*\+ epsilon\)`.*those with epsilon = 0\.01 are not"),
        ("mean(dim=-1", "amax(dim=-1", r"amax\(.*: with .*mean"),
        ("wide.square()", "wide.abs()", r"abs\(.*: with .*square"),
        ("scale * (wide", "scale + (wide", r"\+.*: with .*scale \*"),
    ],
    "language.rope": [
        ("angles.cos(), angles.sin()", "angles.cos(), angles.tan()", r"tan\(.*: with .*sin"),
        ("first * sine + second * cosine", "first * cosine + second * sine", None),
        ("dim=-1).to", "dim=-1).flip(-1).to", r"reversed along part"),
        ("second * sine,", "second * cosine,", r"- second \* cosine`: with .*- second \* sine`"),
    ],
    "language.swiglu": [
        ("F.silu(", "F.relu(", r"relu\(.*: with .*silu"),
        ("* up(tokens)", "* up(tokens) * up(tokens)",
         r"\* up\(tokens\) \* up\(tokens\)\)`: with .*silu\(gate\(tokens\)\) \* up\(tokens\)\)`"),
        ("* up(tokens)", "/ up(tokens)", r"/ .*: with .*\*"),
        ("down(", "2 * down(", r"every number is 2 times"),
        ("* up(tokens)", "* gate(tokens)", r"\* gate\(tokens\)\)`: with .*\* up\(tokens\)\)`"),
    ],
    "generation.top_p": [
        ("softmax(dim=-1)", "softmax(dim=0)", r"softmax\(dim=0\)`: with .*dim=-?1"),
        ("mass_before >= top_p", "mass_before > 0.6", r"> 0\.6, 0\.0\)`: with .*> top_p, 0\.0\)`"),
        ("argmax(dim=-1", "argmin(dim=-1", r"argmin\(.*: with .*argmax"),
        ("kept.sum(dim=-1, keepdim=True)", "kept.sum()", r"sum\(.*: with .*dim=-1"),
    ],
    "projector.project": [
        ("F.gelu(", "torch.tanh(", r"tanh\(.*: with .*gelu"),
        ("F.gelu(", "F.leaky_relu(", r"leaky_relu\(.*: with .*gelu"),
        ("return contract", "return -contract", r"every number is -1 times"),
        ("expand(features)", "expand(features / 2)",
         r"expand\(features / 2\)\)\)`: with .*expand\(features\)\)\)`"),
    ],
    "projector.pixel_shuffle": [
        ("transpose(2, 3)", "transpose(1, 2)", r"transpose\(1, 2\)\.reshape`: with .*transpose\((2, 3|3, 2)"),
        ("width * factor**2)", "width * factor**2).flip(1)", r"reversed along fewer"),
        ("squares.transpose", "squares.sort(-1).values.transpose", None),
    ],
    "stages.alignment_loss": [
        ("F.cross_entropy(", "2 * F.cross_entropy(", r"every number is 2 times"),
        ("mask & (", "mask | (", "depends on which tokens"),
        (">= given", "== given", r"==.*: with .*>="),
        ("[caption])", "[caption], label_smoothing=0.1)", r"label_smoothing=0\.1\)`: with"),
    ],
    "projector.spectrum": [
        ("values / values.sum()", "values / values.max()", r"max\(.*: with .*sum"),
        ("values / values.sum()", "values / len(values)", r"/ len\(values\)`: with .*/ .*sum\("),
        (".exp()", ".exp() - 1", r"off by -1"),
    ],
    "chat.label_mask": [
        ("opened > closed", "opened >= closed", r">=.*: with .*>"),
        ("opened > closed", "opened > 1 + closed", r"> 1 \+ closed.*: with .*> closed"),
        ("(1, 0))", "(1, 0), value=1)", r"value=1\)`: with .*\(1, 0\)\)`"),
        ("ids == end", "ids == start", r"ids == start.*: with .*ids == end"),
    ],
    "generation.write_greedily": [
        ("argmax(", "argmin(", None),
        ("token == end", "token != end", None),
    ],
    "bert.mask_tokens": [
        ("chosen < 0.15", "chosen < 0.2", r"0\.2\)?.*: with .*0\.15"),
        ("dice < 0.8", "dice < 0.7", r"0\.7\)?.*: with .*0\.8"),
        ("& ~special", "& special", r"& special`: with .*& ~special`"),
        ("random_ids, inputs)", "mask_id, inputs)", r"mask_id, inputs\)`: with .*random_ids, inputs\)`"),
    ],
}  # fmt: skip
BATTERY = [
    pytest.param(slot, old, new, words, id=f"{slot}: {new}")
    for slot, edits in AS_EDITS.items() for old, new, words in edits
]  # fmt: skip


def answer(slot, old, new):
    """The reference with a few words changed, as a learner's cell."""
    source = plain_source(slot.reference)
    assert source.count(old) == 1
    names = vars(importlib.import_module(slot.__module__))
    return cell(
        source.replace(old, new), **{n: v for n, v in names.items() if n not in (slot.__name__, "__name__")}
    )


@pytest.mark.parametrize(("slot", "old", "new", "words"), BATTERY)
def test_the_sentence_names_the_actual_mistake(slot, old, new, words):
    task = all_exercises()[slot]
    verdict = judge(task, answer(task.slot, old, new))
    assert verdict.status == "wrong"
    assert not any(verdict.says.en == slip.says for slip in task.slips), "this is a slip"
    assert words is None or re.search(words, verdict.says.en), verdict.says.en


def test_at_least_four_of_five_are_told():
    told = [case.values[-1] is not None for case in BATTERY]
    assert len(AS_EDITS) >= 12 and len(told) >= 60
    assert sum(told) / len(told) >= 0.8
