"""SmolLM2 for the tests that need it, loaded once per process."""

from functools import cache
from typing import Any

import transformers

from vlmcourse.interop import hub, language
from vlmcourse.models.language import Llama


@cache
def smollm2() -> tuple[transformers.LlamaForCausalLM, Llama, Any]:
    """transformers' model, ours with its weights, and the tokenizer."""
    found = hub.resolve(hub.SMOLLM2, fetch=False)
    theirs = found.open(transformers.AutoModelForCausalLM)
    return theirs, language.from_transformers(theirs), found.tokenizer()
