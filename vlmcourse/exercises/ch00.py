"""The warm-up exercise of chapter 00: bytes of a picture to the numbers a network reads."""

import torch

from vlmcourse.data import pixels
from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text


def _cases() -> list[tuple]:
    shapes = [(2, 5, 7, 3), (3, 4, 6, 1)]
    return [(torch.randint(0, 256, shape, dtype=torch.uint8),) for shape in shapes]


Exercise(
    slot=pixels.normalise,
    chapter="00_start_here",
    cases=_cases,
    axes={"images": "batch height width channel", "return": "batch channel height width"},
    slips=[
        Slip(lambda x: x.float() / 127.5 - 1, Text(
            "the numbers are right, but the channel is still last; torch reads (batch, channel, height, width).",
            "値は正しいですが、チャネルが最後のままです。torch は (batch, channel, height, width) を読みます。")),
        Slip(lambda x: x.permute(0, 3, 1, 2).float() / 255, Text(
            "this maps to 0…1; the goal is −1…1, so that mid-grey becomes 0.",
            "0…1 になっています。中間の灰色が 0 になるよう −1…1 にします。")),
        Slip(lambda x: x.permute(0, 3, 1, 2).float(), Text(
            "the bytes are not rescaled yet: 0 must become −1, and 255 must become 1.",
            "まだ尺度が変わっていません。0 は −1 に、255 は 1 にします。")),
        Slip(lambda x: x.reshape(x.shape[0], x.shape[3], x.shape[1], x.shape[2]).float() / 127.5 - 1, Text(
            "reshape keeps the numbers in their old order and tears the colours apart; move the axis with permute.",
            "reshape では数値の並びが変わらず色が壊れます。permute で軸を動かしてください。")),
        Slip(lambda x: x.transpose(1, 3).float() / 127.5 - 1, Text(
            "height and width changed places: the picture lies on its side. Use permute(0, 3, 1, 2).",
            "高さと幅が入れ替わり、画像が横倒しです。permute(0, 3, 1, 2) を使います。")),
        Slip(lambda x: x.permute(0, 3, 1, 2).float() / 128 - 1, Text(
            "almost: with 128, white (255) becomes 0.992. Divide by 127.5.",
            "惜しいです。128 では白（255）が 0.992 になります。127.5 で割ります。")),
        Slip(lambda x: ((x - 127) / 128).permute(0, 3, 1, 2).float(), Text(
            "bytes wrap around below 0: 3 − 127 is 132. Convert with .float() before you subtract.",
            "uint8 は 0 を下回ると一周します（3 − 127 = 132）。引く前に .float() で変換します。")),
    ],
    hints=[
        Text("Two things change: the order of the axes, and the range of the numbers.",
             "変えるのは 2 つ、軸の順序と値の範囲です。"),
        Text("`images.permute(0, 3, 1, 2).float()` gives the axes. Which two operations map 0 to −1 and 255 to 1?",
             "軸は `images.permute(0, 3, 1, 2).float()`。0 を −1 に、255 を 1 に写す 2 つの演算は何でしょう。"),
    ],
    picture=lambda output: (output[0].permute(1, 2, 0).mean(-1) + 1) / 2,
)  # fmt: skip

Quiz(
    "00_start_here/1",
    Text("What does the connector do?", "コネクタの役割は何ですか。"),
    [
        (Text("It turns pixels into vectors.", "画素をベクトルに変える。"), False,
         Text("That is the vision encoder. The connector starts from its vectors.",
              "それは画像エンコーダです。コネクタはそのベクトルから始めます。")),
        (Text("It carries image vectors into the space of the language model.",
              "画像ベクトルを言語モデルの空間へ運ぶ。"), True,
         Text("So the language model can read them beside words.", "言語モデルが単語と並べて読めるようになります。")),
        (Text("It writes the answer.", "答えを書く。"), False,
         Text("The language model does.", "それは言語モデルの仕事です。")),
    ],
)  # fmt: skip
Quiz(
    "00_start_here/2",
    Text("A VLM answers 41 % of such questions correctly. What do you know?",
         "ある VLM がこのような質問の 41 % に正解しました。何が言えますか。"),
    [
        (Text("It understands some of the pictures.", "いくつかの画像を理解している。"), False,
         Text("You measured it: about as many are right without any picture.",
              "測ったとおり、画像なしでも同じくらい正解します。")),
        (Text("Nothing, before you see its score without the picture.", "画像なしの成績を見るまで何も言えない。"), True,
         Text("A number counts only beside its blind twin.", "数字は「見ない場合」と並べて初めて意味を持ちます。")),
        (Text("It is worse than a language model.", "言語モデルより劣る。"), False,
         Text("A language model that guesses by habit gets about the same.",
              "習慣で当てる言語モデルも同じくらいの成績です。")),
    ],
)  # fmt: skip
Quiz(
    "00_start_here/3",
    Text("Your function is wrong. What runs in the rest of the notebook?",
         "あなたの関数は誤りでした。この先のノートブックでは何が動きますか。"),
    [
        (Text("Your wrong function.", "あなたの誤った関数。"), False,
         Text("It is kept as .mine for you to look at, but nothing runs it.", ".mine に残りますが、使われません。")),
        (Text("Nothing; the notebook stops.", "何も動かず、止まる。"), False,
         Text("A notebook of this course always runs to its end.", "この教材のノートブックは必ず最後まで動きます。")),
        (Text("The course's reference, until yours passes.", "合格するまでは参照実装。"), True,
         Text("And from then on, yours.", "合格したあとは、あなたの関数です。")),
    ],
)  # fmt: skip
