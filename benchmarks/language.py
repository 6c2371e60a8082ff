"""How fast is the course's LLaMA? Train step and forward against transformers' LlamaForCausalLM, in one run.

    python benchmarks/language.py [STEPS]

Same sizes (4 layers × 128, MLP 512, 16 texts of 128 tokens), same weights, same optimiser, fp32 on both
sides, with one thread and with two. Steps alternate, and the ratio is the median over neighbouring steps, so
noise of the machine hits both alike.

It also prints what a train step is made of. With one thread on a quiet machine, of 257 ms against 275 ms:

                                   ours            transformers
    matrix products            167 ms,  63     170 ms,  87 calls   query, key, value in one product
    attention, both ways        35 ms           35 ms              the same kernel
    multiplications             20 ms, 120      21 ms, 137 calls   norms, RoPE, SwiGLU
    copies and sums              8 ms, 217       6 ms, 269 calls
    all else                    27 ms           29 ms

Both multiply the same matrices, at about 75 billion operations a second, and run the same attention: four
fifths of the time are not ours to change. So the ratio is 1.00 to 1.06 (train step 1.01 with one thread, 1.00
with two; forward 1.01 and 1.00), and a ratio of 1.1 would need nearly half of all that remains to go. Until
attention used torch's kernel, sines and cosines were computed once per text and not per block, and RMSNorm
was one operation, the ratio was 0.88.
"""

import os
import statistics
import sys
import time
from collections import Counter

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes two lines per profile otherwise

import torch
import transformers
from torch.profiler import ProfilerActivity, profile

from vlmcourse.interop.language import from_transformers
from vlmcourse.models.language import next_token_loss

VOCABULARY, BATCH, TOKENS = 256, 16, 128


def trainer(model: torch.nn.Module, loss_of):
    """A function that makes one optimiser step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(ids) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        loss_of(model, ids).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def reader(model: torch.nn.Module, _):
    """A function that makes one forward pass without gradients and returns its seconds."""

    @torch.no_grad()
    def step(ids) -> float:
        start = time.perf_counter()
        model(ids)
        return time.perf_counter() - start

    return step


KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("flash_attention", "aten::_scaled_dot_product"),
    "multiplications": ("aten::mul",),
    "optimizer": ("adamw",),
    "copies": ("aten::copy_", "aten::cat", "aten::add_", "aten::fill_"),
    "all else": ("",),
}
"""Operations of a train step by what their names hold; the first that fits counts."""


def made_of(steps_of, ids, rounds: int = 12) -> None:
    """Print what the train steps are made of: milliseconds and calls of each kind of operation."""
    totals = [Counter(), Counter()]
    for _ in range(rounds):
        for step, total in zip(steps_of, totals, strict=True):
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                step(ids)
            for event in profiled.key_averages():
                kind = next(kind for kind, names in KINDS.items() if any(name in event.key for name in names))
                total[kind, "ms"] += event.self_cpu_time_total / 1000 / rounds
                total[kind, "calls"] += event.count / rounds
    for kind in KINDS:
        ours, theirs = (f"{total[kind, 'ms']:6.1f} ms {total[kind, 'calls']:5.0f} calls" for total in totals)
        print(f"    {kind:16} ours {ours}   transformers {theirs}")


def main(steps: int) -> None:
    for threads in (1, 2):
        torch.set_num_threads(threads)
        print(f"{threads} thread(s)")
        compare(steps)


def compare(steps: int) -> None:
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).train()
    ours, ids = from_transformers(theirs).train(), torch.randint(VOCABULARY, (BATCH, TOKENS))
    for title, make in (("train step", trainer), ("forward", reader)):
        our_step = make(ours, lambda model, ids: next_token_loss(model(ids), ids))
        their_step = make(theirs, lambda model, ids: model(ids, labels=ids, use_cache=False).loss)
        pairs = [(our_step(ids), their_step(ids)) for _ in range(steps + 3)][3:]
        mine, library = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(library / mine for mine, library in pairs)
        thousands = BATCH * TOKENS / mine / 1000
        print(f"LLaMA {title}: ours {1000 * mine:.0f} ms ({thousands:.1f}k tokens/s), transformers "
              f"{1000 * library:.0f} ms, ratio {ratio:.2f}×")  # fmt: skip
        if make is trainer:
            made_of((our_step, their_step), ids)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
