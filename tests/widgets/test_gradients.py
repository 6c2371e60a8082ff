import math
from collections import namedtuple

import pytest

from tests.widgets import picture_of
from vlmcourse.widgets.gradients import FIELDS, GradientFlow, powers

Row = namedtuple("Row", FIELDS)
ROWS = [
    Row("eye", 1000, 0, 0, 70.0, 0, 0),
    Row("projector", 200, 200, 0.5, 10.0, 0.05, 0.02),
    Row("block", 300, 0, 0, 20.0, 0, 3.0),
    Row("head", 0, 0, 0, 0, 0, 0.4),
]


def test_one_scale_covers_bars_and_lines():
    assert GradientFlow(ROWS).ranges == {"gradient": [-2, 1], "weight": [0, 2], "ratio": [-2, -1]}


@pytest.mark.parametrize(
    ("values", "ends"), [([0.02, 3.0], [-2, 1]), ([1.0], [-1, 1]), ([0.0], [-1, 1]), ([2e-9], [-9, -8])]
)
def test_ends_are_whole_powers_with_room_at_both_sides(values, ends):
    assert powers(values) == ends


def test_the_picture_follows_the_view_and_tells_what_is_frozen():
    flow = GradientFlow(ROWS)
    first = flow.static_figure()
    assert first.alt == (
        "Gradient norm: eye frozen, no gradient comes here; projector 0.5; "
        "block frozen, passes on 3; head without parameters, passes on 0.4"
    )
    second = picture_of(flow, measure="weight")
    assert second.alt == "Weight norm: eye 70; projector 10; block 20; head 0" and second.data != first.data


def test_the_picture_shows_every_norm_on_the_scale_of_its_measure():
    axes = GradientFlow(ROWS).static_figure().figure.axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim() == pytest.approx((0.01, 10))
    hatched = {round(bar.get_x() + bar.get_width() / 2) for bar in axes.patches if bar.get_hatch()}
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in axes.patches if not bar.get_hatch()}
    assert hatched == {0, 2, 3} and set(bars) == {1}  # frozen parts, and the one that is trained
    assert bars[1].get_y() + bars[1].get_height() == pytest.approx(0.5)
    reach = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert reach[1:] == [0.02, 3.0, 0.4] and math.isnan(reach[0])
    weights = picture_of(GradientFlow(ROWS), measure="weight").figure.axes[0]
    assert not weights.lines and sum(not bar.get_hatch() for bar in weights.patches) == 3


def test_mappings_are_taken():
    assert GradientFlow([row._asdict() for row in ROWS]).parts == [row._asdict() for row in ROWS]


def test_many_parts_and_names_of_any_kind_make_a_picture():
    many = [ROWS[1]._replace(name=f"$<b>{n}</b>") for n in range(40)]
    assert GradientFlow(many).static_figure().data.startswith(b"\x89PNG")


def test_it_shows_what_the_report_says():
    torch = pytest.importorskip("torch")
    from vlmcourse.diagnostics.gradients import gradient_report

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2).requires_grad_(False))
    rows = gradient_report(
        model, lambda model: model(torch.ones(5, 3)).square().mean(), {"first": "0", "second": "1"}
    )
    assert repr(GradientFlow(rows)) == "GradientFlow(2 parts, 1 trained)"
    assert "second frozen, passes on" in GradientFlow(rows).static_figure().alt


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("eye", 1)], r"a row has the fields name, parameters.* got \('eye', 1\)"),
        ([], "0 parts; 1 to 40"),
        ([ROWS[1]._replace(gradient=float("nan"))], "part 'projector' has gradient=nan, expected a norm"),
        ([ROWS[1]._replace(weight=-1)], "weight=-1"),
        ([ROWS[1]] * 41, "41 parts; 1 to 40"),
    ],
)
def test_bad_input_is_named_with_its_numbers(rows, message):
    with pytest.raises(ValueError, match=message):
        GradientFlow(rows)
