"""The table of contents: every chapter of the course, finished or to come."""

from typing import NamedTuple


class Chapter(NamedTuple):
    """One chapter.

    Attributes:
        name: of the notebook file, without its ending.
        builds: what the learner builds.
        minutes: a learner needs.
        gpu: "no" if two CPU cores are enough, "faster" if a GPU helps.
        ready: whether the notebook is here.
    """

    name: str
    builds: str
    minutes: int
    gpu: str = "no"
    ready: bool = True


CHAPTERS = [
    Chapter("00_start_here", "your first checked function, beside a VLM to play with", 30),
    Chapter("01_the_problem", "a model that answers without looking, and the test that exposes it", 60),
    Chapter("02_vit", "a Vision Transformer, and an explorer for its attention", 90),
    Chapter("03_cnn_vs_vit", "ResNet and EfficientNet blocks, measured against a ViT", 75),
    Chapter("04_clip", "CLIP: two towers, InfoNCE, zero-shot and retrieval", 90),
    Chapter("05_language_models", "LLaMA, GPT, BERT and T5 from one attention core", 90),
    Chapter("06_fusion", "late fusion, cross-attention and token injection, compared", 75),
    Chapter("07_projection_and_alignment", "the projector, and stage 1 of LLaVA", 75),
    Chapter("08_instruction_tuning", "a VLM that answers questions and follows instructions", 90, "faster"),
    Chapter("09_flamingo", "perceiver resampler and gated cross-attention", 90, "faster", ready=False),
    Chapter("10_blip", "ITC, ITM, captioning and CapFilt", 90, "faster", ready=False),
    Chapter(
        "11_qformer_blip2", "the Q-Former in two stages, and MiniGPT-4's recipe", 90, "faster", ready=False
    ),
    Chapter("12_data", "filters, balance and de-duplication, with their effect", 75, ready=False),
    Chapter("13_evaluation", "VQA accuracy, BLEU, CIDEr, Recall@K and a report card", 75, ready=False),
    Chapter("14_debugging", "the tools that repair ten broken training runs", 90, ready=False),
    Chapter(
        "15_efficient_finetuning", "LoRA, NF4, checkpointing and a memory ledger", 75, "faster", ready=False
    ),
    Chapter(
        "16_multi_image_video", "several images, video, M-RoPE and location tokens", 75, "faster", ready=False
    ),
    Chapter("17_real_models", "your code with pretrained parts, opened in transformers", 90, "faster"),
    Chapter("18_capstone", "your own VLM, trained, measured and exported", 120, "faster", ready=False),
]
