"""Exercises of chapter 08, part one: what a model reads of a conversation, and what of it is learned; and the quiz."""

import torch
from torch import Tensor

from vlmcourse.data import chat
from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text

CHAPTER = "08_instruction_tuning"

# ------------------------------------------------------------------------------------------ the template

SYSTEM, ASKED, SAID = ("system", "answer briefly."), ("user", "<image>what is it?"), ("assistant", "a star")
MORE = [("user", "and its colour?"), ("assistant", "red")]


def _render(turns, prompt, *, role="<{}>", end="<end>", ends=("assistant",), between="", start="<assistant>"):
    text = between.join(role.format(name) + said + (end if name in ends else "") for name, said in turns)
    return text + (between + start) * prompt


def _end_at_the_end(turns, prompt):
    text = _render(turns, prompt, end="")
    return text if prompt else text + "<end>"


Exercise(
    slot=chat.render_chat,
    chapter=CHAPTER,
    cases=lambda: [
        ([ASKED, SAID], False),
        ([SYSTEM, ASKED, SAID, *MORE], False),
        ([ASKED], True),
        ([SYSTEM, ASKED, SAID, MORE[0]], True),
    ],
    axes={"return": "letter"},
    slips=[
        Slip(lambda t, p: _render(t, p, end=""), Text(
            "no `<end>` closes the answers, so the model never learns to stop.",
            "答えを閉じる `<end>` がありません。モデルは止まることを学べません。")),
        Slip(lambda t, p: _render(t, p, ends=chat.ROLES), Text(
            "every turn is closed by `<end>`; only answers are, since only the model has to know when it is done.",
            "すべての発話が `<end>` で閉じています。終わりを知るべきなのはモデルだけなので、答えだけに付けます。")),
        Slip(_end_at_the_end, Text(
            "`<end>` stands once, behind the whole conversation; each answer needs its own.",
            "`<end>` が会話全体の最後に 1 つだけです。答えごとに必要です。")),
        Slip(lambda t, p: _render(t, False), Text(
            "`prompt` is not used: with prompt=True the text ends in `<assistant>`, so that the answer comes next.",
            "`prompt` が使われていません。prompt=True では文の最後に `<assistant>` を置き、続きを答えにします。")),
        Slip(lambda t, p: _render(t, True), Text(
            "`<assistant>` stands behind every text; it belongs there only with prompt=True.",
            "すべての文の最後に `<assistant>` があります。prompt=True のときだけ付けます。")),
        Slip(lambda t, p: _render(t, p, start="<assistant><end>"), Text(
            "the prompt is closed already: nothing may stand behind its `<assistant>`, the answer goes there.",
            "プロンプトがもう閉じています。最後の `<assistant>` の後には何も置きません。そこに答えが来ます。")),
        Slip(lambda t, p: _render(t, p, between="\n"), Text(
            "line ends stand between the turns; in this template the parts follow each other directly.",
            "発話の間に改行があります。このテンプレートでは直接つなげます。")),
        Slip(lambda t, p: _render(t, p, between=" "), Text(
            "spaces stand between the turns; in this template the parts follow each other directly.",
            "発話の間に空白があります。このテンプレートでは直接つなげます。")),
        Slip(lambda t, p: _render(t, p, role="{}: "), Text(
            "roles are written as words; they are tokens of their own: `<user>`, `<assistant>`, `<system>`.",
            "role が普通の単語になっています。`<user>`、`<assistant>`、`<system>` という専用トークンにします。")),
        Slip(lambda t, p: _render([turn for turn in t if turn[0] != "system"], p), Text(
            "the system's turn is lost; every role is written the same way.",
            "system の発話が消えています。どの role も同じように書きます。")),
    ],
    hints=[
        Text("Every turn becomes its role in angle brackets and its text. Which turns get one more token?",
             "各発話は、山括弧の role とその文になります。もう 1 つトークンが付くのはどの発話ですか。"),
        Text('`"".join(f"<{role}>{said}" + "<end>" * (role == "assistant") for role, said in turns)`, and with '
             "`prompt` one more `<assistant>`.",
             '`"".join(f"<{role}>{said}" + "<end>" * (role == "assistant") for role, said in turns)`。'
             "`prompt` ならさらに `<assistant>` を付けます。"),
    ],
)  # fmt: skip

# -------------------------------------------------------------------------------------------- label mask


def _turns_open(ids: Tensor, start: int, end: int) -> Tensor:
    """How many answers are open before or at each token."""
    return (ids == start).cumsum(1) - (ids == end).cumsum(1)


def _late(mask: Tensor, places: int = 1) -> Tensor:
    """Every row moved to the right."""
    return torch.cat([torch.zeros_like(mask[:, :places]), mask[:, :-places]], 1)


def _right(ids, start, end):
    return _late(_turns_open(ids, start, end) > 0)


def _from_first_start(ids, start, end):
    return _late((ids == start).cumsum(1) > 0)


def _one_answer(ids, start, end, *, last):
    count = (ids == start).cumsum(1)
    return _right(ids, start, end) & (count == (count[:, -1:] if last else 1))


def _token_rows(start: int, end: int, other: int) -> Tensor:
    """Two turns, one turn behind padding, and an answer that was not closed, with padding behind the second row."""
    rows = [
        [other, 30, 31, start, 32, 33, end, other, 34, start, 35, end, 0],
        [0, 0, 0, other, 36, 37, 38, 39, start, 40, end, 0, 0],
        [other, 41, start, 42, 43, end, other, 44, 45, start, 46, 47, 48],
    ]
    return torch.tensor(rows)


Exercise(
    slot=chat.label_mask,
    chapter=CHAPTER,
    cases=lambda: [
        (_token_rows(8, 9, 7), 8, 9),
        (_token_rows(21, 5, 8)[:2, :12], 21, 5),
    ],
    axes={"ids": "batch token", "return": "batch token"},
    slips=[
        Slip(lambda i, s, e: _turns_open(i, s, e) > 0, Text(
            "the mask is one place too early: the start is learned, which is given, and the end is not, so the model "
            "never stops.",
            "mask が 1 つ前にずれています。与えられる start を学び、end を学ばないので、モデルは止まりません。")),
        Slip(lambda i, s, e: _late(_turns_open(i, s, e) > 0, 2), Text(
            "the mask is one place too late: the first word of every answer is never learned, and what follows the end "
            "is.",
            "mask が 1 つ後ろにずれています。答えの最初の語を学ばず、end の次を学んでしまいます。")),
        Slip(lambda i, s, e: _right(i, s, e) & (i != e), Text(
            "the end is left out: it has to be predicted, or the model never learns to stop.",
            "end が除かれています。end も予測させないと、モデルは止まることを学べません。")),
        Slip(lambda i, s, e: _right(i, s, e) | (i == s), Text(
            "the start is learned too; it is given, the model never has to write it.",
            "start も学んでいます。start は与えられるもので、モデルが書くことはありません。")),
        Slip(_from_first_start, Text(
            "everything behind the first start is learned, later questions too; an answer goes to its end only.",
            "最初の start より後ろをすべて学んでいます。後の質問まで入ります。答えは end までです。")),
        Slip(lambda i, s, e: i != 0, Text(
            "all tokens but padding are learned: the model is trained on the prompt, questions and images included.",
            "padding 以外をすべて学んでいます。質問や画像を含むプロンプトで訓練してしまいます。")),
        Slip(lambda i, s, e: ~_right(i, s, e), Text(
            "the mask is inverted: True belongs to the answers.", "逆です。答えのところを True にします。")),
        Slip(lambda i, s, e: _one_answer(i, s, e, last=True), Text(
            "only the last answer is learned; every answer of a conversation is.",
            "最後の答えだけを学んでいます。会話のすべての答えを学びます。")),
        Slip(lambda i, s, e: _one_answer(i, s, e, last=False), Text(
            "only the first answer is learned; every answer of a conversation is.",
            "最初の答えだけを学んでいます。会話のすべての答えを学びます。")),
        Slip(lambda i, s, e: _right(i, 8, 9), Text(
            "8 and 9 are written into it; take the numbers from `start` and `end`.",
            "8 と 9 が直接書かれています。`start` と `end` の番号を使います。")),
        Slip(lambda i, s, e: _right(i, s, e).long(), Text(
            "the places are right, but the mask must hold True and False: compare, or use dtype=torch.bool.",
            "位置は正しいですが、値は True / False にします。比較を使うか dtype=torch.bool とします。")),
    ],
    hints=[
        Text("Read a row from left to right: when does an answer begin, when is it over? What has to be known of the "
             "tokens before?",
             "行を左から右へ読みます。答えはいつ始まり、いつ終わりますか。それまでのトークンについて何が必要ですか。"),
        Text("`(ids == start).cumsum(1)` counts the answers opened so far, the same with `end` those closed. More "
             "opened than closed *before* a token: shift by one.",
             "`(ids == start).cumsum(1)` は開いた答えの数、`end` なら閉じた数です。"
             "トークンの*前*で開いた数の方が多ければ答えの中：1 つずらします。"),
    ],
    picture=lambda output: output,
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- quiz

Quiz(
    "08_instruction_tuning/1",
    Text("After instruction tuning your model answers rightly and then goes on writing for ever. Where do you look "
         "first?",
         "instruction tuning の後、モデルは正しく答えますが、そのまま書き続けます。最初にどこを見ますか。"),
    [
        (Text("At the learning rate.", "学習率。"), False,
         Text("The answers are right, so it learned. It never saw that an answer ends.",
              "答えは正しいので学習はできています。答えが終わることを見ていないのです。")),
        (Text("At the label mask: is the end token among the labels?",
              "label mask：end トークンがラベルに入っているか。"), True,
         Text("If the end is never a label, nothing teaches the model to write it.",
              "end がラベルになければ、それを書くことを教えるものがありません。")),
        (Text("At the projector: the image tokens are too large.", "projector：画像トークンが大きすぎる。"), False,
         Text("Then the answers would be wrong, not endless.",
              "それなら答えが間違うはずで、終わらない理由にはなりません。")),
    ],
)  # fmt: skip
Quiz(
    "08_instruction_tuning/2",
    Text("A model says “yes” to 95 % of questions “is there a …?”, half of which deserve a “no”. What is the most "
         "likely cause?",
         "「…はありますか」の半分は no が正解なのに、モデルは 95 % に yes と答えます。"
         "最もありそうな原因は何ですか。"),
    [
        (Text("Its training answers are nearly all “yes”: it learned the habit, not to look.",
              "訓練データの答えがほとんど yes で、見ることでなく習慣を学んだ。"), True,
         Text("You trained on such data. Questions about absent things cure it.",
              "そのようなデータで訓練して確かめました。ないものについての質問が薬になります。")),
        (Text("It has too few image tokens.", "画像トークンが少なすぎる。"), False,
         Text("Then it would guess both ways; a strong lean to one side comes from the data.",
              "それなら両方に間違えます。片側への強い偏りはデータから来ます。")),
        (Text("Greedy decoding.", "貪欲法で書いているから。"), False,
         Text("Greedy decoding shows what the model thinks likelier; it does not make yes likelier.",
              "貪欲法はモデルがより確からしいと思う方を見せるだけで、yes を確からしくはしません。")),
    ],
)  # fmt: skip
Quiz(
    "08_instruction_tuning/3",
    Text("Why does LLaVA train the projector alone before it trains the language model with it?",
         "LLaVA が言語モデルと一緒に訓練する前に、projector だけを訓練するのはなぜですか。"),
    [
        (Text("Because the projector has more parameters than the language model.",
              "projector の方が言語モデルよりパラメータが多いから。"), False,
         Text("It has far fewer.", "はるかに少ないです。")),
        (Text("So that image tokens make sense before the language model starts to adapt to them.",
              "言語モデルが適応し始める前に、画像トークンを意味のあるものにするため。"), True,
         Text("A new projector sends noise; a language model trained on noise unlearns what it knew.",
              "新しい projector は雑音を送ります。雑音で訓練された言語モデルは知っていたことを忘れます。")),
        (Text("Because gradients cannot pass through a trainable language model.",
              "訓練中の言語モデルを勾配が通れないから。"), False,
         Text("They pass in both cases; in stage 1 they pass a frozen one.",
              "どちらの場合も通ります。第 1 段階では凍結された言語モデルを通ります。")),
    ],
)  # fmt: skip
