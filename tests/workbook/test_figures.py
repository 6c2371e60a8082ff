"""Figures have one style and no paper of their own, so the page's theme shows; drawings are described."""

import re

import IPython.display
import matplotlib.pyplot as plt
import pytest
import torch

from vlmcourse.workbook import course_map, draw_mask, drawing, figure, figures, roles


@pytest.fixture
def page(monkeypatch):
    """The HTML of what was shown."""
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda output: shown.append(output._repr_html_()))
    return shown


def test_a_figure_needs_a_description_and_is_closed(capsys):
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    with pytest.raises(ValueError, match="needs a description"):
        figure(fig, alt=" ")
    figure(fig, alt="a line that rises")
    assert "[figure: a line that rises]" in capsys.readouterr().out
    assert not plt.get_fignums()


def test_a_figure_takes_ink_and_paper_from_the_page(page):
    with plt.rc_context():
        figures.plot_style()
        fig, axes = plt.subplots(figsize=(4, 2))
        axes.bar([0, 1], [1, 2], hatch="//", color=roles.first, label="two")
        axes.set(title="bars", xlabel="x")
        axes.legend(frameon=True, facecolor="white")
        figure(fig, alt='say "two" < 3')
    (html,) = page
    assert html.startswith('<svg role="img" aria-label="say &quot;two&quot; &lt; 3" width="420"')
    assert not re.search("#000000|#1f2933|#ffffff|<style|<script|<!DOCTYPE", html)
    assert "currentColor" in html and figures.BACKDROP in html and roles.first.lower() in html


@pytest.mark.parametrize("inches, pixels", [(7, 480), (2, 210)])
def test_on_a_phone_a_figure_scrolls_before_its_letters_are_lost(inches, pixels, page):
    fig, _ = plt.subplots(figsize=(inches, 1))
    figure(fig, alt="empty axes")
    assert f"max-width:100%;min-width:{pixels}px;height:auto" in page[0]


@pytest.mark.parametrize("draw", [lambda: drawing("vit"), lambda: course_map("language"), course_map])
def test_drawings_have_no_white_paper_and_no_fixed_ink(draw, page):
    draw()
    assert not re.search("#1f2933|#52606d|#ffffff|#e6f0ec|<style", page[0])
    assert 'fill="currentColor"' in page[0] and 'aria-label="' in page[0]


def test_the_course_map_lights_one_part(capsys, page):
    course_map("vision")
    course_map()
    assert page[0].count('stroke="#D55E00"') == 1 and 'stroke="#D55E00"' not in page[1]
    assert page[0].index('id="vision"') < page[0].index('stroke="#D55E00"') < page[0].index('id="connector"')
    assert "with the vision part lit" in page[0] and "lit" not in page[1]
    with pytest.raises(ValueError, match="no part 'eyes'"):
        course_map("eyes")


def test_a_drawing_says_what_it_shows(capsys):
    drawing("fusion")
    assert "after every block, words look at the image" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no drawing 'fission'; there are architecture, blip, clip"):
        drawing("fission")


def test_cells_that_may_not_be_seen_are_hatched():
    axes = plt.figure().subplots()
    draw_mask(axes, torch.tensor([[True, False, False], [True, True, False]]), ["red", "blue", "red"])
    cells = {cell.get_xy(): (cell.get_hatch(), cell.get_facecolor()[::2]) for cell in axes.patches}
    assert {place for place, (hatch, _) in cells.items() if hatch} == {(1, 0), (2, 0), (2, 1)}
    assert cells[0, 0][1] == (1, 0) and cells[1, 1][1] == (0, 1)  # red and blue
    assert axes.get_ylim() == (2, 0)  # queries from top to bottom
    plt.close()


def test_plots_have_the_courses_colours_no_clutter_and_nine_points():
    with plt.rc_context():
        figures.plot_style()
        style = plt.rcParams
        colours = [roles.learned, roles.first, roles.second, roles.control]
        assert style["axes.prop_cycle"].by_key()["color"] == colours
        assert not (style["axes.spines.top"] or style["axes.spines.right"] or style["legend.frameon"])
        assert (style["font.size"], style["axes.titlesize"], style["axes.labelsize"]) == (9, 10, 9)
        assert style["legend.fontsize"] == 9 and style["axes.facecolor"] == "none"
        assert (style["figure.dpi"], style["image.cmap"], style["text.color"]) == (110, "cividis", "#1f2933")


def test_each_role_has_a_colour_of_its_own():
    colours = vars(roles).values()
    assert len(set(colours)) == len(colours) == 9
