"""The exhibits of the museum: sixteen mistakes that somebody made, each in a run of seconds (notebook 14).

    EXHIBITS     by name
    CAUSES       what can be wrong; each is the cause of one exhibit
    diagnosed    name a cause, and hear whether it is this one

Their code stands in museum_mistakes.py.
"""

import torch

from vlmcourse.families.museum import (
    Decoy,
    Exhibit,
    Findings,
    Ruling,
    alike,
    below,
    ended,
    far_enough,
    first_of,
    incomplete,
    present,
    still,
)
from vlmcourse.families.museum_flamingo import Interleaving, LookingBack, attend_or_nothing, last_picture
from vlmcourse.families.museum_mistakes import (
    batch_of_prompts,
    labels_of_text,
    learned_labels,
    look_of_row,
    name_in_model,
    next_token_labels,
    picture_of_row,
    pictures_before,
    pixels_from_opencv,
    places_of_new,
    put_images,
    put_images_that_fit,
    quiet_loss,
    softmax_attention,
    softmax_of_large,
    softmax_without_nan,
    to_image_tokens,
    unit_length,
    word_labels,
)
from vlmcourse.families.museum_runs import (
    Asking,
    Comparing,
    Describing,
    Loading,
    fill_in_front,
    go_on,
    our_name,
)
from vlmcourse.families.museum_tuning import Tuning, answer_labels, place_images, project_features
from vlmcourse.models.clip import normalise
from vlmcourse.models.look import packed
from vlmcourse.world.render import to_tensor

CAUSES = {
    "weights not read": "names in the file match no name of the model, and nobody is told",
    "labels moved twice": "labels are moved to the place before them, and the loss moves them again",
    "answers cut": "rows are cut to a length behind which the answers stand",
    "rate too small": "the learning rate is thousands of times too small",
    "pictures cut": "rows are cut in front, where the picture stands",
    "no gradient": "no gradient reaches the projector",
    "empty row": "a softmax over nothing: some token may look at no key",
    "other pixels": "the features were computed from other pixels than the model meets in use",
    "questions learned": "the question is learned in place of the answer",
    "no end": "the end of an answer is not learned",
    "wrong pictures": "each row has another row's picture",
    "open packs": "texts in one row see each other",
    "every picture": "a token looks at all pictures before it, not at the last",
    "not normalised": "the vectors that are compared do not have length 1",
    "padding behind": "prompts are filled up behind, so that the answer follows padding",
    "places anew": "each step counts the places of its tokens from the beginning",
}


def _nothing_learned(findings: Findings) -> str:
    return ended(findings) or (
        "" if findings.seen["right"] > 0.3 else "The loss is 0 from the first step on."
    )


def _stuck(findings: Findings) -> str:
    last, guess = findings.seen["loss, last steps"], findings.seen["ln of the batch"]
    return f"The loss is {last:.2f}, and guessing is {guess:.2f}." if last > 0.85 * guess else ""


def _unequal(findings: Findings) -> str:
    low, high = findings.probes["shortest vector"], findings.probes["longest vector"]
    return (
        "" if abs(low - 1) + abs(high - 1) < 0.01 else f"Vectors are {low:.2f} to {high:.2f} long, and not 1."
    )


TAUGHT = first_of(
    incomplete(
        "answers taught", "Of the answers' words, {:.0%} are learned at the place that has to say them."
    ),
    incomplete("ends taught", "Of the answers' ends, {:.0%} are learned: nothing else tells it to stop."),
    present("taught that is no answer", "{:.0%} of what is learned is no answer."),
)

_MADE = (
    Exhibit(
        "blind from the start",
        "A model goes on from the file of its alignment, and describes every picture alike.",
        Loading(strict=False, rename=name_in_model),
        cause="weights not read",
        ill=far_enough("loss, another picture", "loss, new pictures", 0.12),
        left=incomplete(
            "projector as in the file", "Of the projector's weights, {:.0%} are those of the file."
        ),
        repair=dict(rename=our_name),
        decoys=(
            Decoy(dict(strict=True), "The names that match nothing are told now: let them match."),
            Decoy(dict(steps=12), "More steps train another projector; that of the file is not read."),
        ),
        clue="No weight of the projector is that of the file, and the first loss is too high.",
        tool="what load_state_dict returns, or strict=True; the loss before the first step",
        source="jingyaogong/minimind-v#75 (the loss stays at 7.5), haotian-liu/LLaVA#808",
    ),
    Exhibit(
        "says nothing",
        "The loss falls as it should, and every answer is empty.",
        Tuning(labels=next_token_labels),
        cause="labels moved twice",
        ill=below("right, written", 0.4),
        left=TAUGHT,
        repair=dict(labels=answer_labels),
        decoys=(Decoy(dict(steps=110), "Longer training makes the loss smaller and mends nothing."),),
        clue="The question's last word learns to say the answer, and <assistant> to say <end>.",
        tool="audit_rows (places off), or what_is_taught: the token that each position learns to say",
        source="haotian-liu/LLaVA#779, #1166, #1706 (labels and tokens at different places)",
    ),
    Exhibit(
        "nan at step 1",
        "The first loss is not a number.",
        Tuning(length=24),
        cause="answers cut",
        ill=_nothing_learned,
        left=TAUGHT,
        repair=dict(length=None),
        decoys=(
            Decoy(dict(rate=1e-4), "No step was made yet, so no rate is to blame."),
            Decoy(dict(clip=0.01), "There was no gradient yet that could be clipped."),
            Decoy(dict(loss=quiet_loss), "The mean of no labels is 0/0; called 0, it teaches nothing."),
            Decoy(dict(length=32), "Each row has room for one answer now, not for all.", hides=True),
        ),
        clue="No row has a label: all answers stand behind the limit, and the mean of nothing is 0/0.",
        tool="audit_rows (answers not trained, rows cut); LabelInspector with context=24",
        source="modelscope/ms-swift#5238 (with images the loss is 0.0, until max_length is larger)",
    ),
    Exhibit(
        "flat line",
        "The loss stays where it began, though the gradients look as usual.",
        Tuning(rate=2e-6),
        cause="rate too small",
        ill=below("right", 0.5),
        left=still("language", 0.05),
        repair=dict(rate=0.02),
        decoys=(
            Decoy(dict(steps=110), "At this rate, 10,000 times as many steps would do."),
            Decoy(
                dict(clip=1e9), "Clipping is not in the way: the optimizer divides by the gradient's size."
            ),
        ),
        clue="The gradients are those of a run that works; the weights do not move.",
        tool="gradient_report, and the weights before and after: by which share of their size they moved",
        source="QwenLM/Qwen3-VL#1298 (cured by 1e-4 in place of 1e-8), #1646 (2e-7)",
    ),
    Exhibit(
        "learned to guess",
        "Since conversations became longer, its answers do not depend on the picture.",
        Tuning(length=45, keep="last", place=put_images),
        cause="pictures cut",
        ill=below("right", 0.5),
        left=first_of(
            incomplete("placeholders", "Rows have {:.0%} of the placeholders that their pictures need."),
            incomplete("placeholders filled rightly", "{:.0%} of the placeholders get their own picture."),
            TAUGHT,
        ),
        repair=dict(length=None, keep="first", place=place_images),
        decoys=(
            Decoy(
                dict(place=put_images_that_fit), "Rows have their own picture now, not all of it.", hides=True
            ),
            Decoy(dict(keep="first"), "The pictures are whole now, and the answers are cut.", hides=True),
        ),
        clue="Long rows have lost placeholders, and their image tokens slip into the rows behind them.",
        tool="audit_rows (rows with cut images); check_places makes an error of it",
        source="modelscope/ms-swift#1876, hiyouga/LlamaFactory#5964 (720 tokens, 360 features)",
    ),
    Exhibit(
        "barely better than guessing",
        "The loss falls a little and then stays; last week's run was much better.",
        Tuning(shuffle=8, project=to_image_tokens),
        cause="no gradient",
        ill=below("right", 0.48),
        left=still("projector", 0.01),
        repair=dict(project=project_features),
        decoys=(
            Decoy(dict(shuffle=2), "More image tokens bring more through a random projector.", hides=True),
            Decoy(dict(rate=0.04), "A larger rate moves only what has a gradient."),
        ),
        clue="The projector's gradient is 0, and the language model's is not.",
        tool="gradient_report(model, loss_of_rows(findings), llava_parts(model))",
        source="haotian-liu/LLaVA#832, #948 (is the projector frozen?)",
    ),
    Exhibit(
        "nan in the middle",
        "A few steps go well, and then the loss is not a number.",
        Interleaving(attend=softmax_attention),
        cause="empty row",
        ill=ended,
        left=first_of(
            incomplete("an empty row is a number", "A word before the first picture sees nothing: 0/0."),
            incomplete("its gradient is a number", "The output is a number now; the gradient is not."),
            present("an empty row sees something", "A word now looks at pictures that come behind it."),
            incomplete("documents read", "{:.1%} of the documents are read."),
        ),
        repair=dict(attend=attend_or_nothing),
        decoys=(
            Decoy(dict(rate=1e-5), "It ends at the same step at any rate: look at that step's documents."),
            Decoy(dict(clip=0.01), "A norm that is not a number cannot be clipped."),
            Decoy(dict(attend=softmax_without_nan), "This mends what comes out, not what flows back."),
            Decoy(dict(worded=False), "The documents that have such a row were left out.", hides=True),
            Decoy(
                dict(attend=softmax_of_large), "If all scores are -1e9, all keys weigh the same.", hides=True
            ),
        ),
        clue="A document of that step begins with words, which may look at nothing: a softmax of 0/0.",
        tool="the mask of that step: a row of it holds no True",
        source="mlfoundations/open_flamingo#242 (what words before the image look at)",
    ),
    Exhibit(
        "good on paper",
        "On the pictures of the feature file it is right; in use it confuses colours.",
        Tuning(pixels=pixels_from_opencv),
        cause="other pixels",
        ill=alike("right, pictures of the file", "right", 0.08),
        left=present("features unlike the eye's", "The file differs by {:.0%} from what the eye says."),
        repair=dict(pixels=to_tensor),
        decoys=(
            Decoy(
                dict(live=pixels_from_opencv),
                "Both are alike now, and unlike what the eye learned.",
                hides=True,
            ),
        ),
        clue="A picture has other features in the file than computed now: red and blue changed places.",
        tool="the features of one picture, from the file and computed now; accuracy by kind of question",
        source="tensorpack/tensorpack#176, facebookresearch/SlowFast#184 (cv2.imread gives blue first)",
    ),
    Exhibit(
        "answers with questions",
        "The loss is lower than ever; asked anything, it asks back.",
        Tuning(labels=learned_labels),
        cause="questions learned",
        ill=below("right, written", 0.3),
        left=TAUGHT,
        repair=dict(labels=answer_labels),
        decoys=(Decoy(dict(labels=labels_of_text), "Answers are learned, among all else.", hides=True),),
        clue="No answer has a label; a third of what is learned is <image>, which follows <image>.",
        tool="audit_rows (questions and placeholders trained); LabelInspector.totals()",
        source="Liu et al. 2023, arXiv:2304.08485, section 4.2: only answers are predicted",
    ),
    Exhibit(
        "never stops",
        "An answer is written, and then its last word again and again.",
        Tuning(labels=word_labels),
        cause="no end",
        ill=below("right, written", 0.4),
        left=TAUGHT,
        repair=dict(labels=answer_labels),
        decoys=(Decoy(dict(stop=1), "Every answer is cut after a token, right or not.", hides=True),),
        clue="No <end> has a label.",
        tool="audit_rows (answers without end); the length of what is written",
        source="zjysteven/lmms-finetune#47, tatsu-lab/stanford_alpaca#126",
    ),
    Exhibit(
        "does not look",
        "The loss falls slowly; answers are as often right with another picture.",
        Tuning(pair=picture_of_row),
        cause="wrong pictures",
        ill=far_enough("right", "right, another picture", 0.2),
        left=incomplete("pictures of their own", "{:.0%} of the rows have their own picture."),
        repair=dict(pair=torch.arange),
        decoys=(Decoy(dict(steps=110), "Longer, it learns by heart which answer goes with which picture."),),
        clue="It equals its blind twin, and a row's picture does not show what its questions ask about.",
        tool="accuracy with another picture; then a look at one row and its picture",
        source="learning from language alone: Goyal et al. 2017, arXiv:1612.00837, section 1",
    ),
    Exhibit(
        "best in company",
        "Asked four questions in one row it is better than ever; asked one by one, it is not.",
        Tuning(twice=True, look=look_of_row),
        cause="open packs",
        ill=alike("right", "right, asked alone", 0.05),
        left=first_of(
            present("texts that see others", "{:.0%} of the rows have texts that see other texts."),
            present("texts in other places", "{:.0%} of the words do not stand behind the picture."),
        ),
        repair=dict(look=packed),
        decoys=(
            Decoy(dict(twice=False), "There is less to copy now, and it could still be copied.", hides=True),
        ),
        clue="With another picture it is still right half of the time: the answer stands in the same row.",
        tool="draw_mask of a row; the same questions, one in a row",
        source="huggingface/nanoVLM#201 and pull request 204, unslothai/unsloth#1207",
    ),
    Exhibit(
        "yesterday's picture",
        "About single pictures it is right; behind another picture it confuses the two.",
        LookingBack(media=pictures_before),
        cause="every picture",
        ill=below("right, last picture", 0.7),
        left=incomplete("looks that are right", "{:.0%} of the looks are right; the others go further back."),
        repair=dict(media=last_picture),
        decoys=(Decoy(dict(shots=0), "With one picture there is nothing to confuse.", hides=True),),
        clue="Words behind the second picture look at both; in its training they looked at one.",
        tool="media_mask of a text with two pictures; record_attention of the gated blocks",
        source="lucidrains/flamingo-pytorch#6 (>= for ==)",
    ),
    Exhibit(
        "stuck at ln B",
        "The loss is the logarithm of the batch, as of guessing, and stays there.",
        Comparing(unit=unit_length),
        cause="not normalised",
        ill=_stuck,
        left=_unequal,
        repair=dict(unit=normalise),
        decoys=(
            Decoy(
                dict(scale=100.0), "A larger scale makes up for short vectors, up to its limit.", hides=True
            ),
            Decoy(dict(size=16), "With a smaller batch, guessing is easier.", hides=True),
        ),
        clue="The vectors of a batch have length 1 together, not each: their products are nearly 0.",
        tool="the lengths of the vectors that are compared; the largest logit",
        source="mlfoundations/open_clip#17 (4.8 with 128 pairs), moein-shariatnia/OpenAI-CLIP#10",
    ),
    Exhibit(
        "short questions",
        "Asked one by one it is right; in a batch, short questions get a wrong answer.",
        Asking(fill=batch_of_prompts),
        cause="padding behind",
        ill=below("right, all others", 0.85),
        left=incomplete(
            "prompts that end in a real token", "{:.0%} of two unequal prompts end in a real token."
        ),
        repair=dict(fill=fill_in_front),
        decoys=(Decoy(dict(size=1), "One by one, nothing is filled up.", hides=True),),
        clue="Only the longest questions of a batch are not followed by padding, and only they are right.",
        tool="accuracy by length; the last column of ids",
        source="QwenLM/Qwen3-VL pull request 1296, LLaVA-VL/LLaVA-NeXT#398",
    ),
    Exhibit(
        "one good word",
        "Captions begin well, and go wrong from their second word on.",
        Describing(places=places_of_new),
        cause="places anew",
        ill=below("right, whole captions", 0.5),
        left=incomplete("places that go on", "{:.0%} of the places go on where the cache ends."),
        repair=dict(places=go_on),
        decoys=(Decoy(dict(cached=False), "All is read again at each step, at its place.", hides=True),),
        clue="With a cache it writes otherwise than without, from the second token on.",
        tool="generate with cached=True and with cached=False, token for token",
        source="lucidrains/x-transformers#219, mlfoundations/open_lm pull request 74",
    ),
)


EXHIBITS = {exhibit.name: exhibit for exhibit in _MADE}
TWO_PATIENTS = ("does not look", "learned to guess")  # whose losses and answers look alike, see notebook 14


def diagnosed(exhibit: Exhibit, cause: str) -> Ruling:
    """Whether this is the cause; if not, what would be seen if it were.

    Args:
        cause: a key of CAUSES.

    Raises:
        ValueError: if there is no such cause; names those that there are.
    """
    if cause not in CAUSES:
        raise ValueError(f"{cause!r} is none of the causes: {', '.join(CAUSES)}")
    if cause == exhibit.cause:
        return Ruling(True, f"{exhibit.name}: yes, {CAUSES[cause]}. {exhibit.clue}")
    other = next(each for each in EXHIBITS.values() if each.cause == cause)
    says = f"{exhibit.name}: not that {CAUSES[cause]}. Then you would find: {other.clue} Ask {exhibit.tool}."
    return Ruling(False, says)
