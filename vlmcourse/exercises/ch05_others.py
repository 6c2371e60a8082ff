"""Exercises of chapter 05, part three: words into tokens, and what BERT and T5 do otherwise; and the quiz."""

import itertools
import math

import torch
from torch import Tensor

from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text
from vlmcourse.models import bert, bpe, t5

CHAPTER = "05_language_models"
IGNORED = -100

# ------------------------------------------------------------------------------------------------- BPE


def _merge(tokens: list[str], pair: tuple[str, str], *, skip: int = 2, most: int = 10**9) -> list[str]:
    merged, k = [], 0
    while k < len(tokens):
        if tuple(tokens[k : k + 2]) == pair and most:
            merged.append("".join(pair))
            k, most = k + skip, most - 1
        else:
            merged.append(tokens[k])
            k += 1
    return merged


def _by_text(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    return " ".join(tokens).replace(" ".join(pair), "".join(pair)).split(" ")


def _overlapping(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Compares neighbours of the old list, so a token can be used twice."""
    hit = [two == pair for two in itertools.pairwise(tokens)]
    return ["".join(pair) if k < len(hit) and hit[k] else token for k, token in enumerate(tokens)
            if (k < len(hit) and hit[k]) or k == 0 or not hit[k - 1]]  # fmt: skip


def _from_the_right(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged = _merge([t[::-1] for t in tokens[::-1]], (pair[1][::-1], pair[0][::-1]))
    return [t[::-1] for t in merged[::-1]]


def _last_lost(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged = _merge(tokens, pair)
    return merged if tuple(tokens[-2:]) == pair else merged[:-1]


Exercise(
    slot=bpe.merge_pair,
    chapter=CHAPTER,
    cases=lambda: [
        (["t", "h", "e", " ", "t", "h", "i", "n"], ("t", "h")),
        (["a", "a", "a", "b", "a", "a"], ("a", "a")),
        (["re", "d", "are", "d", "re", "dy", "re", "d"], ("re", "d")),
        (["x"], ("x", "y")),
    ],
    axes={"return": "token"},
    slips=[
        Slip(_overlapping, Text(
            "a token is used twice: in a a a only the first two merge, and the third stays.",
            "同じトークンを 2 回使っています。a a a では最初の 2 つだけがまとまり、3 つ目は残ります。")),
        Slip(_from_the_right, Text(
            "it merges from the right; go from left to right: a a a becomes aa a.",
            "右からまとめています。左から右へ進み、a a a は aa a になります。")),
        Slip(lambda t, p: _merge(t, p, most=1), Text(
            "only the first place is merged; every place must be.", "最初の 1 か所だけです。すべてまとめてください。")),
        Slip(_by_text, Text(
            "the tokens were joined to a text and cut again, so ends of longer tokens matched: compare whole tokens.",
            "文字列につないで切り直したため、長いトークンの一部まで一致しています。トークン全体を比べてください。")),
        Slip(lambda t, p: _merge(t, p, skip=1), Text(
            "the second token of the pair is still there: after a merge, step over both.",
            "組の 2 つ目が残っています。まとめた後は 2 つ分進みます。")),
        Slip(_last_lost, Text(
            "the last token is lost when it is in no pair: the loop ends one step too early.",
            "組にならない最後のトークンが消えています。ループが 1 つ早く終わっています。")),
        Slip(lambda t, p: list(t), Text(
            "nothing is merged. `tokens[k:k+2]` is a list, and a list never equals the tuple `pair`: compare tuples.",
            "何もまとまっていません。`tokens[k:k+2]` はリストで、タプル `pair` とは決して等しくなりません。")),
        Slip(lambda t, p: [x for x in _merge(t, p) if x != "".join(p)], Text(
            "the pairs are removed, but what they became is not put in their place.",
            "組を取り除いただけで、まとめたトークンを入れていません。")),
    ],
    hints=[
        Text("Walk through the list with an index. When do you step by one, and when by two?",
             "添字でリストを進みます。1 つ進むのはいつ、2 つ進むのはいつですか。"),
        Text("`while k < len(tokens)`: if `(tokens[k], tokens[k + 1]) == pair` (mind the end), append the joined "
             "string and add 2 to k; else append tokens[k] and add 1.",
             "`while k < len(tokens)`：末尾に注意して `(tokens[k], tokens[k + 1]) == pair` なら"
             "つないだ文字列を加えて k に 2 を、そうでなければ tokens[k] を加えて 1 を足します。"),
    ],
)  # fmt: skip

# ------------------------------------------------------------------------------------- BERT's masked tokens


def _mask(ids, chosen, dice, random_ids, mask_id, special, *, share=0.15, masked=0.8, replaced=0.9, spare=True):
    picked = chosen < share
    picked = picked & ~special if spare else picked
    inputs = torch.where(picked & (dice < masked), mask_id, ids)
    inputs = torch.where(picked & (dice >= masked) & (dice < replaced), random_ids, inputs)
    return inputs, torch.where(picked, ids, IGNORED)


def _labels_where_changed(ids, *rest):
    inputs = _mask(ids, *rest)[0]
    return inputs, torch.where(inputs == ids, IGNORED, ids)


def _labels_upside_down(ids, *rest):
    inputs, labels = _mask(ids, *rest)
    return inputs, torch.where(labels == IGNORED, ids, IGNORED)


def _labels_from_inputs(ids, *rest):
    inputs, labels = _mask(ids, *rest)
    return inputs, torch.where(labels == IGNORED, labels, inputs)


def _kept_before_random(ids, chosen, dice, random_ids, mask_id, special):
    swapped = torch.where((dice >= 0.8) & (dice < 0.9), dice + 0.1, torch.where(dice >= 0.9, dice - 0.1, dice))
    return _mask(ids, chosen, swapped, random_ids, mask_id, special)


def _mask_case(batch: int, token: int) -> tuple:
    ids, random_ids = torch.randint(10, 90, (2, batch, token))
    special = torch.zeros(batch, token, dtype=torch.bool)
    special[:, ::4] = True
    return ids, 0.3 * torch.rand(batch, token), torch.rand(batch, token), random_ids, 5, special


def _is_wrong_on_its_head(ids, chosen, *rest):
    return _mask(ids, 0.3 - chosen, *rest)


Exercise(
    slot=bert.mask_tokens,
    chapter=CHAPTER,
    cases=lambda: [_mask_case(2, 31), _mask_case(3, 40)],
    axes={"ids": "batch token", "chosen": "batch token", "dice": "batch token", "random_ids": "batch token",
          "special": "batch token", "return": ("batch token", "batch token")},
    slips=[
        Slip(lambda i, *r: (_mask(i, *r)[0], i), Text(
            "every token has a label; the loss must count only the chosen ones, so the others get -100.",
            "全トークンにラベルがあります。損失は選ばれたものだけで数え、他は -100 にします。")),
        Slip(_labels_where_changed, Text(
            "chosen tokens that stayed as they were have no label; BERT must predict those too.",
            "選ばれてそのまま残したトークンにラベルがありません。それも予測の対象です。")),
        Slip(lambda *a: _mask(*a, masked=1.0), Text(
            "every chosen token is masked; only 80 % are, 10 % become a random token and 10 % stay.",
            "選んだものをすべて mask しています。80 % だけで、10 % はランダム、10 % はそのままです。")),
        Slip(lambda *a: _mask(*a, replaced=1.0), Text(
            "20 % become random; the last 10 % (dice ≥ 0.9) must stay as they are.",
            "20 % がランダムになっています。最後の 10 %（dice ≥ 0.9）はそのまま残します。")),
        Slip(lambda *a: _mask(*a, spare=False), Text(
            "special tokens are chosen too; they are never hidden.",
            "特殊トークンまで選んでいます。特殊トークンは隠しません。")),
        Slip(_labels_upside_down, Text(
            "the labels are inside out: the chosen tokens need their ids, the others -100.",
            "ラベルが逆です。選ばれたものに id、他に -100 を入れます。")),
        Slip(_labels_from_inputs, Text(
            "the labels are taken from the masked text; they must be the original ids.",
            "隠した後の列からラベルを取っています。元の ids から取ります。")),
        Slip(_kept_before_random, Text(
            "random and kept changed places: dice from 0.8 to 0.9 means random, from 0.9 on kept.",
            "ランダムとそのままが逆です。dice 0.8〜0.9 がランダム、0.9 以上がそのままです。")),
        Slip(_is_wrong_on_its_head, Text(
            "the wrong ones are chosen: chosen < 0.15 picks 15 %.",
            "選ぶ側が逆です。chosen < 0.15 が 15 % を選びます。")),
    ],
    hints=[
        Text("First decide who is picked: chosen below 0.15, and not special. Labels depend on that alone.",
             "まず誰を選ぶか：chosen が 0.15 未満で special でないもの。ラベルはそれだけで決まります。"),
        Text("`labels = torch.where(picked, ids, -100)`; then two torch.where for the inputs, one per range of dice.",
             "`labels = torch.where(picked, ids, -100)`。入力は dice の範囲ごとに torch.where を 2 回です。"),
    ],
    picture=lambda output: output[1] != IGNORED,
)  # fmt: skip

# ------------------------------------------------------------------------------------------ T5's buckets


def _buckets(distance, buckets, farthest, both_ways, *, half=True, sign=1, future=1, log=True, cap=True, exact=2):
    n, first = sign * distance, torch.zeros_like(distance)
    if both_ways:
        buckets = buckets // 2 if half else buckets
        first = (future * n > 0).long() * buckets
        n = n.abs()
    else:
        n = (-n).clamp(min=0)
    one_each = buckets // exact
    ratio = (n.clamp(min=1) / one_each).log() / math.log(farthest / one_each)
    far = one_each + (ratio * (buckets - one_each)).long() if log else n
    far = far.clamp(max=buckets - 1) if cap else far
    return first + torch.where(n < one_each, n, far)


def _steps(query: int, key: int) -> Tensor:
    """Distances key − query with spread-out queries, to the future and to the past."""
    return torch.arange(key) - torch.linspace(0, key - 1, query).long()[:, None]


Exercise(
    slot=t5.relative_buckets,
    chapter=CHAPTER,
    cases=lambda: [(_steps(5, 130), 20, 100, True), (_steps(4, 131), 20, 100, False), (_steps(3, 60), 12, 40, True)],
    axes={"distance": "query key", "return": "query key"},
    slips=[
        Slip(lambda *a: _buckets(*a, sign=-1), Text(
            "past and future are swapped: distance is key − query, so it is negative for earlier tokens.",
            "過去と未来が逆です。distance は key − query なので、前のトークンでは負になります。")),
        Slip(lambda d, b, f, w: _buckets(d, b, f, True), Text(
            "both_ways is not used: a decoder sees no future, so all its buckets serve the past.",
            "both_ways が使われていません。decoder には未来がなく、全 bucket を過去に使います。")),
        Slip(lambda d, b, f, w: _buckets(d if w else -d.abs(), b, f, w), Text(
            "in a decoder the future shares bucket 0; here it is counted like the past.",
            "decoder では未来はすべて bucket 0 です。ここでは過去と同じに数えています。")),
        Slip(lambda *a: _buckets(*a, half=False), Text(
            "looking both ways, each side has half of the buckets; here each side has all of them.",
            "両方向では各側が半分ずつ使います。ここでは各側が全部を使っています。")),
        Slip(lambda *a: _buckets(*a, future=-1), Text(
            "the upper half of the buckets belongs to the future (distance > 0), here it went to the past.",
            "上半分の bucket は未来（distance > 0）用です。ここでは過去に使われています。")),
        Slip(lambda *a: _buckets(*a, log=False), Text(
            "far distances have one bucket each until they run out; they must share buckets, wider and wider (log).",
            "遠い距離まで 1 つずつ使っています。遠いほど広い bucket を対数で共有します。")),
        Slip(lambda *a: _buckets(*a, cap=False), Text(
            "the numbers run past the last bucket: everything beyond `farthest` shares it.",
            "最後の bucket を超えています。farthest より遠いものは最後の bucket に入ります。")),
        Slip(lambda *a: _buckets(*a, exact=4), Text(
            "too few distances have a bucket of their own: half of each side's buckets hold one distance each.",
            "1 距離 1 bucket の範囲が狭すぎます。各側の bucket の半分がそれに当たります。")),
    ],
    hints=[
        Text("Three zones: near distances one by one, far ones on a logarithmic scale, the rest in the last bucket.",
             "3 つの区間です。近くは 1 つずつ、遠くは対数で、その先は最後の bucket です。"),
        Text("If both ways: halve the buckets, add that half where distance > 0, and go on with the absolute distance. "
             "Else n = (−distance).clamp(min=0).",
             "両方向なら bucket を半分にし、distance > 0 に半分を足し、絶対値で続けます。"
             "そうでなければ n = (−distance).clamp(min=0)。"),
        Text("With e = buckets // 2: n below e keeps its number; else e + int(log(n / e) / log(farthest / e) · "
             "(buckets − e)), at most buckets − 1.",
             "e = buckets // 2 として、n が e 未満ならそのまま、以上なら e + int(log(n / e) / log(farthest / e) · "
             "(buckets − e))、最大 buckets − 1。"),
    ],
    picture=lambda output: output / output.max(),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- quiz

Quiz(
    "05_language_models/1",
    Text("A VLM has read 576 image tokens and now writes an answer with a KV cache. What does the image cost at each "
         "further step?",
         "VLM が画像の 576 トークンを読み終え、KV cache を使って答えを書いています。"
         "以後の各ステップで画像の分はいくらかかりますか。"),
    [
        (Text("All 576 tokens go through the model again.", "576 トークンがもう一度モデルを通る。"), False,
         Text("That is what the cache saves: their keys and values are kept.",
              "それを省くのが cache です。key と value は保存されています。")),
        (Text("Nothing; the image was read already.", "ゼロ。画像はもう読んだ。"), False,
         Text("Every new token still looks at them, and they stay in memory.",
              "新しいトークンは毎回それらを見ます。メモリにも残ります。")),
        (Text("In every layer, the new token reads 576 kept keys and values.",
              "各層で、新しいトークンが保存された 576 組の key と value を読む。"), True,
         Text("That is why few image tokens and few key heads matter.",
              "だから画像トークンや key の head の少なさが効きます。")),
    ],
)  # fmt: skip
Quiz(
    "05_language_models/2",
    Text("Your caption model sees no image, yet its loss on new captions falls clearly below their entropy. What do "
         "you conclude?",
         "画像を見ないキャプションモデルの損失が、新しいキャプションで entropy をはっきり下回りました。"
         "何が言えますか。"),
    [
        (Text("It generalises better than expected.", "予想以上によく汎化している。"), False,
         Text("No model can on average be less surprised than the process that made the captions.",
              "平均では、キャプションを作った過程より驚きを小さくできるモデルはありません。")),
        (Text("Something shows it the answer: mask or labels are wrong.",
              "何かが答えを見せている。mask かラベルの誤り。"), True,
         Text("You planted exactly that: a mask that is off by one.",
              "まさにそれを仕込みました。1 つずれた mask です。")),
        (Text("It was trained for too long.", "訓練が長すぎた。"), False,
         Text("Overfitting raises the loss on new captions; it never lowers it below the entropy.",
              "過学習は新しいキャプションの損失を上げます。entropy より下げることはありません。")),
    ],
)  # fmt: skip
Quiz(
    "05_language_models/3",
    Text("Why is BERT a poor choice for writing a caption word by word?",
         "BERT が 1 語ずつキャプションを書くのに向かないのはなぜですか。"),
    [
        (Text("It has no scores for words.", "単語のスコアを持たない。"), False,
         Text("Its masked-token head gives a score for every word of the vocabulary.",
              "mask を埋める head が語彙全体のスコアを出します。")),
        (Text("Its earlier tokens see the new one, so nothing can be kept.",
              "前のトークンが新しいトークンを見るので、何も保存できない。"), True,
         Text("Without a causal mask every new word changes all keys and values. BLIP adds the mask, so BERT writes.",
              "因果 mask がないと、新しい語ごとに全 key と value が変わります。"
              "BLIP は mask を加えて BERT に書かせます。")),
        (Text("It cannot look at an image.", "画像を見られない。"), False,
         Text("BLIP gives it cross-attention to an image; looking is not the problem.",
              "BLIP は画像への cross-attention を加えます。見ることは問題ではありません。")),
    ],
)  # fmt: skip
