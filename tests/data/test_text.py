"""The tokenizer: every caption comes back, nothing is cut off, the shipped file is what its recipe makes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from vlmcourse.data import assets, openmoji, text
from vlmcourse.data.text import BOS, EOS, IMAGE, PAD, load_tokenizer, train_tokenizer
from vlmcourse.families.tokenizing import corpus
from vlmcourse.recipes.tokenizer import TOKENIZER
from vlmcourse.world import captions, questions, scenes


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def told():
    """Texts about scenes the tokenizer was not trained on."""
    sample = {split: scenes.sample(split, 500, seed=9) for split in scenes.SPLITS}
    asked = [question for s in sample.values() for question in questions.ask(s)]
    told = [c for s in sample.values() for style in captions.STYLES for c in captions.captions(s, style)]
    return told + [q.text for q in asked] + [q.answer for q in asked]


def test_every_caption_question_and_answer_comes_back(tokenizer, told):
    everything = told + openmoji.load("train", 16).captions + openmoji.load("heldout", 16).captions
    ids, mask = tokenizer.encode(everything)
    assert tokenizer.decode(ids) == [t.lower() for t in everything]
    assert torch.equal(mask, ids != PAD) and ids.dtype == torch.int64
    assert not (ids == text.UNK).any()


def test_words_of_scenes_are_one_token_each(tokenizer, told):
    words = {word for t in told for word in t.replace(",", "").replace("?", "").split()}
    assert len(words) > 60
    lengths = {word: int(tokenizer.encode([word])[1].sum()) - 1 for word in words}
    assert set(lengths.values()) == {1}, {w for w, n in lengths.items() if n > 1}
    first, last = tokenizer.encode(["red circle", "circle red"])[0]
    assert first[0] == last[1] and first[1] == last[0]  # the same token at the start and inside


def test_rows_end_with_eos_and_are_padded_on_the_right(tokenizer):
    ids, mask = tokenizer.encode(["a red circle", "a star"], length=7, bos=True)
    assert ids.shape == mask.shape == (2, 7)
    assert ids[:, 0].tolist() == [BOS, BOS] and ids[0, 4] == EOS and ids[1, 3] == EOS
    assert ids[0, 5:].tolist() == [PAD] * 2 and mask.sum(1).tolist() == [5, 4]
    assert mask[1].tolist() == [True] * 4 + [False] * 3
    plain, _ = tokenizer.encode(["a red circle", "a star"])
    assert plain.shape == (2, 4) and torch.equal(plain[0], ids[0, 1:5])
    assert tokenizer.encode([])[0].shape == (0, 0)


def test_a_text_that_does_not_fit_is_named_and_never_cut(tokenizer):
    texts = ["a star", "a red circle left of a blue square"]
    assert tokenizer.encode(texts, length=9)[1][1].all()
    message = (
        r"text 1, 'a red circle left of a blue square', has 9 tokens with its end token, "
        r"but length is 8.*least 9"
    )
    with pytest.raises(ValueError, match=message):
        tokenizer.encode(texts, length=8)
    with pytest.raises(TypeError, match=r"write \['a star'\]"):
        tokenizer.encode("a star")


def test_special_tokens_have_fixed_numbers_and_are_left_out_when_decoding(tokenizer):
    numbers = [getattr(text, token.strip("<>").upper()) for token in text.SPECIAL]
    assert numbers == list(range(10))
    ids, _ = tokenizer.encode(["<user><image>What is this?<assistant>a star<end>"])
    assert ids[0, :2].tolist() == [text.USER, IMAGE] and ids[0, -2:].tolist() == [text.END, EOS]
    assert tokenizer.decode(ids) == ["what is this? a star"]
    assert tokenizer.tokens(ids[0])[:4] == ["<user>", "<image>", "what", "is"]


def test_a_special_token_between_words_is_one_token(tokenizer):
    ids, _ = tokenizer.encode(["a red circle left of", "a red circle <mask> of", "a red circle<mask>of"])
    assert torch.equal(ids[1], ids[2]) and (ids[0] != ids[1]).nonzero().flatten().tolist() == [3]
    assert ids[1, 3] == text.MASK


def test_decoding_stops_at_the_first_end(tokenizer):
    ids, _ = tokenizer.encode(["a star", "a red star"], length=8)
    ids[:, 4:] = tokenizer.encode(["circle"])[0][0, 0]  # what a model may write after its end
    assert tokenizer.decode(ids)[0] == "a star"
    assert tokenizer.decode([[BOS, *ids[0, :2].tolist()]]) == ["a star"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_is_understood(words):
    tokenizer = load_tokenizer()
    ids, _ = tokenizer.encode([words])
    assert not (ids == text.UNK).any()
    if "<" not in words:
        lower = "".join(
            letter.lower() for letter in words
        )  # letter by letter: no special Σ at the end of a word
        assert tokenizer.decode(ids) == [lower.removeprefix(" ")]


def test_it_opens_in_transformers_and_gives_the_same_tokens(tokenizer, told):
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(assets.shipped("tokenizer.json")), pad_token="<pad>", eos_token="<eos>"
    )
    assert len(theirs) == len(tokenizer) == text.VOCABULARY
    for words in told[::400]:
        ids, _ = tokenizer.encode([words])
        assert theirs(words).input_ids == ids[0, :-1].tolist()
        assert theirs.decode(ids[0], skip_special_tokens=True) == words.lower()


def test_the_shipped_file_is_what_its_recipe_trains(tmp_path, tokenizer):
    train_tokenizer(corpus(TOKENIZER.stages[0])).save(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_bytes() == assets.shipped("tokenizer.json").read_bytes()
    assert (
        load_tokenizer(tmp_path / "tokenizer.json").encode(["a star"])[0].tolist()
        == tokenizer.encode(["a star"])[0].tolist()
    )


def test_saving_and_loading_changes_nothing(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "again.json")
    again = load_tokenizer(tmp_path / "again.json")
    assert len(again) == len(tokenizer)
    assert (
        again.encode(["a small red star"])[0].tolist() == tokenizer.encode(["a small red star"])[0].tolist()
    )


def test_a_small_vocabulary_still_reads_everything():
    small = train_tokenizer(["a red circle", "a red star"], size=270)
    assert len(small) <= 270
    assert small.decode(small.encode(["a blue cross"])[0]) == ["a blue cross"]
    with pytest.raises(ValueError, match="size 200 is too small: 10 special tokens and 256 bytes"):
        train_tokenizer(["a"], size=200)


def test_missing_damaged_and_foreign_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"nothing\.json does not exist .*tokenizer\.json.*make checkpoints"
    ):
        assets.shipped("nothing.json")
    broken = tmp_path / "tokenizer.json"
    broken.write_text(assets.shipped("tokenizer.json").read_text()[:5000])
    with pytest.raises(ValueError, match="is not a tokenizer of this course"):
        load_tokenizer(broken)
    broken.write_text(assets.shipped("tokenizer.json").read_text().replace("<eos>", "<end of text>"))
    with pytest.raises(ValueError, match="<eos> has number None and should have 3"):
        load_tokenizer(broken)
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "vlmcourse" / "data" / "assets.py"))
    with pytest.raises(FileNotFoundError, match="come with its repository; clone it"):
        assets.assets_folder()
