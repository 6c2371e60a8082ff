"""Vision encoder, projector and pretrained language model become one; on a tiny one, the same steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.parity.library import assert_equal
from vlmcourse import speak
from vlmcourse.data.pixels import normalise
from vlmcourse.evaluation.answers import Graded, grade_sentences
from vlmcourse.families import real
from vlmcourse.families.preferring import pair_up, prefer
from vlmcourse.families.rewarding import Drill, Rollouts, reinforce
from vlmcourse.interop import assembling, distillation, llava
from vlmcourse.models import lora
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.llava import Llava
from vlmcourse.models.lora import add_lora, lora_state, merge_lora
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.training.answers import answer_loss
from vlmcourse.training.regions import region_targets
from vlmcourse.world import questions, scenes
from vlmcourse.world.render import render

EYE = ViTConfig(64, 8, width=32, depth=2, heads=4, patch_bias=False, norm_before_blocks=True)
FAST = replace(real.ANSWERS, rates=dict(adamw=0.03))


def words():
    """A tokenizer in the manner of SmolLM2's: bytes, the same special tokens, the same template."""
    about = real.scene_questions(scenes.sample("train", 300))
    texts = [text for row in about for asked in row for text in asked[:2]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=letters)
    tokenizer.train_from_iterator([*texts, *distillation.SENTENCES], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[1], eos_token=special[2], pad_token=special[2],
        unk_token=special[0], chat_template=real.TEMPLATE, padding_side="left")  # fmt: skip


def tiny():
    torch.manual_seed(0)
    tokenizer = words()
    language = Llama(
        LlamaConfig(len(tokenizer), width=48, depth=18, heads=4, groups=2, hidden=64, tied=True)
    ).eval()
    torch.nn.init.normal_(language.embedding.weight, std=0.3)
    return real.assemble_llava(ViT(EYE), language, tokenizer), tokenizer


def test_assembling_keeps_the_language_model_as_it_was():
    torch.manual_seed(0)
    tokenizer = words()
    language = Llama(LlamaConfig(len(tokenizer), width=48, depth=2, tied=True)).eval()
    ids = torch.randint(500, (2, 9))
    before = language(ids)
    model = real.assemble_llava(ViT(EYE), language, tokenizer)
    assert model.config.image_token == len(tokenizer) - 1 and model.tokens_per_image == 64
    assert_equal(model.language(ids)[..., :-1], before)
    assert assembling.add_image_word(model.language, tokenizer) == model.config.image_token  # once is enough
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"projector"}
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_the_projector_is_the_one_that_the_configuration_says():
    tokenizer = words()
    language = Llama(LlamaConfig(len(tokenizer), width=48, depth=1, tied=True))
    for options in ({}, dict(hidden=20, shuffle=4, spread=3)):
        model = real.assemble_llava(ViT(EYE), language, tokenizer, -2, **options)
        same = Llava(model.config)
        assert model.config.layer == -2 and model.tokens_per_image == same.tokens_per_image
        shapes = [[(name, p.shape) for name, p in one.projector.named_parameters()] for one in (model, same)]
        assert shapes[0] == shapes[1]


def test_patches_meet_words_without_the_language_model():
    model, tokenizer = tiny()
    batch = scenes.sample("train", 200, objects=(1, 1))
    regions = region_targets(batch, EYE)
    said = real.patch_words(model.language, tokenizer, regions.words)
    history = real.meet_words(model, torch.randn(200, 64, 32) + said[..., :32], said, steps=60, size=64)
    assert history.losses[-1] < 0.8 * history.losses[0]


def test_lora_learns_and_nothing_else():
    model, tokenizer = tiny()
    batch = scenes.sample("train", 6, objects=(1, 2))
    seen, about = speak.Speaker(model).features(render(batch)), real.scene_questions(batch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = real.tune(model, tokenizer, seen, about, steps=15, size=3)
    after = model.state_dict()
    assert history.losses[-1] < history.losses[0]
    changed = {name for name in before if name in after and not torch.equal(after[name], before[name])}
    assert not changed
    lora = {name for name in after if name.endswith((".down", ".up"))}
    assert len(lora) == 2 * 5 * 3 and min(int(name.split(".")[2]) for name in lora) == real.FIRST
    assert all(after[name].abs().max() > 0 for name in lora)


def test_memory_notices_when_the_model_moves_and_holds_it():
    model, tokenizer = tiny()
    memory = distillation.Memory(model.language, tokenizer, texts=8, length=10, size=4)
    assert memory.ids.shape == (8, 10) and abs(memory.drift(model.language)) < 1e-5
    assert not {tokenizer.decode(text).strip() for text in memory.ids} & set(distillation.SENTENCES)
    batch = scenes.sample("train", 6, objects=(1, 2))
    seen, about, moved = speak.Speaker(model).features(render(batch)), real.scene_questions(batch), []
    for held in (None, memory):
        model, _ = tiny()
        real.tune(model, tokenizer, seen, about, steps=12, size=3, stage=FAST, memory=held)
        moved.append(sum(memory.drift(model.language).item() for _ in range(2)))
    assert 0 < moved[1] < 0.7 * moved[0]


def test_grades_are_those_of_written_answers():
    torch.manual_seed(0)
    tokenizer = words()
    language = Llama(LlamaConfig(len(tokenizer), width=64, depth=2, tied=True))
    model = real.assemble_llava(ViT(EYE), language, tokenizer)
    batch = scenes.sample("train", 5, objects=(1, 1))
    speaker = real.speaker(model, tokenizer)
    seen, about = speaker.features(render(batch)), real.scene_questions(batch, kinds=("colour", "shape"))
    rows = speaker.encode(about[:3])  # two scenes are never learned
    optimizer = torch.optim.AdamW(model.requires_grad_(True).parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        answer_loss(speaker.hidden(seen[:3], rows), rows.labels, model.head).backward()
        optimizer.step()
    graded = grade_sentences(speaker, seen, about, batch=3)
    images = [image for image, row in zip(render(batch), about, strict=True) for _ in row]
    flat = [each for row in about for each in row]
    said = speaker.answer(np.stack(images), [each.question for each in flat], steps=20)
    exact = [text == each.answer for text, each in zip(said, flat, strict=True)]
    assert graded.exact.bool().tolist() == exact and graded.kinds == [each.kind for each in flat]
    assert 0 < sum(exact) < len(exact)  # else the comparison says little
    assert torch.isnan(graded.named).tolist() == [each.kind == "caption" for each in flat]


def test_parts_come_back():
    model = tiny()[0]
    lora.add_lora(model.language.blocks[real.FIRST :], real.RANK, real.ALPHA)
    for parameter in model.parameters():
        parameter.data += 0.01
    other = tiny()[0]
    lora.add_lora(other.language.blocks[real.FIRST :], real.RANK, real.ALPHA)
    real.StoredParts(model).put_into(other)
    assert torch.equal(other.projector.expand.weight, model.projector.expand.weight)
    assert torch.equal(other.language.blocks[17].gate.up, model.language.blocks[17].gate.up)
    assert torch.equal(other.vision.positions, model.vision.positions)
    stored = list(real.StoredParts(model).state_dict())
    assert not any("embedding" in name or "frozen" in name for name in stored)
    read = {name.split(":")[2] for name in stored if name.startswith("vision:blocks")}
    assert read == {str(n) for n in range(model.config.vision.depth + 1 + model.config.layer)}


def test_a_folder_opens_in_transformers_and_comes_back(tmp_path):
    model, tokenizer = tiny()
    lora.add_lora(model.language.blocks[real.FIRST :], real.RANK, real.ALPHA)
    for parameter in lora.lora_state(model.language).values():
        parameter += 0.05 * torch.randn(parameter.shape)
    picture = render(scenes.sample("test", 1))
    asked = tokenizer("What is it?<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")["input_ids"]
    ids = torch.cat(
        [
            real.speaker(model, tokenizer).words.opening()[None],
            torch.full((1, 64), model.config.image_token),
            asked,
        ],
        dim=1,
    )
    ours = model(ids, normalise(torch.from_numpy(picture)))
    merge_lora(model)
    llava.save_folder(model, tmp_path, tokenizer, real.TEMPLATE)
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    batch = processor(images=picture[0], text=processor.apply_chat_template(talk, add_generation_prompt=True),
                      return_tensors="pt")  # fmt: skip
    assert torch.equal(batch["input_ids"], ids)
    with torch.no_grad():
        torch.testing.assert_close(theirs(**batch).logits, ours, atol=1e-4, rtol=0)
        back = llava.from_transformers(theirs)(ids, normalise(torch.from_numpy(picture)))
    torch.testing.assert_close(back, ours, atol=1e-4, rtol=0)
    assert theirs.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("word", ["<image>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"])
def test_control_words_of_its_tokenizer_in_a_question_are_plain_text(word):
    model, tokenizer = tiny()
    speaker, number = real.speaker(model, tokenizer), tokenizer.convert_tokens_to_ids(word)
    plain, odd = (speaker.words.prompts([f"What is {text}?"], 64)[0][0] for text in ("it", word))
    assert (plain == number).sum() == (odd == number).sum() and len(odd) > len(plain)
    rows = speaker.encode([[(word, f"{word} is")]])
    assert (rows.ids == number).sum() == (speaker.encode([[("it", "it is")]]).ids == number).sum()


def test_images_and_questions_must_be_as_many():
    model, tokenizer = tiny()
    with pytest.raises(ValueError, match="2 images and 1 instructions"):
        real.speaker(model, tokenizer).answer(render(scenes.sample("test", 2)), ["What is it?"])


def test_every_question_a_scene_allows_is_asked_and_a_short_caption_last():
    batch = scenes.sample("test", 30, objects=(1, 2))
    rows = real.scene_questions(batch, seed=1)
    assert {asked.kind for row in rows for asked in row} == {*real.SCENE_KINDS, "caption"}
    assert all(
        row[-1].kind == "caption" and row[-1].answer[0].isupper() and row[-1].answer[-1] == "."
        for row in rows
    )
    sized = real.scene_questions(batch, kinds=("size",))
    assert {asked.kind for row in sized for asked in row} == {"size", "caption"}
    expected = questions.ask(batch, "colour", seed=1)
    texts = [[asked.question for asked in row if asked.kind == "colour"] for row in rows]
    assert texts == [[question.text] if question else [] for question in expected]


def test_a_quarter_of_what_the_projector_reads_shows_nothing(monkeypatch):
    model, tokenizer = tiny()
    regions = region_targets(scenes.sample("train", 40, objects=(1, 1)), EYE)
    targets, noted = real.patch_words(model.language, tokenizer, regions.words), []
    monkeypatch.setattr(
        real, "learn", lambda model, batches, loss, **options: noted.append((batches, loss, options))
    )
    features = torch.randn(40, 64, 32)
    real.meet_words(model, features, targets, steps=5, size=64)
    batches, loss, options = noted[0]
    inputs, wanted = next(batches)
    real.meet_words(model, features, targets, steps=5, size=64)
    assert torch.equal(next(noted[1][0])[1], wanted)  # the seed decides
    nothing = (wanted == model.language.embedding.weight.mean(0)).all(1)
    assert (
        nothing.sum() == 16
        and len(inputs) == len(nothing) == 64
        and options == dict(steps=5, lr=3e-3, precision="no")
    )
    assert loss(model.projector, (inputs, model.projector(inputs[None])[0])).item() < 1e-8


def test_lora_learns_at_the_rate_of_its_stage_and_drift_is_added(monkeypatch):
    model, tokenizer = tiny()
    batch, noted = scenes.sample("train", 4, objects=(1, 2)), []
    features, about = speak.Speaker(model).features(render(batch)), real.scene_questions(batch)
    monkeypatch.setattr(
        speak, "learn", lambda model, batches, loss, **options: noted.append((batches, loss, options))
    )
    memory = distillation.Memory(model.language, tokenizer, texts=4, length=6, size=2)
    for options in (dict(), dict(stage=FAST), dict(memory=memory)):
        real.tune(model, tokenizer, features, about, steps=2, **options)
    assert [options["optimizer"].param_groups[0]["lr"] for *_, options in noted] == [3e-3, 0.03, 3e-3]
    assert [len(options["optimizer"].param_groups[0]["params"]) for *_, options in noted] == [30, 30, 30]
    assert not any(parameter.requires_grad for parameter in model.parameters())
    part = next(noted[0][0].stream())
    monkeypatch.setattr(memory, "drift", lambda language: torch.tensor(2.0))
    plain = noted[0][1](model, part)
    held, metrics = noted[2][1](model, part)
    assert_equal(held, plain + 2)
    assert metrics["drift"] == 2


def test_it_is_measured_with_its_own_images_and_with_those_of_others(monkeypatch):
    model, tokenizer = tiny()
    given, drawn = [], scenes.sample

    def grade(speaker, features, about):
        given.append(features)
        kinds = [asked.kind for row in about for asked in row]
        right = torch.tensor([float(kind in ("colour", "caption")) for kind in kinds]) * (len(given) - 1)
        return Graded(kinds, right, torch.tensor([float(kind == "colour") for kind in kinds]))

    monkeypatch.setattr(real, "grade_sentences", grade)
    monkeypatch.setattr(
        scenes, "sample", lambda split, *a, **k: drawn(split, *a, **k) if split == "novel" else 1 / 0
    )
    metrics = real.measure(real.speaker(model, tokenizer), "novel", 6)
    assert torch.equal(given[0], given[1].roll(1, 0)) and not torch.equal(given[0], given[1])
    assert (
        metrics["colour"] == metrics["caption"] == 1
        and metrics["size"] == metrics["sentences, another image"] == 0
    )
    assert metrics["named"] == 0.5  # over colours and shapes, which are asked equally often here


def test_an_older_notebook_still_grades():
    model, tokenizer = tiny()
    batch = scenes.sample("test", 2, objects=(1, 1))
    speaker, about = real.speaker(model, tokenizer), real.scene_questions(batch)
    given = speaker.features(render(batch)), about
    assert torch.equal(real.grade(model, tokenizer, *given).exact, grade_sentences(speaker, *given).exact)
    assert torch.equal(real.opening(tokenizer), speaker.words.opening())


def test_a_model_asked_for_by_name_comes_with_its_words_and_card(monkeypatch):
    monkeypatch.setattr(real, "load_real", lambda name: (f"model {name}", "tokenizer", {"seed": 0}))
    monkeypatch.setattr(real, "speaker", lambda model, tokenizer: (model, tokenizer))
    assert real.load_named("smollm-scenes") == (("model smollm-scenes", "tokenizer"), {"seed": 0})


def test_a_language_model_in_memory_is_not_read_again(monkeypatch):
    model, tokenizer = tiny()
    recipe = dict(eye="any", layer=-2, projector={})
    monkeypatch.setattr(real, "load_eye", lambda name: (ViT(EYE), -1))
    monkeypatch.setattr(real.hub, "load_smollm2", lambda: pytest.fail("read again"))
    made, _ = real.assemble(recipe, (model.language, tokenizer))
    assert made.language is model.language


def learning_by_lora():
    """A small model as load_real gives it, and an optimizer of what learns of it."""
    model, tokenizer = tiny()
    add_lora(model.language.blocks[real.FIRST :], real.RANK, real.ALPHA)
    model.eval().requires_grad_(False)
    learned = lora_state(model.language)
    for name, weight in model.language.named_parameters():
        weight.requires_grad_(name in learned)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return real.speaker(model, tokenizer), torch.optim.AdamW(weights, 0.01, weight_decay=0.0)


def asked_about(speaker, count):
    """Features of images with one thing, and what is asked of each, how many there are left out."""
    batch = scenes.sample("train", count, objects=(1, 1))
    rows = real.scene_questions(batch, kinds=("colour",))
    return speaker.features(render(batch)), [row[0] for row in rows]


def test_rewards_teach_it_by_the_same_code():
    speaker, optimizer = learning_by_lora()
    features, asked = asked_about(speaker, 12)
    drill = Drill(features, [*range(12)], [one.question for one in asked], [one.answer for one in asked])
    frozen = {name: part.clone() for name, part in speaker.model.state_dict().items()}
    rollouts = Rollouts(
        speaker, drill, lambda reply, *_: reply.count("e") / 10, samples=6, size=6, repeats=1, steps=5
    )
    assert rollouts.draw([0, 1]).rows.labels.shape == (2, 6, 6)  # five tokens, and what stands before them
    history = reinforce(rollouts, steps=24, beta=0.0, optimizer=optimizer)
    rewards = history.metrics["reward"]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.1
    after = speaker.model.state_dict()
    moved = {name for name, part in after.items() if not torch.equal(part, frozen[name])}
    assert moved == {f"language.{name}" for name in lora_state(speaker.model.language)}


def test_preferences_teach_it_by_the_same_code():
    speaker, optimizer = learning_by_lora()
    features, asked = asked_about(speaker, 12)
    about = [(one.question, one.answer, "It is nothing.") for one in asked]
    history = prefer(speaker, pair_up(speaker, features, about), steps=24, size=6, optimizer=optimizer)
    assert history.metrics["agreed"][-1] == 1
    assert history.metrics["better"][-1] > 0 > history.metrics["worse"][-1]
