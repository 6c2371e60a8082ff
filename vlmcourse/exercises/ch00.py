"""The warm-up exercise of chapter 00: bytes of a picture to the numbers a network reads."""

import torch

from vlmcourse.data import pixels
from vlmcourse.exercises.base import chapter

exercise, quiz = chapter("00_start_here")

exercise(pixels.normalise, picture=lambda output: (output[0].permute(1, 2, 0).mean(-1) + 1) / 2,
    cases=lambda: [
        (torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8),),
        (torch.randint(0, 256, (3, 4, 6, 1), dtype=torch.uint8),),
    ],
    slips=[
        (".permute(0, 3, 1, 2)", "", "the numbers are right, but the channel is still last; "
         "torch reads (batch, channel, height, width)."),
        ("127.5 - 1", "255", "this maps to 0…1; the goal is −1…1, so that mid-grey becomes 0."),
        (" / 127.5 - 1", "", "the bytes are not rescaled yet: 0 must become −1, and 255 must become 1."),
        ("permute(0, 3, 1, 2)", "reshape([images.shape[axis] for axis in (0, 3, 1, 2)])",
         "reshape keeps the numbers in their old order and tears the colours apart; "
         "move the axis with permute."),
        ("permute(0, 3, 1, 2)", "transpose(1, 3)",
         "height and width changed places: the picture lies on its side. Use permute(0, 3, 1, 2)."),
        ("127.5", "128", "almost: with 128, white (255) becomes 0.992. Divide by 127.5."),
        ("images.permute(0, 3, 1, 2).float() / 127.5 - 1",
         "((images - 127) / 128).permute(0, 3, 1, 2).float()",
         "bytes wrap around below 0: 3 − 127 is 132. Convert with .float() before you subtract."),
    ],
    hints=["Two things change: the order of the axes, and the range of the numbers.",
           "`images.permute(0, 3, 1, 2).float()` gives the axes. "
           "Which two operations map 0 to −1 and 255 to 1?"],
)

quiz(1, "What does the connector do?", [
    ("It turns pixels into vectors.", False,
     "That is the vision encoder. The connector starts from its vectors."),
    ("It carries image vectors into the space of the language model.", True,
     "So the language model can read them beside words."),
    ("It writes the answer.", False, "The language model does."),
])
quiz(2, "A VLM answers 41 % of such questions correctly. What do you know?", [
    ("It understands some of the pictures.", False,
     "You measured it: about as many are right without any picture."),
    ("Nothing, before you see its score without the picture.", True,
     "A number counts only beside its blind twin."),
    ("It sees 41 % of the pictures well enough and misreads the others.", False,
     "Then almost nothing would be right without the picture; but about as many are."),
])
quiz(3, "Your function is wrong. What runs in the rest of the notebook?", [
    ("Your wrong function.", False, "It is kept as .mine for you to look at, but nothing runs it."),
    ("The course's reference, whatever you write: yours is only graded.", False,
     "Once yours passes, it is installed, and all course code runs it."),
    ("The course's reference, until yours passes.", True, "And from then on, yours."),
])
