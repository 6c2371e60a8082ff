"""Riddles as rows of tokens, and models that learn from them."""

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.data.chat import encode
from vlmcourse.data.text import IMAGE
from vlmcourse.evaluation.riddles import grade_riddles, share_of
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training import riddles as training
from vlmcourse.training.history import History
from vlmcourse.training.riddles import learn_riddles, learn_texts, riddle_loss, write_out
from vlmcourse.world import scenes
from vlmcourse.world.riddles import ASKED_FOR, riddles

BATCH = scenes.sample("train", 12, objects=(1, 1))
TOLD = riddles(BATCH, 6, examples=2)
SEEN = torch.randn(12, 5, 16, generator=torch.Generator().manual_seed(0))


def model(gate=0.5) -> Flamingo:
    torch.manual_seed(0)
    vision = ViTConfig((16, 16), 8, width=16, depth=1, heads=2)
    config = FlamingoConfig(
        vision, LlamaConfig(1024, 16, 1, 2), IMAGE, latents=2, resampler_part=8, gate=gate
    )
    return Flamingo(config).eval()


def test_every_answer_is_learned_and_every_image_marked():
    rows = write_out(TOLD, image_tokens=3)
    assert ((rows.ids == IMAGE).sum(dim=1) == 9).all()
    ends = rows.labels == 9
    assert (ends.sum(dim=1) == 3).all()


def test_further_conversations_have_rows_of_their_own():
    also = [[("user", "dax?"), ("assistant", "red")]]
    rows, alone = write_out(TOLD, also=also), write_out(TOLD)
    assert len(rows.ids) == 7 and torch.equal(rows.ids[1:], alone.ids)
    assert torch.equal(rows.ids[:1, :9], F.pad(encode(also).ids, (0, 99))[:, :9])


def test_the_loss_is_that_of_the_pictures_told():
    flamingo, rows = model(), write_out(TOLD)
    loss = riddle_loss(flamingo, SEEN.bfloat16(), TOLD, rows)
    read = flamingo.connect(SEEN.bfloat16().float()[TOLD.pictures.flatten()])
    scores = flamingo(rows.ids, features=read)[:, :-1]
    torch.testing.assert_close(loss, F.cross_entropy(scores.flatten(0, 1), rows.labels[:, 1:].flatten()))
    other = riddle_loss(flamingo, SEEN, TOLD._replace(pictures=TOLD.pictures[::-1].copy()), rows)
    assert loss != other


def test_what_is_frozen_stays_and_all_else_learns():
    flamingo = model()
    flamingo.requires_grad_(False)
    flamingo.gated.requires_grad_(True)
    before = {name: each.clone() for name, each in flamingo.state_dict().items()}
    history = learn_riddles(flamingo, SEEN, TOLD, steps=3, size=2, precision="no")
    moved = {
        name.split(".")[0] for name, each in flamingo.state_dict().items() if (each != before[name]).any()
    }
    assert moved == {"gated"} and history.steps == 3


def test_every_step_reads_riddles_with_their_own_pictures(monkeypatch):
    seen, rows = [], write_out(TOLD)

    def noted(model, features, told, some):
        seen.append((told.pictures.tolist(), some.ids.tolist()))
        return riddle_loss(model, features, told, some)

    monkeypatch.setattr(training, "riddle_loss", noted)
    learn_riddles(model(), SEEN, TOLD, steps=3, size=2, precision="no")
    whole = dict(zip(map(tuple, TOLD.pictures.tolist()), rows.ids.tolist(), strict=True))
    assert len(seen) == 3
    for pictures, ids in seen:
        assert [whole[tuple(row)] for row in pictures] == ids and len(ids) == 2


@pytest.mark.parametrize("learn", [learn_riddles, learn_texts])
def test_matrices_learn_by_muon_and_all_else_at_the_rate_wanted(monkeypatch, learn):
    given = {}
    monkeypatch.setattr(training, "learn", lambda *_, **options: given.update(options) or History())
    data = (SEEN, TOLD) if learn is learn_riddles else (write_out(TOLD),)
    learn(model(), *data, steps=1000, size=2, rate=0.3)
    groups = given["optimizer"].param_groups
    assert {group["lr"] for group in groups} == {0.02, 0.3}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}
    assert given["steps"] == 1000 and given["schedule"](499) == 1 > given["schedule"](510)
    learn(model(), *data, steps=1000, size=2, schedule=abs)  # whoever brings one gets it
    assert given["schedule"] is abs


def test_a_language_model_learns_texts_without_images():
    language = model().language
    history = learn_texts(language, write_out(TOLD), steps=20, size=6, rate=0.05, precision="no")
    assert history.losses[-1] < history.losses[0] - 0.5


class Parrot(torch.nn.Module):
    """Says at every place what comes next; of the answers to spoil, something else."""

    def __init__(self, spoiled):
        super().__init__()
        self.spoiled = spoiled

    def forward(self, ids):
        said = ids.roll(-1, dims=1)
        for row, place, token in self.spoiled:
            said[row, place] = token
        return torch.nn.functional.one_hot(said, 1024).float()


def test_an_answer_is_right_if_all_its_tokens_are_and_of_the_kind_by_its_first():
    rows = write_out(TOLD)
    right, in_kind = grade_riddles(Parrot([]), TOLD)
    assert right.shape == (6, 3) and right.all() and in_kind.all()
    behind = (rows.ids == 8).nonzero()  # <assistant>
    row, place = behind[4].tolist()  # the second answer of the second riddle
    right, in_kind = grade_riddles(Parrot([(row, place, 5)]), TOLD)
    assert (~right).nonzero().tolist() == (~in_kind).nonzero().tolist() == [[1, 1]]
    end = next(p for p in range(place, 99) if rows.ids[row, p + 1] == 9)
    right, in_kind = grade_riddles(Parrot([(row, end, 5)]), TOLD)
    assert (~right).nonzero().tolist() == [[1, 1]] and in_kind.all()
    assert len(ASKED_FOR) == 4


def test_each_answer_is_read_behind_its_own_images():
    parrot, given = Parrot([]), []
    parrot.tokens_per_image, parrot.connect = 3, lambda features: features + 1
    forward = parrot.forward
    parrot.forward = lambda ids, features: given.append((ids, features)) or forward(ids)
    right, in_kind = grade_riddles(parrot, TOLD, SEEN.bfloat16())
    ((ids, features),) = given
    assert torch.equal(ids, write_out(TOLD, 3).ids) and right.all() and in_kind.all()
    assert torch.equal(features, SEEN.bfloat16().float()[TOLD.pictures.flatten()] + 1)


def test_an_interval_is_never_empty():
    share, width = share_of(torch.ones(200, dtype=torch.bool))
    assert share == 1 and width == pytest.approx(1.96 * (202 / 204 * 2 / 204 / 204) ** 0.5)
    share, width = share_of(torch.arange(6) < 4)
    assert share == pytest.approx(2 / 3) and width == pytest.approx(1.96 * (0.6 * 0.4 / 10) ** 0.5)
