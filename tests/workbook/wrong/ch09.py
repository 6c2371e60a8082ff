"""Wrong answers to the exercises of chapter 09."""

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from tests.workbook.wrong import wrong


@wrong("flamingo.media_mask", "the text before the first image sees that image")
def never_below_zero(starts, images, last_only):
    """Text before the first image is given image 0, as no index may be -1."""
    current = (starts.cumsum(dim=1) - 1).clamp(min=0)
    if last_only:
        return F.one_hot(current, images).bool()
    return torch.arange(images, device=starts.device) <= current.unsqueeze(-1)


@wrong("flamingo.media_mask", "every token is counted as an image")
def places_for_numbers(starts, images, last_only):
    """The place of a token is compared with the number of an image."""
    place = torch.arange(starts.shape[1], device=starts.device)[:, None]
    image = torch.arange(images, device=starts.device)
    seen = image == place if last_only else image <= place
    return seen.expand(len(starts), -1, -1)


@wrong("flamingo.media_mask", "depends on the text behind it")
def the_very_last(starts, images, last_only):
    """With last_only all text behind the last image sees it, and no other text sees any."""
    begun = starts.cumsum(dim=1).unsqueeze(-1)
    image = torch.arange(images, device=starts.device)
    seen = image < begun
    if last_only:
        seen = seen & (image == starts.sum(dim=1).view(-1, 1, 1) - 1)
    return seen


@wrong("flamingo.side_by_side", "the end of a shorter row changes with the images")
def repeated_to_the_end(latents, counts):
    """Shorter rows are filled up with their last image."""
    most, rows = int(counts.max()), []
    for own in latents.split(counts.tolist()):
        while len(own) < most:
            own = torch.cat([own, own[-1:] if len(own) else latents[:1]])
        rows.append(own.flatten(0, 1))
    return torch.stack(rows)


@wrong("flamingo.side_by_side", "texts and images are exchanged")
def batch_is_second(latents, counts):
    """pad_sequence puts the batch second, unless it is told not to."""
    return pad_sequence(list(latents.split(counts.tolist()))).flatten(1, 2)


@wrong("flamingo.resample", "with `attend(norm_latents(latents), asked)")
def patches_ask(latents, patches, norm_latents, norm_patches, attend):
    """The patches ask, and as many answers are taken as there are latents."""
    asked = torch.cat([norm_patches(patches), norm_latents(latents)], dim=1)
    return latents + attend(norm_patches(patches), asked)[:, : latents.shape[1]]


@wrong("flamingo.resample", "asked one after the other")
def patches_and_then_latents(latents, patches, norm_latents, norm_patches, attend):
    """Two attentions, one after the other."""
    x = latents + attend(norm_latents(latents), norm_patches(patches))
    own = norm_latents(x)
    return x + attend(own, own)


@wrong("flamingo.gated_block", "a gate of 0 must shut its step out")
def gates_are_added(tokens, look, think, look_gate, think_gate):
    """The gates are added to the steps, not multiplied."""
    x = tokens + (torch.tanh(look_gate) + look(tokens))
    return x + (torch.tanh(think_gate) + think(x))


@wrong("flamingo.gated_block", "think reads only what look saw")
def steps_in_a_row(tokens, look, think, look_gate, think_gate):
    """Both results are added at the end, so think never reads the stream."""
    seen = torch.tanh(look_gate) * look(tokens)
    made = torch.tanh(think_gate) * think(seen)
    return tokens + seen + made


@wrong("flamingo.gated_block", "the gate is on the stream as well")
def all_behind_the_gate(tokens, look, think, look_gate, think_gate):
    """The parentheses hold the stream, too."""
    x = (tokens + look(tokens)) * look_gate.tanh()
    return (x + think(x)) * think_gate.tanh()


@wrong("flamingo.gated_block", "the tanh is on what the steps make")
def tanh_of_the_steps(tokens, look, think, look_gate, think_gate):
    """tanh stands at the wrong factor."""
    x = tokens + look_gate * torch.tanh(look(tokens))
    return x + think_gate * torch.tanh(think(x))


@wrong("chat.few_shot", "an example's answer stands in the user's turn")
def one_turn_for_each_example(examples, instruction):
    """Question and answer share one turn."""
    turns = [("user", f"<image>{asked}{answer}") for asked, answer in examples]
    turns.append(("user", f"<image>{instruction}"))
    return turns


@wrong("chat.few_shot", "of two examples with the same instruction one is lost")
def examples_by_instruction(examples, instruction):
    """A dictionary keeps one answer for each instruction."""
    turns = []
    for asked, answer in dict(examples).items():
        turns.append(("user", "<image>" + asked))
        turns.append(("assistant", answer))
    return [*turns, ("user", "<image>" + instruction)]


@wrong("chat.few_shot", "the image stands behind the instruction")
def images_behind(examples, instruction):
    """Every image stands behind its instruction."""
    turns = []
    for asked, answer in examples:
        turns += [("user", asked + "<image>"), ("assistant", answer)]
    return [*turns, ("user", instruction + "<image>")]
