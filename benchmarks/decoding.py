"""How fast does the course write? 64 tokens with and without a cache, recorded, and against transformers'
generate.

    python benchmarks/decoding.py [ROUNDS]

Same weights (4 layers × 128, MLP 512), same prompts, greedy, with one thread and with two. All alternate, and
a ratio is the median over rounds, so noise of the machine hits all alike. At one prompt, a step is so small
that it costs as many microseconds as it has operations, and most of that is Python; a recording
(models/replay.py, made before the time is taken) leaves it out. With more prompts, the cache saves arithmetic
too.

It also prints, for each, milliseconds, operations of torch and matrix products of a token. On a quiet
machine, against transformers:

                          one thread             two threads
                        cached  replayed       cached  replayed
    LLaMA, 1 prompt      1.7       2.6          2.0       3.1
    LLaMA, 16 prompts    1.7       2.2          1.5       1.8
    GPT, 1 prompt        3.2       5.8          2.5       4.3
    GPT, 16 prompts      1.9       1.9          1.8       2.2

Where three is not reached, this is what stands in the way. A token of LLaMA at one prompt is 725 operations,
907 in transformers, and their time is the same on both sides: 0.65 ms of matrix products and about 1.1 ms of
small operations, in 2.5 and 4.3 ms. What can be saved is Python: the recording leaves all of it out and takes
1.75 ms. With 16 prompts the matrix products (1.1 ms) and the growing cache weigh more, in all four alike. GPT
needs 446 operations where transformers has 617, since LayerNorm and GELU are one operation each; RMSNorm on
a CPU is eight.
"""

import os
import statistics
import sys
import time

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes two lines per profile otherwise

import torch
import transformers
from torch.profiler import ProfilerActivity, profile

from vlmcourse.interop.language import from_transformers
from vlmcourse.models.generation import generate
from vlmcourse.models.replay import Replay

VOCABULARY, PROMPT, STEPS = 256, 8, 64
WRITERS = ("cached", "replayed", "uncached", "transformers")


def llama() -> transformers.LlamaForCausalLM:
    return transformers.LlamaForCausalLM(
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
    )


def gpt() -> transformers.GPT2LMHeadModel:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=128,
            n_layer=4,
            n_head=4,
            n_positions=PROMPT + STEPS,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def seconds(write) -> float:
    start = time.perf_counter()
    write()
    return time.perf_counter() - start


def operations(write) -> tuple[float, float]:
    """Operations of torch per token, and how many of their milliseconds are matrix products."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        write()
    events = [event for event in profiled.key_averages() if event.key.startswith("aten::")]
    products = [event for event in events if event.key in ("aten::mm", "aten::addmm", "aten::bmm")]
    milliseconds = sum(event.self_cpu_time_total for event in products) / 1000
    return sum(event.count for event in events) / STEPS, milliseconds / STEPS


def compare(theirs: transformers.PreTrainedModel, prompts: int, rounds: int) -> str:
    """One line: tokens per second and text, and the ratios."""
    mine, theirs = from_transformers(theirs), theirs.eval()
    replay = Replay(mine)
    ids = torch.randint(VOCABULARY, (prompts, PROMPT))
    settings = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": STEPS,
        "do_sample": False,
        "pad_token_id": 0,
    }
    writers = (
        lambda: generate(mine, ids, steps=STEPS),
        lambda: generate(mine, ids, steps=STEPS, replay=replay),
        lambda: generate(mine, ids, steps=STEPS, cached=False),
        lambda: theirs.generate(ids, **settings),
    )
    cached, *others = (write() for write in writers)
    if not all(torch.equal(cached, other) for other in others):
        raise SystemExit("the four wrote different texts, so their speeds cannot be compared")
    times = [[seconds(write) for write in writers] for _ in range(rounds + 2)][2:]
    speed = dict(
        zip(WRITERS, (STEPS / statistics.median(column) for column in zip(*times, strict=True)), strict=True)
    )

    def ratio(mine: str, other: str) -> float:
        return statistics.median(row[WRITERS.index(other)] / row[WRITERS.index(mine)] for row in times)

    lines = [", ".join(f"{name} {value:.0f}" for name, value in speed.items()) + " tokens/s per text"]
    lines += [
        f"{name} is {ratio(name, 'uncached'):.1f}× uncached "
        f"and {ratio(name, 'transformers'):.2f}× transformers"
        for name in ("cached", "replayed")
    ]
    for name, write in zip(WRITERS, writers, strict=True):
        count, products = operations(write)
        lines.append(f"{name}: {1000 / speed[name]:.2f} ms a token, {count:.0f} operations, "
                     f"{products:.2f} ms of it matrix products")  # fmt: skip
    return "\n    ".join(lines)


def main(rounds: int) -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        print(f"{threads} thread(s)")
        write_all(rounds)


def write_all(rounds: int) -> None:
    for name, library in (("LLaMA", llama), ("GPT", gpt)):
        for prompts in (1, 16):
            print(
                f"{name} writes {STEPS} tokens for {prompts} prompt(s): {compare(library(), prompts, rounds)}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
