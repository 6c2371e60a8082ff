"""Preferences and rewards: equal to TRL's losses and advantages on random numbers."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOTrainer, GRPOConfig, GRPOTrainer

from vlmcourse.data.text import END, PAD, load_tokenizer
from vlmcourse.training.policy import group_advantages, policy_loss
from vlmcourse.training.preferences import dpo_loss, token_log_probabilities

ALONE = SimpleNamespace(
    device="cpu", num_processes=1,
    gather=lambda tensor: tensor, gather_for_metrics=lambda tensor: tensor, reduce=lambda tensor, **_: tensor,
)  # fmt: skip


def test_dpo_is_that_of_trl():
    """TRL's own code computes the loss of two pairs, from the same scores and reference."""
    torch.manual_seed(0)
    ids, answer = torch.randint(0, 9, (4, 6)), torch.tensor([[0, 0, 1, 1, 1, 0]] * 3 + [[0, 0, 0, 0, 1, 1]])
    logits = torch.randn(4, 6, 9, requires_grad=True)
    before = torch.randn(2, 2)

    def model(**_):
        everything = logits[:, :-1].log_softmax(dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
        statistics = dict(entropy=torch.zeros(4, 5), mean_logits=torch.zeros(4, 5), is_top1=answer[:, 1:] > 0)
        kept = everything * answer[:, 1:]
        return SimpleNamespace(log_probs=kept, **statistics)

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False), accelerator=ALONE, aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=["sigmoid"], loss_weights=[1.0],
        beta=0.3, label_smoothing=0.0, use_weighting=False, _total_train_tokens=0,
        _metrics=dict(train=defaultdict(list), eval=defaultdict(list)),
    )  # fmt: skip
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), completion_mask=answer)
    inputs |= dict(ref_chosen_logps=before[0], ref_rejected_logps=before[1])
    theirs = DPOTrainer._compute_loss(trainer, model, inputs, False)
    whole = token_log_probabilities(logits, ids.masked_fill(answer == 0, -100)).sum(dim=1)
    ours = dpo_loss(whole[:2], whole[2:], before[0], before[1], 0.3)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    one, two = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, theirs))
    assert torch.allclose(one, two, atol=1e-7)


def test_the_policy_loss_is_that_of_trl():
    torch.manual_seed(0)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [4]])
    now, before, reference = (0.5 * torch.randn(4, 5) for _ in range(3))
    advantages = torch.randn(4)
    now.requires_grad_(True)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False), accelerator=ALONE, aux_loss_enabled=False, beta=0.07,
        epsilon_low=0.2, epsilon_high=0.2, loss_type="grpo", importance_sampling_level="token",
        use_vllm=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, _entropy_bonus_enabled=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False), current_gradient_accumulation_steps=1,
        _get_per_token_logps_and_entropies=lambda *_, **__: (now, torch.zeros(4, 5), None),
        _metrics=dict(train=defaultdict(list), eval=defaultdict(list)),
    )  # fmt: skip
    inputs = dict(prompt_ids=torch.zeros(4, 2), prompt_mask=torch.ones(4, 2))
    inputs |= dict(completion_ids=torch.zeros(4, 5), completion_mask=mask.long(), advantages=advantages)
    inputs |= dict(old_per_token_logps=before, ref_per_token_logps=reference)
    theirs = GRPOTrainer._compute_loss(trainer, None, inputs)
    ours = policy_loss(now, before, reference, advantages, mask, clip=0.2, beta=0.07)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    one, two = (torch.autograd.grad(loss, now, retain_graph=True)[0] for loss in (ours, theirs))
    assert torch.allclose(one, two, atol=1e-7)


def test_advantages_are_those_that_trl_trains_with(tmp_path):
    """One step of TRL's trainer with a tiny model: the rewards it saw give the advantages it logged."""
    torch.manual_seed(0)
    backend = load_tokenizer().encoder
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=backend.id_to_token(END), pad_token=backend.id_to_token(PAD)
    )
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1024, eos_token_id=END, pad_token_id=PAD, **sizes))
    earned = []

    def reward(completions, **_):
        earned.extend(float(len(text) % 3) for text in completions)
        return earned[-len(completions) :]

    options = dict(use_cpu=True, bf16=False, report_to="none", save_strategy="no", max_steps=1)
    args = GRPOConfig(
        str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=5, **options
    )
    asked = Dataset.from_dict({"prompt": ["what colour is the star?", "how many circles are there?"]})
    trainer = GRPOTrainer(model, reward, args=args, train_dataset=asked, processing_class=tokenizer)
    trainer.train()
    theirs = torch.tensor(list(trainer._logs["advantages"]))
    ours = group_advantages(torch.tensor(earned).reshape(2, 4))
    assert len(set(earned)) > 1
    assert torch.allclose(ours.flatten(), theirs, atol=1e-6)
