"""What the parity tests of the language models share: random library models, comparison of gradients."""

from collections.abc import Callable

import torch
import transformers
from torch import nn

from vlmcourse.interop import hub
from vlmcourse.interop.language import from_transformers

VOCABULARY = 97


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter away from its initial value; norms around 1."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        norm = parameter.dim() == 1 and name.endswith("weight")
        nn.init.normal_(parameter, 1.0 if norm else 0.0, 0.3 if parameter.dim() == 1 else 0.1)
    return model.eval()


def llama(**options) -> transformers.LlamaForCausalLM:
    config = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "bos_token_id": None,
              "eos_token_id": None,
              "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}  # fmt: skip
    return randomised(transformers.LlamaForCausalLM(transformers.LlamaConfig(**(config | options))))


def gpt(**options) -> transformers.GPT2LMHeadModel:
    config = {"vocab_size": VOCABULARY, "n_embd": 64, "n_inner": 112, "n_layer": 2, "n_head": 4,
              "n_positions": 80, "bos_token_id": None, "eos_token_id": None}  # fmt: skip
    theirs = randomised(transformers.GPT2LMHeadModel(transformers.GPT2Config(**(config | options))))
    nn.init.normal_(theirs.transformer.ln_f.weight, std=2.0)  # else a tied model says the same word for ever,
    nn.init.normal_(theirs.transformer.wpe.weight, std=0.3)  # or two in turn
    return theirs


def from_folder(folder, kind: type) -> nn.Module:
    """Ours, from a folder of the library's."""
    return from_transformers(hub.resolve(folder).open(kind))


def texts(batch: int = 3, token: int = 20, seed: int = 2) -> torch.Tensor:
    """Random ids from 3 on; 0 to 2 are left for padding, start and end."""
    return torch.randint(3, VOCABULARY, (batch, token), generator=torch.Generator().manual_seed(seed))


def padding(side: str, batch: int = 3, token: int = 20) -> torch.Tensor | None:
    """True for real tokens; row k has 4·k padded ones."""
    if side == "none":
        return None
    real = torch.arange(token) < token - 4 * torch.arange(batch)[:, None]
    return real.flip(1) if side == "left" else real


def assert_equal(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max().item())


def assert_equal_gradients(
    mine: nn.Module, theirs: nn.Module, convert: Callable = from_transformers, idle: tuple[str, ...] = ()
) -> None:
    """After backward on both: gradients are carried over as if they were weights; every one must agree.

    ``idle``: what our names begin with of parameters that no output depends on.
    """
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    gradients = dict(convert(theirs).named_parameters())
    for name, parameter in mine.named_parameters():
        if name.startswith(idle):
            still = parameter.grad is None or not parameter.grad.any()
            assert still and not gradients[name].any(), name
            continue
        assert gradients[name].abs().max() > 1e-7, f"no gradient reaches {name}"
        assert_equal(parameter.grad, gradients[name].to(parameter.grad))
