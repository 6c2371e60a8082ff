"""Quiz of chapter 06: where image and words meet, and what it costs."""

from vlmcourse.exercises.base import Quiz, Text

Quiz(
    "06_fusion/1",
    Text("You make the gates of Flamingo's layers sigmoid(g) and start at g = 0, in front of a trained language model. "
         "What happens at the first step?",
         "訓練済み言語モデルの前で、Flamingo の gate を sigmoid(g)、初期値 g = 0 にしました。"
         "最初のステップで何が起きますか。"),
    [
        (Text("Nothing changes: the gate is closed.", "何も変わらない。gate は閉じている。"), False,
         Text("sigmoid(0) is one half. tanh(0) is 0, and that is why Flamingo uses tanh.",
              "sigmoid(0) は 1/2 です。tanh(0) が 0 だから Flamingo は tanh を使います。")),
        (Text("Half of an untrained layer's output is added to every token.",
              "未訓練の層の出力が半分、全トークンに足される。"), True,
         Text("The language model reads noise that it never saw in training, and writes worse.",
              "言語モデルは訓練で見たことのない雑音を読み、文章が悪くなります。")),
        (Text("The gate gets no gradient, so it never opens.", "gate に勾配が届かず、開くことはない。"), False,
         Text("It gets one. A gate at 0 does too: the derivative of tanh at 0 is 1, and what it multiplies is not 0.",
              "届きます。0 の gate にも届きます。tanh の 0 での微分は 1 で、掛ける相手も 0 ではありません。")),
    ],
)  # fmt: skip
Quiz(
    "06_fusion/2",
    Text("An assistant shall discuss 20 photos of 576 patches at once. Which family keeps the context of its language "
         "model free?",
         "576 パッチの写真 20 枚を一度に扱います。言語モデルの文脈を空けておけるのはどの方式ですか。"),
    [
        (Text("Token injection: placeholders are single tokens.", "token injection。placeholder は 1 トークンだから。"),
         False,
         Text("In the text <image> is one word, but it becomes one place per feature: 20 · 576 = 11,520 places.",
              "文中の <image> は 1 語でも、特徴の数だけ場所を取ります：20 · 576 = 11,520。")),
        (Text("Injection with a prefix mask: image tokens see each other.",
              "prefix mask つきの injection。画像トークンが互いに見えるから。"), False,
         Text("A mask says who may look at whom; every image token still takes its place.",
              "mask は誰が誰を見るかだけを決めます。場所は同じだけ必要です。")),
        (Text("Cross-attention: the images stay outside and are looked at.",
              "cross-attention。画像は外に置かれ、見られるだけだから。"), True,
         Text("The price: extra layers, whose parameters must be trained from nothing.",
              "代償は追加の層です。その重みは初めから訓練します。")),
    ],
)  # fmt: skip
Quiz(
    "06_fusion/3",
    Text("In a prefix-LM, by mistake, the answer belongs to the prefix as well. What do you see?",
         "prefix-LM で、誤って答えまで prefix に含めました。何が起きますか。"),
    [
        (Text("An error: the mask has the wrong shape.", "エラー。mask の形が合わない。"), False,
         Text("The shape is the same; nothing complains.", "形は同じなので、何も文句を言いません。")),
        (Text("The loss falls almost to 0, and written answers are useless.",
              "損失はほぼ 0 まで下がるが、書かせた答えは使えない。"), True,
         Text("Every token sees the one it has to predict. When the model writes, there is nothing to copy.",
              "どのトークンも予測すべき次のトークンを見ています。書くときには写す相手がいません。")),
        (Text("Training is slower, because more pairs attend.", "注目する組が増え、訓練が遅くなる。"), False,
         Text("The attention matrix has the same size; masked or not, it is computed.",
              "attention 行列の大きさは同じです。mask の有無によらず計算されます。")),
    ],
)  # fmt: skip
