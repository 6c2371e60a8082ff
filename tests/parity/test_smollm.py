"""Our Llama with SmolLM2's weights writes, token for token, what transformers writes with them."""

import pytest
import torch

from tests.parity.library import assert_equal
from tests.smollm import smollm2
from vlmcourse.models.generation import generate
from vlmcourse.models.language import LlamaConfig

PROMPTS = (
    "What is the capital of France?",
    "Name three colours.",
    "How many days does a week have?",
    "Say hello in Spanish.",
    "What do cows drink?",
    "Write one sentence about rain.",
    "What is 2 plus 3?",
    "Who wrote Hamlet?",
    "Why is the sky blue?",
    "Give a synonym of big.",
    "What is the opposite of hot?",
    "Which animal barks?",
    "Finish: roses are red,",
    "Translate 'good morning' to French.",
    "What is ice made of?",
    "Name a planet.",
    "Is a tomato a fruit?",
    "What comes after Monday?",
    "Describe a circle in five words.",
    "What colour is grass?",
)
STEPS = 8


@pytest.mark.slow
def test_twenty_prompts_with_the_chat_template():
    theirs, ours, tokenizer = smollm2()
    assert ours.config == LlamaConfig(49152, 576, 30, 9, 3, 1536, 1e5, ours.config.epsilon, tied=True)
    talks = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    batch = tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    ids, real = batch["input_ids"], batch["attention_mask"]
    assert not real.all()  # the prompts differ in length, so padding is tested too
    expected = theirs.generate(**batch, max_new_tokens=STEPS, do_sample=False)
    written = generate(
        ours, ids, mask=real.bool(), steps=STEPS, eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id
    )
    assert torch.equal(written, expected)
    answers = tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
    assert "Paris" in answers[0] and len(set(answers)) > 15


@pytest.mark.slow
def test_scores_of_a_sentence():
    theirs, ours, tokenizer = smollm2()
    ids = tokenizer("A vision-language model reads pictures and words.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert_equal(ours(ids), theirs(ids).logits)
