"""Quiz of chapter 06: where image and words meet, and what it costs."""

from vlmcourse.exercises.base import chapter

_, quiz = chapter("06_fusion")

quiz(
    1,
    "You make the gates of Flamingo's layers sigmoid(g) and start at g = 0, in front of a trained language "
    "model. What happens at the first step?",
    [
        ("Nothing changes: the gate is closed.", False,
         "sigmoid(0) is one half. tanh(0) is 0, and that is why Flamingo uses tanh."),
        ("Half of an untrained layer's output is added to every token.", True,
         "The language model reads noise that it never saw in training, and writes worse."),
        ("The gate gets no gradient, so it never opens.", False,
         "It gets one. A gate at 0 does too: the derivative of tanh at 0 is 1, and what it multiplies is "
         "not 0."),
    ],
)
quiz(
    2,
    "An assistant shall discuss 20 photos of 576 patches at once. Which family keeps the context of its "
    "language model free?",
    [
        ("Token injection: placeholders are single tokens.", False,
         "In the text <image> is one word, but it becomes one place per feature: 20 · 576 = 11,520 places."),
        ("Injection with a prefix mask: image tokens see each other.", False,
         "A mask says who may look at whom; every image token still takes its place."),
        ("Cross-attention: the images stay outside and are looked at.", True,
         "The price: extra layers, whose parameters must be trained from nothing."),
    ],
)
quiz(
    3,
    "In a prefix-LM, by mistake, the answer belongs to the prefix as well. What do you see?",
    [
        ("An error: the mask has the wrong shape.", False, "The shape is the same; nothing complains."),
        ("The loss falls almost to 0, and written answers are useless.", True,
         "Every token sees the one it has to predict. When the model writes, there is nothing to copy."),
        ("Training is slower, because more pairs attend.", False,
         "The attention matrix has the same size; masked or not, it is computed."),
    ],
)
