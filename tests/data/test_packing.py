"""A packed row says of every question what the question alone says."""

import pytest
import torch

from vlmcourse.data.chat import encode
from vlmcourse.data.packing import pack
from vlmcourse.data.text import IMAGE, load_tokenizer
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.look import packed
from vlmcourse.models.vit import ViTConfig

TALKS = [
    [[("user", "<image>What colour is the circle?"), ("assistant", "red")],
     [("user", "<image>How many things are there?"), ("assistant", "2")],
     [("user", "<image>Where is the star?"), ("assistant", "top left")]],
    [[("user", "<image>Is there a cross?"), ("assistant", "no")]],
]  # fmt: skip


def test_scores_equal_those_of_the_conversations_apart():
    torch.manual_seed(0)
    vision = ViTConfig((16, 24), 8, width=16, depth=1, heads=2)
    model = Llava(LlavaConfig(vision, LlamaConfig(len(load_tokenizer()), 24, 3, 4), IMAGE)).eval()
    images = torch.randn(2, 3, 16, 24)
    together = pack(TALKS, 6)
    scores = model(together.ids, images, look=packed(together.packs))[together.labels != -100]
    apart = []
    for image, talks in zip(images, TALKS, strict=True):
        for turns in talks:
            one = encode([turns], 6)
            apart.append(model(one.ids, image[None])[one.labels != -100])
    torch.testing.assert_close(scores, torch.cat(apart), atol=1e-5, rtol=0)


def test_rows_hold_the_image_once_and_each_question_by_number():
    rows = pack(TALKS, 6)
    assert ((rows.ids == IMAGE).sum(1) == 6).all() and (rows.packs.amax(1) == torch.tensor([3, 1])).all()
    assert (rows.packs[1] == -1).sum() == len(rows.ids[1]) - (7 + encode(TALKS[1], 6).ids.shape[1] - 7)
    assert (rows.labels[rows.packs <= 0] == -100).all()


def test_cut_keeps_what_is_needed():
    rows = pack(TALKS, 6)
    short = type(rows)(*(part[1:] for part in rows)).cut()
    assert (short.packs >= 0).all() and short.ids.shape == encode(TALKS[1], 6).ids.shape


def test_a_conversation_without_its_image_is_named():
    with pytest.raises(ValueError, match="image 1 needs conversations that begin"):
        pack([TALKS[0], [[("user", "Is there a cross?"), ("assistant", "no")]]], 6)


def test_packs_come_alone():
    model = Llava(LlavaConfig(ViTConfig(16, 8, width=16, depth=1, heads=2), LlamaConfig(30, 24, 1, 4), 9))
    with pytest.raises(ValueError, match="a look says by itself which tokens are real"):
        model(torch.zeros(1, 4).long(), look=packed(torch.zeros(1, 4).long()), mask=torch.ones(1, 4).bool())
