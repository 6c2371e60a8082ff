"""The memory ledger: what a training step holds, counted from sizes before anything runs (notebook 15).

    state_bytes      weights, gradients and optimizer of one part
    block_numbers    what one block keeps for the way back, per token
    ledger           both for the parts of a vision-language model, and the peak of a step
    METHODS          full, frozen encoder, projector only, LoRA, QLoRA: what learns in each part
    parts_of         the parts of a LlavaConfig; PUBLISHED has those of LLaVA-1.5
    saved_bytes      measured: what autograd keeps of a forward pass

Bytes throughout; ``in_gib`` for people. Sources: mixed precision, Micikevicius et al. 2018, arXiv:1710.03740;
states of the optimizer and how they are spread over GPUs, Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054,
section 3; activations of a block, Korthikanti et al. 2022, arXiv:2205.05198, section 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.slots import slot


class Format(NamedTuple):
    """Bytes of a number, by what it is."""

    weight: float  # one that learns
    gradient: float
    master: float  # a second weight in fp32, which the optimizer changes
    stream: float  # the residual stream
    inside: float  # what matrix products read and write
    copied: float  # of a weight that autocast makes anew for every step


PRECISIONS = {
    "fp32": Format(4, 4, 0, 4, 4, 0),
    "bf16": Format(4, 4, 0, 4, 2, 2),  # autocast: weights and optimizer stay in fp32
    "fp16": Format(4, 4, 0, 4, 2, 2),
    "bf16 weights": Format(2, 2, 4, 2, 2, 0),  # DeepSpeed, FSDP with mixed precision
}
OPTIMIZERS = {"adamw": 8, "adamw in 8 bits": 2, "muon": 4, "sgd": 0}  # bytes for each number that learns
HELD = ("weights", "gradients", "optimizer", "activations")


@slot
def state_bytes(
    parameters: float,
    learned: float,
    bits: float,
    weight: float = 4,
    gradient: float = 4,
    optimizer: float = 8,
) -> tuple[float, float, float]:
    """Bytes of weights, gradients and optimizer, whatever is in the batch.

    Args:
        parameters: all numbers of the part; those that do not learn are kept in ``bits`` bits each.
        learned: how many of them learn.
        weight, gradient, optimizer: bytes for each number that learns; AdamW keeps two averages in fp32.

    Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1.
    """
    frozen = parameters - learned
    return frozen * bits / 8 + learned * weight, learned * gradient, learned * optimizer


@slot
def block_numbers(width: int, hidden: int, share: float, gated: bool, learns: bool) -> tuple[float, float]:
    """How many numbers a pre-norm block keeps of every token until its gradient comes by.

    Args:
        hidden: width inside the MLP.
        share: keys (or values) as a share of the queries; 1 without grouped queries.
        gated: a LLaMA's block (RoPE and SwiGLU, RMSNorm), else a ViT's (GELU, layer norm).
        learns: whether any matrix learns, by itself or through LoRA; else only gradients pass through.

    Returns:
        (stream, inside): numbers in the precision of the residual stream, and of matrix products.

        - stream: what each of the two norms reads
        - inside, always: query, key, value and what attention makes of them; of a gated block, query and key
          twice, before and after they are turned; what the activation reads, in a gated block three vectors
          of the hidden width (the gate before and after its activation, and the other half)
        - inside, if it learns: what the matrices read: two vectors of the width, one of the hidden width

    Source: the counting of Korthikanti et al. 2022, arXiv:2205.05198, section 4.1, for our blocks.
    """
    attention = width * (1 + 2 * share) + width
    if gated:
        attention += width * (1 + share)
    mlp = 3 * hidden if gated else hidden
    read = 2 * width + hidden if learns else 0
    return 2.0 * width, attention + mlp + read


@dataclass(frozen=True)
class Part:
    """Encoder, projector or language model, as the ledger needs it.

    Args:
        parameters: all its numbers.
        width, depth, hidden, heads, share, gated: of its blocks; see block_numbers. A projector has none.
        tokens: that it reads of each example.
        kept: further numbers that it keeps of each example if it learns, or a gradient passes through it.
        vocabulary, predicted: of a language model: scores for each of so many tokens of an example.
    """

    name: str
    parameters: int
    width: int = 0
    depth: int = 0
    hidden: int = 0
    heads: int = 0
    share: float = 1.0
    gated: bool = False
    tokens: int = 0
    kept: int = 0
    vocabulary: int = 0
    predicted: int = 0

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """(out, width) of the linear layers of one block."""
        pairs = round(self.width * (1 + 2 * self.share))
        wide = [(self.hidden, self.width)] * (2 if self.gated else 1)
        return [(pairs, self.width), (self.width, self.width), *wide, (self.width, self.hidden)]

    @property
    def block(self) -> int:
        """Weights in the matrices of one block."""
        return sum(out * width for out, width in self.matrices)


class Tuned(NamedTuple):
    """What learns in a part."""

    what: str = "nothing"  # or "all", or "lora"
    rank: int = 0  # of LoRA around every linear layer of the blocks
    bits: float = 32  # of a weight that does not learn
    first: int = 0  # the lowest block with LoRA


ENCODER, PROJECTOR, LANGUAGE = "encoder", "projector", "language model"
ALL, REST, LORA = Tuned("all"), Tuned(), Tuned("lora", 8)
METHODS: dict[str, Mapping[str, Tuned]] = {
    "full": {ENCODER: ALL, PROJECTOR: ALL, LANGUAGE: ALL},
    "frozen encoder": {ENCODER: REST, PROJECTOR: ALL, LANGUAGE: ALL},
    "projector only": {ENCODER: REST, PROJECTOR: ALL, LANGUAGE: REST},
    "LoRA": {ENCODER: REST, PROJECTOR: ALL, LANGUAGE: LORA},
    "QLoRA": {ENCODER: REST, PROJECTOR: ALL, LANGUAGE: LORA._replace(bits=4.5)},
}


@dataclass(frozen=True)
class Setting:
    """How a step is run.

    Args:
        batch: examples on each GPU at once.
        precision: of PRECISIONS; optimizer: of OPTIMIZERS.
        recompute: gradient checkpointing of every block.
        fused: whether attention is computed without storing its weights, heads · tokens² of them.
        masked: whether a mask of tokens × tokens numbers is given to every block: one for each example if
            they are padded or packed, which is so in all models of the course.
        gpus: over which the states are spread: of the optimizer (sharded=1), gradients too (2), and weights
            too (3, which is FSDP); 0 keeps all of them on every GPU.
    """

    batch: int = 1
    precision: str = "fp32"
    optimizer: str = "adamw"
    recompute: bool = False
    fused: bool = True
    masked: bool = True
    gpus: int = 1
    sharded: int = 0

    def __post_init__(self):
        for what, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, what) not in known:
                raise ValueError(f"no {what} {getattr(self, what)!r}; choose one of {', '.join(known)}")
        if not 0 <= self.sharded <= 3:
            raise ValueError(f"sharded is 0, 1, 2 or 3, the stages of ZeRO; not {self.sharded}")

    @property
    def format(self) -> Format:
        return PRECISIONS[self.precision]


@dataclass(frozen=True)
class Ledger:
    """Bytes by part and kind, on each GPU.

    Attributes:
        rows: part -> weights, gradients, optimizer, activations.
        working: what is there for a moment only: scores and their gradient, gradients on their way, a block
            that is run again, or gathered from all GPUs. And "scores": what of the last part's activations
            goes with the loss, before the first block's turn.
    """

    rows: dict[str, dict[str, float]]
    working: dict[str, float] = field(default_factory=dict)

    def total(self, column: str) -> float:
        return sum(row[column] for row in self.rows.values())

    @property
    def peak(self) -> float:
        """The most that is held at once: activations go while gradients come, so both are never there whole.

        Backward walks from the language model to the encoder: at each of its stations stands what is not yet
        gone and what has come already. The optimizer steps when all gradients have come.
        """
        steady = self.total("weights") + self.total("optimizer")
        left, come, gone = self.total("activations"), 0.0, self.working.get("scores", 0.0)
        most = left + self.working.get("loss", 0.0)
        left -= gone
        for name in reversed(self.rows):
            row, moment = self.rows[name], self.working.get(name, 0.0)
            most = max(most, left + come + moment)
            left, come, gone = left - row["activations"] + gone, come + row["gradients"], 0.0
            most = max(most, left + come + moment)
        return steady + most


def ledger(parts: Sequence[Part], method: Mapping[str, Tuned], setting: Setting = Setting()) -> Ledger:
    """What a training step of these parts holds, part by part.

    Args:
        parts: from the pixels to the words, in this order; see parts_of and PUBLISHED.
        method: what learns in each, by its name; see METHODS.

    Raises:
        ValueError: if the method does not name a part.
    """
    missing = [part.name for part in parts if part.name not in method]
    if missing:
        raise ValueError(f"the method does not say what learns in: {', '.join(missing)}")
    rows, working, passes = {}, {}, False
    for part in parts:
        tuned = method[part.name]
        passes = passes or tuned.what != "nothing"
        rows[part.name] = _states(part, tuned, setting)
        kept = _activations(part, tuned, setting) if passes else 0.0
        rows[part.name]["activations"] = kept
        working[part.name] = _moment(part, tuned, setting, passes)
    last = parts[-1]
    working["scores"] = setting.batch * last.predicted * last.vocabulary * 4.0 if passes else 0.0
    working["loss"] = 2 * setting.batch * last.predicted * last.vocabulary * 4.0
    return Ledger(rows, working)


def learned_numbers(part: Part, tuned: Tuned) -> int:
    """How many numbers of a part learn; those of LoRA stand beside its own."""
    if tuned.what == "lora":
        each = sum(tuned.rank * (out + width) for out, width in part.matrices)
        return each * (part.depth - tuned.first)
    return part.parameters if tuned.what == "all" else 0


def _states(part: Part, tuned: Tuned, setting: Setting) -> dict[str, float]:
    learned, form = learned_numbers(part, tuned), setting.format
    extra = learned if tuned.what == "lora" else 0
    inside = part.block * part.depth  # only these are ever kept in few bits
    bits = min(tuned.bits, 8 * form.weight)
    frozen = part.parameters + extra - learned
    mean = bits if bits >= 16 or not frozen else 8 * form.weight - (8 * form.weight - bits) * inside / frozen
    moments = OPTIMIZERS[setting.optimizer] + form.master
    sizes = state_bytes(part.parameters + extra, learned, mean, form.weight, form.gradient, moments)
    spread = [setting.gpus if setting.sharded >= stage else 1 for stage in (3, 2, 1)]
    return {name: size / n for name, size, n in zip(HELD, sizes, spread, strict=False)}


def _of_a_block(part: Part, tuned: Tuned, setting: Setting) -> float:
    """Bytes that one block keeps of a batch, with the weights that autocast copied for it."""
    form, count = setting.format, setting.batch * part.tokens
    stream, inside = block_numbers(part.width, part.hidden, part.share, part.gated, tuned.what != "nothing")
    inside += len(part.matrices) * tuned.rank
    if part.gated:
        stream += 2 * part.width if tuned.what == "all" else 0  # an RMSNorm that learns keeps what it scales
        inside += part.width if tuned.what != "nothing" and form.copied else 0  # cast for gate and for up
    seen = part.tokens * (int(setting.masked and part.gated) + (0 if setting.fused else part.heads))
    numbers = count * (stream * form.stream + (inside + seen) * form.inside)
    copies = 0 if tuned.bits < 16 else part.block * form.copied
    return numbers + copies


def _activations(part: Part, tuned: Tuned, setting: Setting) -> float:
    form, depth = setting.format, part.depth
    if tuned.what == "lora":
        depth -= tuned.first
    each = _of_a_block(part, tuned, setting)
    if setting.recompute:  # only what it reads
        each = part.tokens * part.width * form.stream * setting.batch
    scores = part.predicted * (part.vocabulary * 4 + part.width * form.inside)
    last_norm = part.tokens * part.width * form.stream * (3 if part.gated and tuned.what == "all" else 1)
    around = part.vocabulary * part.width + (0 if part.depth else part.parameters)  # head, or projector
    copies = around * form.copied
    return depth * each + setting.batch * (part.kept * form.inside + scores + last_norm) + copies


def _moment(part: Part, tuned: Tuned, setting: Setting, passes: bool) -> float:
    """What is there for a moment while a gradient passes through this part."""
    if not part.depth:
        return 0.0
    gathered = 2 * part.block * setting.format.weight if setting.sharded == 3 and setting.gpus > 1 else 0.0
    if not passes:
        return gathered
    again = _of_a_block(part, tuned, setting) if setting.recompute else 0.0
    count = setting.batch * part.tokens
    return gathered + again + count * (2 * part.hidden + 2 * part.width) * setting.format.inside


def in_gib(size: float) -> float:
    return size / 2**30


def parts_of(config: LlavaConfig, tokens: int, predicted: int) -> list[Part]:
    """The parts of a LLaVA of the course.

    Args:
        tokens: of a text, image tokens included; predicted: how many of them are answers.
    """
    vision, language = config.vision, config.language
    rows, columns = vision.grid
    patches, width, out = rows * columns, vision.width, language.width
    pixels = vision.patch_size**2 * vision.channels
    read = range(vision.depth + 1)[config.layer]  # blocks that run
    encoder = Part(ENCODER, 0, width, read, vision.hidden or 4 * width, vision.heads, tokens=patches + 1,
                   kept=patches * pixels)  # fmt: skip
    joined = config.shuffle**2
    image_tokens = patches // joined * config.spread
    inner = out if config.hidden is None else config.hidden
    kept = image_tokens * (width * joined + 2 * inner)
    projector = Part(PROJECTOR, 0, tokens=image_tokens, kept=kept)
    words = Part(LANGUAGE, 0, out, language.depth, language.hidden or 8 * out // 3, language.heads,
                 language.groups / language.heads, True, tokens, vocabulary=language.vocabulary,
                 predicted=predicted)  # fmt: skip
    with torch.device("meta"):
        model = Llava(config)
    named = zip((encoder, projector, words), (model.vision, model.projector, model.language), strict=True)
    return [replace(part, parameters=sum(p.numel() for p in module.parameters())) for part, module in named]


# CLIP ViT-L/14 at 336 pixels, two linear layers, Vicuna 7B: config.json of each
PUBLISHED = {
    "LLaVA-1.5-7B": (
        Part(ENCODER, 303_507_456, 1024, 23, 4096, 16, tokens=577),
        Part(PROJECTOR, 20_979_712, tokens=576, kept=576 * (1024 + 2 * 4096)),
        Part(
            LANGUAGE, 6_738_415_616, 4096, 32, 11008, 32, 1.0, True, 2048, vocabulary=32_000, predicted=2048
        ),
    )
}


def saved_bytes(run: Callable[[], Tensor], model: nn.Module) -> int:
    """What autograd keeps of a forward pass, each piece of memory counted once; weights are not counted."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor.detach()  # itself would hold the graph that holds it, and nothing would ever be freed

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run()
    del output
    return sum(storage.nbytes() for place, storage in kept.items() if place not in own)
