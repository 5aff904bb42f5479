"""What is drawn, as a page carries it: plain words, ids of its own."""

import re

from pipeline.pages import svg_chart


def test_names_are_words_and_no_formulas_also_on_a_logarithmic_axis(drawn):
    def draw(axes):
        axes.plot([1e-4, 1.0], [0.0, 1.0], label="$x$ finding")
        axes.set(xscale="log")
        axes.legend()

    svg = svg_chart.render("curve", (4.0, 3.0), draw)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert "0.001" in texts and "1" in texts and "$x$ finding" in texts
    assert not any("math" in text for text in texts)


def test_two_charts_of_a_page_share_no_id(drawn):
    first, second = (svg_chart.render(name, (4.0, 3.0), lambda axes: axes.plot([0, 1], [1, 0])) for name in "ab")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
