"""The shipped Flamingo: its card states what it reaches, and its language model is nano-chat, bit for bit."""

import pytest
import torch

from vlmcourse.families import connectors, preparing


@pytest.fixture(scope="module")
def final():
    return connectors.load_connected("nano-flamingo")


def test_it_sees(final):
    found = final[1]["metrics"]
    assert found["answers"] >= 0.84 and found["twins, both right"] >= 0.66
    assert min(found[f"answers: {kind}"] for kind in ("colour", "shape", "size", "existence")) >= 0.98
    assert found["answers without the image"] <= found["answer prior"]


def test_its_language_model_never_learned(final):
    chat, _ = preparing.load_prepared("nano-chat")
    ids = torch.arange(40)[None]
    assert torch.equal(final[0].language(ids), chat(ids)) and torch.equal(final[0](ids), chat(ids))


def test_its_gates_are_open(final):
    gates = [block.look_gate.tanh().abs().item() for block in final[0].gated]
    assert max(gates) > 0.2
