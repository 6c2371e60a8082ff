"""The command line: ``vlmcourse lab``, ``doctor``, ``progress``; for models ``ask``, ``train``, ``estimate``,
``diagnose``, ``evaluate``, ``export``; for data ``check``.

Every command imports what it needs when it runs, so that ``vlmcourse --help`` answers at once.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from typer import Argument, Option

from vlmcourse.terminal import (
    explained,
    is_first_process,
    printable,
    quoted,
    refuse_old_folder,
    refuse_place,
    refuse_places,
    show,
)

app = typer.Typer(no_args_is_help=True, add_completion=False)

FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"  # workbook.opening.FIRST, which takes too long to load
MOST_ALLOWED = 0.01  # data.records.MOST_SKIPPED; that room takes too long to load for --help
LOOPBACK = "127.0.0.1"
MY_VLM = "my_vlm"  # the model that my_vlm/vlm.toml plans
OWN_START = "smollm-scenes"  # which model learns from a person's own pictures
MostSkipped = Annotated[float, Option(min=0, max=1, help="Share of rows that may be left out.")]
Model = Annotated[str, Option(help="A shipped model, my_vlm, or a .safetensors file.")]


def _tell_version(asked: bool) -> None:
    if asked:
        import vlmcourse

        typer.echo(f"vlmcourse {vlmcourse.__version__}")
        raise typer.Exit


VersionAsked = Annotated[
    bool, Option("--version", callback=_tell_version, is_eager=True, help="Print the version.")
]


@app.callback()
def _begin(version: VersionAsked = False) -> None:
    """Build a vision-language model yourself."""


@app.command()
def lab(
    notebook: Annotated[str, Argument(help="Which notebook to open first.")] = FIRST_NOTEBOOK,
    browser: Annotated[bool, Option(help="Open a browser window.")] = True,
    reference: Annotated[bool, Option(help="Let references stand in for open exercises.")] = True,
    host: Annotated[str, Option(help="Address to listen on; in a container 0.0.0.0.")] = LOOPBACK,
) -> None:
    """Open the notebooks in JupyterLab; unless --host says otherwise, reachable from this computer only."""
    from vlmcourse.workbook.opening import opened_folder
    from vlmcourse.workbook.serving import can_open_a_browser, free_port, run_server, server_command

    with explained():
        root = opened_folder().resolve()
    path = (root / notebook).resolve()
    if not path.is_relative_to(root):
        typer.echo(printable(f"{notebook} lies outside the course; name a file in {root}"), err=True)
        raise typer.Exit(1)
    if not path.is_file():
        typer.echo(printable(f"There is no {path}. {_notebooks_in(root)}"), err=True)
        raise typer.Exit(1)
    notebook = quote(path.relative_to(root).as_posix())
    with explained():
        port, token = free_port(host), secrets.token_urlsafe(24)
    opens = browser and can_open_a_browser()
    address = "" if opens else " Open this address in a browser:"
    typer.echo(printable(f"JupyterLab starts in {root}. Ctrl-C here stops it.{address}"))
    typer.echo(f"  http://{LOOPBACK if host == '0.0.0.0' else host}:{port}/lab/tree/{notebook}?token={token}")
    rule = {} if reference else {"VLMCOURSE_REFERENCE": "0"}
    environment = {**os.environ, **rule, "JUPYTER_TOKEN": token}  # no argument: other users can read those
    raise typer.Exit(run_server(server_command(root, notebook, port, opens, host), environment))


def _notebooks_in(root: Path) -> str:
    """A sentence that names the notebooks of a folder, or how they are made."""
    there = [path.relative_to(root).as_posix() for path in sorted(root.glob("notebooks/*.ipynb"))]
    return f"There are {', '.join(there)}." if there else "Has `make notebooks` built the notebooks?"


@app.command()
def doctor() -> None:
    """Versions, device, memory, and the exact command that mends what is missing."""
    from vlmcourse import workbook

    card = workbook.doctor()
    show(*card.table)
    if card.kind == "wrong":
        raise typer.Exit(1)


@app.command()
def progress(export: Annotated[Path | None, Option(help="Write it as .json, too.")] = None) -> None:
    """How far you are: one row per chapter."""
    from vlmcourse import workbook
    from vlmcourse.workbook.lesson import export_progress
    from vlmcourse.workbook.portfolio import nothing_yet

    with explained():
        refuse_places({".json": export})
    show(*workbook.progress().table)
    with explained():
        if nothing := nothing_yet():
            typer.echo(printable(nothing))
        if export:
            typer.echo(printable(f"{export_progress(export)}"))


@app.command()
def submit(
    name: Annotated[str, Option(help="Whose work it is.")] = "",
    to: Annotated[Path | None, Option(help="The .zip to write.", show_default="submission-NAME.zip")] = None,
) -> None:
    """Write the zip to hand in: your answers, right or not yet, your diary, and versions of what ran them."""
    from vlmcourse.workbook.submission import usual_file, write_submission

    with explained():
        made = write_submission(to or Path(usual_file(name)), name)
    passed = len(made.answers) - len(made.attempts)
    counts = f"{passed} passed, {len(made.attempts)} not yet"
    written = f"written: {to or made.file} by {made.name}, {counts}"
    typer.echo(printable(f"{written}; give this file to your teacher"))


@app.command("grade")
def grade_class(
    folder: Annotated[Path, Argument(help="Holds the .zip of each person.")],
    to: Annotated[Path, Option(help="A new folder for tables and pages.")] = Path("grades"),
    seed: Annotated[int, Option(min=0, help="Of the cases; 0 draws one, and tells it.")] = 0,
    chapter: Annotated[list[str] | None, Option(help="What counts, such as 02; all without it.")] = None,
    processes: Annotated[int, Option(min=1, help="Submissions that are graded at once.")] = 2,
) -> None:
    """Check all answers of a class again, on other cases: grades.csv, and a page for each person."""
    from vlmcourse.workbook.classroom import grade_folder, slots_of_chapters
    from vlmcourse.workbook.gradebook import refuse_there, seed_line, write_book

    with explained():
        refuse_there(to)  # before minutes of grading
        refuse_place(to)
        slots, seed = slots_of_chapters(chapter or []), seed or secrets.randbelow(10**6) + 1000
        typer.echo(seed_line(seed))
        write_book(grade_folder(folder, seed, slots, processes, tell=typer.echo), to, seed)
    typer.echo(printable(f"{to}: grades.csv, answers.csv, exercises.csv, identical.csv, seed.txt, pages/"))


@app.command()
def ask(
    image: Annotated[
        Path, Argument(help="A picture, PNG or JPEG; the middle square, but nano-native takes all of it.")
    ],
    question: Annotated[str, Argument(help='Such as "What colour is the circle?" or "Describe the image."')],
    model: Model = "nano-vlm",
    blind: Annotated[bool, Option("--blind", help="Ask about a grey picture instead.")] = False,
) -> None:
    """Ask a vision-language model about a picture."""
    from vlmcourse.data.photos import load_picture, load_whole
    from vlmcourse.diagnostics.alternatives import look_and_answer
    from vlmcourse.families.making import load_speaker
    from vlmcourse.speak import blinded

    with explained():
        if not question.strip():
            raise ValueError('the question is empty; ask such as "How many things are there?"')
        if model == MY_VLM:
            _use_my_code()
        vlm, _ = load_speaker(model)
        picture = load_whole(image) if vlm.any_size else load_picture(image)
        picture = blinded(picture) if blind else picture
        looked, foreign = look_and_answer(vlm, picture, question), vlm.foreign(picture[None]).item()
    typer.echo(printable(looked["answer"]))
    rows = [[printable(text), f"{share:.1%}", "█" * round(30 * share)] for text, share in looked["choices"]]
    show(["answer", "probability", ""], rows)
    if looked["attention"] is not None:  # some families look at pictures elsewhere than among the words
        typer.echo(f"Attention on the picture: {looked['attention'].sum():.0%}, the rest on words.")
    if foreign:
        typer.echo("This picture is unlike those that the model learned from: it may be answering by habit.")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C ends a training with a line that says what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:  # without a text before the training had a folder
        if is_first_process():
            said = str(stop) or "stopped before its first step; nothing is lost"
            typer.echo(printable(said), err=True)
        raise typer.Exit(130) from stop


@app.command()
@_stoppable()
def train(
    recipe: Annotated[str, Argument(help="Such as nano-vlm, or my_vlm; a wrong name lists all.")] = "",
    runs: Annotated[Path, Option(help="Where checkpoints and the result go.")] = Path("runs"),
    until: Annotated[str, Option(help="Last stage, if not all: for nano-vlm eye, words or aligned.")] = "",
    steps: Annotated[int, Option(min=0, help="Steps of each stage; 0 takes those of the recipe.")] = 0,
    fresh: Annotated[bool, Option("--fresh", help="Throw away checkpoints of earlier runs.")] = False,
    data: Annotated[Path | None, Option(help="With `train own`: the folder of your pictures.")] = None,
    start: Annotated[
        str, Option(help="With `train own`: which model learns from them.", show_default=OWN_START)
    ] = "",
    most_skipped: MostSkipped = MOST_ALLOWED,
    config: Annotated[Path | None, Option(help="A plan of yours, as my_vlm/vlm.toml is one.")] = None,
    fastest: Annotated[
        bool, Option("--fastest", help="Try whether compiled is faster here, for minutes; then train so.")
    ] = False,
) -> None:
    """Train a recipe of the course; `own`, a model on your pictures; or `my_vlm`, the model that
    my_vlm/vlm.toml plans, with your code. A run that was broken off goes on.
    `accelerate launch -m vlmcourse train ...` uses several GPUs."""
    with explained():
        refuse_place(runs / "checkpoint")  # before minutes of preparing
    own_options = {"--data": data, "--start": start, "--most-skipped": most_skipped != MOST_ALLOWED}
    if recipe == "own":
        with explained():
            if until:
                raise ValueError("`train own` has one stage; leave --until away")
        return _train_own(data, start or OWN_START, runs, steps, fresh, most_skipped, fastest=fastest)
    with explained():
        if not recipe and config is None:
            raise ValueError("name a recipe such as nano-vlm, or my_vlm, or a plan with --config FILE")
        if recipe not in ("", MY_VLM) and config is not None:
            raise ValueError(f"--config is for plans; leave {recipe} or --config away")
    from vlmcourse.families.carrying import carry_out, train_plan
    from vlmcourse.families.making import can_be_asked
    from vlmcourse.recipes.book import find_recipe

    if recipe in ("", MY_VLM):
        with explained():
            _use_my_code()
            path = train_plan(config, runs, until, steps, fresh, typer.echo, fastest)
        if path is not None:
            name = MY_VLM if config is None else quoted(path)
            typer.echo(f"{printable(str(path))}\nAsk it:     vlmcourse ask PICTURE QUESTION --model {name}")
            typer.echo(f"Measure it: vlmcourse evaluate {name} --json report.json")
            typer.echo(f"Export it:  vlmcourse export FOLDER --model {name} --report report.json")
        return
    with explained():
        if given := [option for option, value in own_options.items() if value]:
            raise ValueError(f"{', '.join(given)}: only with `vlmcourse train own`, not with {recipe}")
        try:
            plan = find_recipe(recipe)
        except ValueError as error:
            yours = f"own, with --data, for your own pictures; and {MY_VLM}, for the plan in my_vlm/vlm.toml"
            raise ValueError(f"{error}; and {yours}") from error
        plan = plan.until(until) if until else plan
        plan = plan.short(steps) if steps else plan
        path = carry_out(plan, runs, fresh, plan.card(), typer.echo, fastest)
    if path is not None:  # as in all processes but the first
        typer.echo(f"{path}")
    if path is not None and not until and can_be_asked(plan):
        typer.echo(f'Ask it: vlmcourse ask PICTURE "Describe the image." --model {path}')


def _use_my_code() -> None:
    """Install what the learner passed, and say so."""
    from vlmcourse.families.mine import use_my_code

    installed, complaints = use_my_code()
    for line in [f"{len(installed)} functions of yours run, from my_vlm/.", *complaints]:
        typer.echo(printable(line), err=True)


def _train_own(
    data: Path | None, start: str, runs: Path, steps: int, fresh: bool, most_skipped: float, **more: bool
) -> None:
    """See train; what comes out is runs/own.safetensors."""
    from vlmcourse.families.carrying import told_if_stopped
    from vlmcourse.families.own_pictures import store_own, train_own

    with explained():
        if data is None:
            raise ValueError("name the folder of your pictures: vlmcourse train own --data FOLDER")
        if fresh and is_first_process():
            shutil.rmtree(runs / "own", ignore_errors=True)
        options = dict(checkpoint=runs / "own", resume=True, **more)
        options |= dict(most_skipped=most_skipped, tell=typer.echo if is_first_process() else None)
        with told_if_stopped({runs / "own": dict(recipe="own", start=start)}, fresh):
            speaker, history, card = train_own(data, start, steps, **options)
        if not is_first_process():
            return
        typer.echo(f"{start}, {card['own']['rows']} rows about {card['own']['pictures']} pictures: {history}")
        path = store_own(speaker, card, runs / "own.safetensors")
    allowed = "" if most_skipped == MOST_ALLOWED else f" --most-skipped {most_skipped:g}"
    typer.echo(printable(f"{path}"))
    typer.echo(f'Ask it:     vlmcourse ask PICTURE "..." --model {quoted(path)}')
    typer.echo(f"Measure it: vlmcourse evaluate {quoted(path)} --data {quoted(data)}{allowed}")
    typer.echo(f"Does it look? vlmcourse diagnose {quoted(path)} --data {quoted(data)}{allowed}")


@app.command()
def estimate(
    name: Annotated[str, Argument(help="A recipe, or llava-1.5-7b; without it, all of them.")] = "",
    gpus: Annotated[
        int | None, Option(help="Without it 1 for recipes, 8 for LLaVA.", show_default=False)
    ] = None,
    peak: Annotated[float, Option(help="TeraFLOP/s of a GPU; T4 65, L4 121, A100 312, H100 989.")] = 312.0,
    mfu: Annotated[float, Option(help="Share of it that is reached; small models reach less.")] = 0.45,
) -> None:
    """Memory and hours that a training will need, before it runs: a recipe's, or LLaVA-1.5-7B's."""
    from vlmcourse.families.estimating import COSTS, published_hours, table_of_costs

    with explained():
        show(COSTS, table_of_costs(name, gpus, peak, mfu))
    for line in published_hours(name):
        typer.echo(line)


@app.command()
def diagnose(
    name: Annotated[str, Argument(help="A shipped model, my_vlm, a .safetensors file, or a run's folder.")],
    data: Annotated[
        Path | None, Option(help="Ask about your own pictures; the course's scenes without it.")
    ] = None,
    most_skipped: MostSkipped = MOST_ALLOWED,
) -> None:
    """What may be wrong with a model or a run, and what to do; ends with code 1 if something may be."""
    from vlmcourse.families.diagnosing import diagnose_named

    with explained():
        if name == MY_VLM:
            _use_my_code()
        found = diagnose_named(name, data, most_skipped)
    if any(one.name.startswith("answers") for one in found):  # not where only losses are left of a run
        about = str(data) if data else "the course's scenes; --data FOLDER asks about yours"
        typer.echo(printable(f"Asked about {about}"))
    rows = [[one.name, f"{one.number:.3g}", one.verdict, "" if one.ok else one.remedy] for one in found]
    show(["check", "number", "verdict", "what to do"], rows)
    if not all(one.ok for one in found):
        raise typer.Exit(1)
    typer.echo("Nothing stands out.")


@app.command()
def export(
    folder: Annotated[Path, Argument(help="A new folder.")],
    model: Model = "nano-vlm",
    report: Annotated[
        Path | None, Option(help="What `vlmcourse evaluate --json` wrote of it, for its model card.")
    ] = None,
) -> None:
    """Write a folder that transformers opens: LlavaForConditionalGeneration, AutoProcessor, a model card.

    Of the course's models those that are a LLaVA, such as nano-vlm.
    """
    from vlmcourse.evaluation.report import read_report
    from vlmcourse.families.making import load_speaker
    from vlmcourse.interop.llava import CHAT_TEMPLATE, save_folder
    from vlmcourse.interop.modelcard import model_card
    from vlmcourse.models.lora import merge_lora

    with explained():
        refuse_old_folder(folder)
        measured = read_report(report) if report else None
        vlm, card = load_speaker(model)
        merge_lora(vlm.model)
        text = model_card(Path(model).stem, card, measured)
        words = vlm.words.tokenizer, vlm.words.template or CHAT_TEMPLATE
        save_folder(vlm.model, folder, *words, readme=text)
    classes = "LlavaForConditionalGeneration.from_pretrained and AutoProcessor.from_pretrained"
    typer.echo(printable(f"{folder}: {classes} open it"))
    typer.echo(f"Measure it: vlmcourse evaluate {quoted(folder)}")


@app.command()
def check(
    folder: Annotated[Path, Argument(help="Pictures, and a .jsonl or .csv of {image, instruction, output}.")],
    html: Annotated[Path | None, Option(help="Also write the report as one HTML file.")] = None,
    context: Annotated[int, Option(min=1, help="Tokens that the model can read at once.")] = 2048,
    image_tokens: Annotated[int, Option(min=1, help="Tokens that a picture takes.")] = 64,
    most_skipped: MostSkipped = MOST_ALLOWED,
) -> None:
    """Look at your own pictures before a training: unreadable files, duplicates, leakage, tokens."""
    from vlmcourse.data.checking import check_folder, write_page

    with explained():
        refuse_places({".html": html})
        options = dict(context=context, image_tokens=image_tokens, most_skipped=most_skipped)
        found = check_folder(folder, **options)
        show(["looked at", "found", "state"], [[printable(cell) for cell in row] for row in found.table()])
        if found.skips:
            rows = [[printable(cell) for cell in row] for row in found.skips]
            show(["left out because", "rows", "the first one"], rows)
        for number, step in enumerate(found.next_steps(), 1):
            typer.echo(printable(f"{number}. {step}"))
        if html is not None:
            typer.echo(printable(f"{write_page(found, html)}"))
    if found.stops:
        raise typer.Exit(1)
    typer.echo(f"Train on it: vlmcourse train own --data {quoted(folder)}")


@app.command()
def evaluate(
    model: Annotated[str, Argument(help="A shipped model, my_vlm, a .safetensors file, or a folder.")],
    data: Annotated[
        Path | None, Option(help="A folder of your own pictures; the course's scenes without it.")
    ] = None,
    count: Annotated[int, Option(min=8, help="Scenes for each kind of question.")] = 200,
    html: Annotated[Path | None, Option(help="Write the report as a page, too.")] = None,
    json: Annotated[Path | None, Option(help="Write the report as data, too.")] = None,
    most_skipped: MostSkipped = MOST_ALLOWED,
) -> None:
    """Measure a model: its answers with intervals, whether it looks, what it invents, what it costs."""
    from vlmcourse.data.assets import written_beside
    from vlmcourse.evaluation.report import HEADER
    from vlmcourse.families.report_card import load_answering, report_on_pictures, report_on_scenes

    with explained():
        refuse_places({".html": html, ".json": json})  # before minutes of measuring
        if model == MY_VLM:
            _use_my_code()
        answering = load_answering(model)
        report = (
            report_on_pictures(answering, model, data, most_skipped=most_skipped)
            if data
            else report_on_scenes(answering, model, count)
        )
    show(HEADER, [[printable(cell) for cell in row] for row in report.rows()])
    typer.echo(printable(f"Measured on {report.data}; more of them, narrower intervals."))
    for path, text in ((html, report.to_html), (json, report.to_json)):
        if path:
            with explained(), written_beside(path) as draft:
                draft.write_text(text(), encoding="utf-8")
            typer.echo(printable(f"{path}"))
    on_data = f" --data {quoted(data)}" if data else ""
    typer.echo(f"What is wrong inside it: vlmcourse diagnose {quoted(model)}{on_data}")
