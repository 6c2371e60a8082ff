"""The chapters of the course in their order, finished or to come; the README says what each one builds."""

from typing import NamedTuple


class Chapter(NamedTuple):
    """The name of a notebook file, without its ending, and whether the notebook is here."""

    name: str
    ready: bool = True


CHAPTERS = [
    Chapter("00_start_here"),
    Chapter("01_the_problem"),
    Chapter("02_vit"),
    Chapter("03_cnn_vs_vit"),
    Chapter("04_clip"),
    Chapter("05_language_models"),
    Chapter("06_fusion"),
    Chapter("07_projection_and_alignment"),
    Chapter("08_instruction_tuning"),
    Chapter("09_flamingo"),
    Chapter("10_blip"),
    Chapter("11_qformer_blip2"),
    Chapter("12_data"),
    Chapter("13_evaluation"),
    Chapter("14_debugging"),
    Chapter("15_efficient_finetuning"),
    Chapter("16_multi_image_video"),
    Chapter("17_real_models"),
    Chapter("18_capstone"),
    Chapter("19_resolution_and_coordinates"),
    Chapter("20_preferences_and_rewards"),
]
