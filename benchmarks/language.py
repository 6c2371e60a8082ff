"""How fast is the course's LLaMA? Train step and forward against transformers' LlamaForCausalLM, in one run.

    python benchmarks/language.py [STEPS]

Same sizes (4 layers × 128, MLP 512, 16 texts of 128 tokens), same weights, same optimiser, fp32 on both
sides, with one thread and with two. Steps alternate, and the ratio is the median over neighbouring steps, so
noise of the machine hits both alike.

What a train step is made of (torch.profiler, one thread, medians of twelve alternating steps; 1591 ms against
1720 on a busy machine, ratio 1.08):

                                       ours            transformers
    matrix products                    1101 ms, 63     1205 ms, 87 calls   query, key, value in one product
    attention, forward and backward     220 ms          224 ms             the same kernel
    multiplications                     140 ms, 120     151 ms, 137        norms, RoPE, SwiGLU
    all else                            130 ms          140 ms

Both multiply the same matrices, and that is 70 % of the time: without all that is ours to change, in fewer
operations, about a tenth can be gained, not more. Until attention used torch's kernel, sines and cosines were
computed once per text and not per block, and RMSNorm was one operation, the ratio was 0.88.
"""

import statistics
import sys
import time

import torch
import transformers

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


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
