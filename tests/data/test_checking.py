"""A folder is looked at before a training: what would stop it is said, with what to do."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vlmcourse.data import checking
from vlmcourse.data.chat import encode
from vlmcourse.data.checking import check_folder, fingerprint, right_by_habit, token_counts, write_page
from vlmcourse.data.own import open_pictures
from vlmcourse.data.records import Record


def noise(seed, side=80):
    """A picture like no other."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side))


def row(image, instruction="What is it?", output="A cat."):
    return dict(image=image, instruction=instruction, output=output)


@pytest.fixture
def folder(tmp_path):
    """Four pictures, a row about each, no test file."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(4):
        noise(number).save(data / f"{number}.png")
    write(data, *[row(f"{number}.png", f"What is number {number}?") for number in range(4)])
    return data


def write(folder, *rows, name="train.jsonl"):
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in rows))


def add(folder, *rows, name="train.jsonl"):
    with open(folder / name, "a") as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)


def finding(checkup, what):
    return next(one for one in checkup.findings if one.what == what)


def test_a_good_folder_can_be_trained_on(folder):
    found = check_folder(folder)
    assert not found.stops and {one.state for one in found.findings} == {"ok"}
    assert found.next_steps() == ["Nothing to mend: this folder can be trained on."]
    assert finding(found, "rows").found == "4 in train.jsonl, about 4 pictures"
    assert finding(found, "picture sizes").found == "shorter edge 80 to 80 pixels, half of them 80 or more"
    assert finding(found, "left out of train.jsonl").found == "none"
    assert finding(found, "leakage").found == "there is no test file to compare with"
    assert finding(found, "answers by habit").found == "no question is asked twice" and found.skips == []
    assert found.table()[0] == ["rows", "4 in train.jsonl, about 4 pictures", "ok"]


def test_tokens_are_those_that_are_trained_on(folder):
    records = open_pictures(folder).records * 20
    counts = token_counts(records, image_tokens=16)
    assert counts == [int(encode([record.turns], 16).mask.sum()) for record in records]
    assert token_counts([]) == []


def test_rows_that_do_not_fit_stop(folder):
    longest = max(token_counts(open_pictures(folder).records))
    fits = check_folder(folder, context=longest)
    assert (
        not fits.stops and f"the longest {longest} of {longest}, 64 of them" in finding(fits, "tokens").found
    )
    found = check_folder(folder, context=longest - 1)
    assert found.stops and finding(found, "tokens").state == "stop"
    assert (
        found.next_steps()[0].startswith("Shorten ") and "; 4 rows too long" in finding(found, "tokens").found
    )
    assert not check_folder(folder, context=longest - 48, image_tokens=16).stops


def test_what_stops_a_training_is_to_do_first(folder):
    noise(9, side=20).save(folder / "9.png")
    add(folder, row("9.png"), row("9.png"))
    steps = check_folder(folder, context=66).next_steps()
    assert [step.split()[0] for step in steps] == ["Shorten", "Take", "Take"]


def test_rows_left_out_are_shown_and_too_many_stop(folder):
    add(folder, row("no.png"), row("../x.png"))
    found = check_folder(folder)
    left_out = finding(found, "left out of train.jsonl")
    assert found.stops and left_out.state == "stop" and left_out.found.startswith("2 rows, 33.3%: ")
    assert "picture is missing" in left_out.found and "1.0% of its rows may be left out" in left_out.todo
    assert [line[:2] for line in found.skips] == [
        ["picture is missing", "1"], ["picture lies outside the folder", "1"]]  # fmt: skip
    assert found.skips[0][2] == "train.jsonl, row 5: there is no file 'no.png'"
    fine = check_folder(folder, most_skipped=0.4)
    assert not fine.stops and finding(fine, "left out of train.jsonl").state == "look"
    assert fine.next_steps() == ["Look at the rows that were left out of train.jsonl."]


def test_small_pictures_are_said(folder):
    noise(9, side=63).save(folder / "9.png")
    noise(10, side=64).save(folder / "10.png")
    add(folder, row("9.png"), row("10.png", "What?"))
    sizes = finding(check_folder(folder), "picture sizes")
    assert sizes.state == "look" and sizes.found.startswith("shorter edge 63 to 80 pixels")
    assert sizes.todo.startswith("Take 1 picture from a larger original: below 64 pixels")


def test_duplicates_are_counted_once_each(folder):
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    noise(0).save(folder / "copy.bmp")  # the same pixels in another file
    brighter = Image.fromarray((np.asarray(noise(0)) * 0.9).astype(np.uint8))
    brighter.save(folder / "brighter.png")
    add(folder, *[row(name, f"Which {name}?") for name in ("copy.png", "copy.bmp", "brighter.png")])
    found = check_folder(folder)
    twice = finding(found, "duplicate pictures")
    assert twice.state == "look" and twice.found == "2 the same, 1 more that look alike" and not found.stops
    assert finding(found, "repeated rows") == checking.DataFinding("repeated rows", "0")


def test_rows_that_say_the_same_twice_are_counted(folder):
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    same = "What is number 0?"
    add(folder, row("0.png", same), row("copy.png", same), row("0.png", same, "A dog."))
    again = finding(check_folder(folder), "repeated rows")
    assert again.found == "2" and again.state == "look" and again.todo.startswith("Take out 2 rows: ")


def test_test_pictures_that_are_trained_on_stop(folder):
    noise(0).save(folder / "copy.bmp")
    noise(7).save(folder / "new.png")
    Image.fromarray((np.asarray(noise(1)) * 0.9).astype(np.uint8)).save(folder / "brighter.png")
    write(folder, row("new.png"), name="test.jsonl")
    fine = check_folder(folder)
    assert not fine.stops and finding(fine, "leakage").found.startswith(
        "of 1 test picture 0 are trained on, 0"
    )
    add(folder, row("brighter.png"), name="test.jsonl")
    near = finding(check_folder(folder), "leakage")
    assert (
        near.state == "look"
        and "0 are trained on, 1 more look alike" in near.found
        and "brighter.png" in near.todo
    )
    add(folder, row("copy.bmp"), name="test.jsonl")
    found = check_folder(folder)
    leak = finding(found, "leakage")
    assert found.stops and leak.state == "stop" and "1 are trained on, 1 more look alike" in leak.found
    assert "copy.bmp" in leak.todo and found.next_steps()[0] == leak.todo


def test_the_rows_of_the_test_are_looked_at_as_well(folder):
    noise(7).save(folder / "new.png")
    write(folder, row("new.png", "why " * 3000), row("no.png"), name="test.jsonl")
    found = check_folder(folder)
    assert (
        finding(found, "left out of test.jsonl").state == "stop" and "test.jsonl, row 2" in found.skips[0][2]
    )
    assert finding(found, "tokens").state == "stop" and len(found.tokens) == 5


def test_habit_is_what_other_rows_say():
    assert right_by_habit(Counter(yes=3)) == 3 and right_by_habit(Counter(yes=1, no=1)) == 0
    assert right_by_habit(Counter(yes=3, no=1)) == 3
    assert right_by_habit(Counter(yes=2, no=1)) == 1  # to each yes, the others are a draw
    assert right_by_habit(Counter(a=1, b=1, c=1)) == 0 and right_by_habit(Counter(a=5, b=5)) == 0


def test_questions_answered_by_habit_are_said(folder):
    rows = [row("0.png", "Is it red?", said) for said in ("yes", "yes", "Yes", "no", "yes")]
    rows += [row("1.png", "is it RED?", "yes")]
    write(folder, *rows, row("2.png", "Why?"), row("3.png", "What?"))
    habit = finding(check_folder(folder), "answers by habit")
    assert (
        habit.state == "look" and habit.found == "right to 83% of 6 questions that are asked more than once"
    )
    write(folder, *[row(f"{n}.png", "Is it red?", said) for n, said in enumerate(("yes", "no", "yes", "no"))])
    assert finding(check_folder(folder), "answers by habit").state == "ok"


def test_one_instruction_with_one_answer_is_no_habit_to_balance(folder):
    write(folder, *[row(f"{n}.png") for n in range(4)])
    assert finding(check_folder(folder), "answers by habit").state == "ok"


def test_a_fingerprint_is_that_of_what_a_model_sees(folder):
    one, other = (fingerprint(record) for record in open_pictures(folder).records[:2])
    assert one.exact != other.exact and one.looks.shape == (64,) and (one.looks != other.looks).sum() > 8


class Reader(HTMLParser):
    """All tags and texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.links = Counter(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_stands_alone_and_shows_texts_as_texts(tmp_path, folder):
    evil = "<script>alert(1)</script>.png"
    add(folder, row(evil))
    path = write_page(check_folder(folder), tmp_path / "deep" / "report.html")
    page = path.read_text(encoding="utf-8")
    read = Reader(page)
    said = "".join(read.texts)
    assert (
        not read.links and not {"script", "link", "img", "iframe"} & set(read.tags) and "http://" not in page
    )
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
    assert evil in said and "A training would stop here" in said and "Mend train.jsonl" in said
    assert "left out of train.jsonl" in said and read.tags["table"] == 3 and str(folder) in said
    assert [*path.parent.iterdir()] == [path]


def test_the_page_of_a_good_folder_says_so_and_counts_every_row(tmp_path, folder):
    add(folder, row("0.png", "why " * 200))
    found = check_folder(folder)
    said = Reader(write_page(found, tmp_path / "a.html").read_text())
    assert "This folder can be trained on" in "".join(said.texts) and said.tags["table"] == 2
    counts = re.findall(r"<td>(\d+) to (\d+)</td><td>(\d+)</td>", (tmp_path / "a.html").read_text())
    assert (
        sum(int(count) for *_, count in counts) == 5 and "width:100.0%" in (tmp_path / "a.html").read_text()
    )
    for low, high, count in counts:
        assert int(count) == sum(int(low) <= tokens <= int(high) for tokens in found.tokens)


def test_a_name_that_is_no_text_can_be_shown(tmp_path):
    found = checking.Checkup(
        tmp_path / "a\udcff", [checking.DataFinding("rows", "1 in b\udcff")], [], [7], 2048
    )
    assert "rows" in write_page(found, tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_name_of_a_folder_is_shown_as_text(tmp_path):
    found = checking.Checkup(tmp_path / "a<b>", [checking.DataFinding("rows", "1")], [], [7], 2048)
    page = write_page(found, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "a&lt;b&gt;" in page and "<b>" not in page


def test_every_picture_is_opened_once(folder, monkeypatch):
    add(folder, row("0.png", "Who?"), row("0.png", "Why?"))
    opened = Counter()
    original = Record.load

    def load(record, side=64):
        opened[record.image] += 1
        return original(record, side)

    monkeypatch.setattr(Record, "load", load)
    check_folder(folder)
    assert opened == {f"{number}.png": 1 for number in range(4)}


def test_the_shorter_edge_of_a_picture_counts(folder):
    noise(9).resize((90, 70)).save(folder / "9.png")
    noise(10).resize((66, 99)).save(folder / "10.png")
    add(folder, row("9.png", "Who?"), row("10.png", "Why?"))
    found = finding(check_folder(folder), "picture sizes").found
    assert found == "shorter edge 66 to 80 pixels, half of them 80 or more"


def test_as_many_rows_as_allowed_may_be_left_out(folder):
    add(folder, row("no.png"))
    found = finding(check_folder(folder, most_skipped=0.2), "left out of train.jsonl")
    assert found.found == "1 row, 20.0%: picture is missing" and found.state == "look"


def test_habit_is_said_above_60_in_a_hundred(folder):
    rows = [row(f"{number}.png", "Is it red?", "yes") for number in range(3)]
    rows += [row(f"{number}.png", "What?", said) for number, said in enumerate(("cat", "dog"))]
    write(folder, *rows)
    habit = finding(check_folder(folder), "answers by habit")
    assert habit.state == "ok"
    assert habit.found == "right to 60% of 5 questions that are asked more than once"


def test_bars_are_12_at_most_and_do_not_overlap():
    bars = checking._html_bars([10, 12, 13, 34])  # 25 values: 9 ranges of 3 hold them
    said = re.findall(r"<td>(\d+) to (\d+)</td><td>(\d+)</td>", bars)
    assert (
        said[:2] == [("10", "12", "2"), ("13", "15", "1")]
        and said[-1] == ("34", "36", "1")
        and len(said) == 9
    )


def test_leaked_pictures_are_named_in_order(folder):
    rows = [row(f"{number}.png") for number in (2, 0, 3, 1)]
    write(folder, *rows, name="test.jsonl")
    todo = finding(check_folder(folder), "leakage").todo
    assert todo == "Take 4 test pictures out of training, or out of the test (0.png, 1.png, 2.png …)."
