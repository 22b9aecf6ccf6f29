import json
from dataclasses import replace

import pytest
from markupsafe import Markup
from plotly import graph_objects as go

from analysis.claims import Claim, Relative, Rule, Share, check_page, facts, mark, quoted, relative

AFTER = Claim("latency/agent_p95_s", "champion", 2.3, "challenge", 96)


def against(arm: str, value: float = 4.5) -> Relative:
    made = relative(AFTER, replace(AFTER, arm=arm, value=value))
    assert made is not None
    return made


def rules(page: str) -> list[Rule]:
    return [violation.rule for violation in check_page(page)]


@pytest.mark.parametrize(
    "html",
    [
        "<p>Latency fell by 48.9 %.</p>",
        "<p>Latency fell by 48.9&nbsp;%.</p>",
        "<p>Latency fell by <b>48.9</b> %.</p>",
        "<td>−48.9 % against incumbent on challenge, n = 96</td>",
        "<p>27 percent of the answers</p>",
        "<p>It is 2.3 times as fast.</p>",
        "<p>It costs half the price, as it is half as large.</p>",
        "<p>It answers below 2 s.</p>",
        '<p title="48.9 % faster">fast</p>',
        '<img alt="48.9 % faster">',
        "<script>show('48.9 % faster')</script>",
        "<text>48.9 %</text>",
        "<table><tr><th>change, %</th></tr><tr><td>48.9</td></tr></table>",
        "<table><tr><th>change in percent</th></tr><tr><td>48.9</td></tr></table>",
        '<style>p::after { content: "48.9 % faster" }</style>',
        '<meta name="quoted" content="8">48.9 %',
    ],
)
def test_a_figure_that_comes_from_no_claim_is_refused(html: str) -> None:
    assert set(rules(f"<body>{html}</body>")) == {Rule.UNMARKED}


@pytest.mark.parametrize(
    "html",
    [
        "<style>p { width: 100%; color: color-mix(in srgb, red 9%, white) }</style>",
        '<p style="width: 50%">wide</p>',
        "<script>element.style.width = '100%'</script>",
        "<p>The 95 % interval is from 1.2 to 1.4; confidence of 99 %.</p>",
        "<p><code>48.9 % faster</code> and <q>up 57.9 %</q></p>",
        "<p>trial 5 of 20, n = 96, latency/agent_p95_s &lt; 2.0</p>",
    ],
)
def test_what_is_no_statement_is_passed_over(html: str) -> None:
    assert rules(f"<body>{html}</body>") == []


def test_lines_are_told() -> None:
    page = "<html>\n<body>\n<p>fine</p>\n<p>48.9 % faster</p>\n</body></html>"
    assert [violation.line for violation in check_page(page)] == [4]


def table(*columns: list[Relative]) -> str:
    rows = ["".join(f"<td>{mark(claim)}</td>" for claim in row) for row in zip(*columns, strict=True)]
    return f"<table><tbody>{''.join(f'<tr><td>x</td>{row}</tr>' for row in rows)}</tbody></table>"


def test_a_column_has_one_baseline() -> None:
    ours, other = against("incumbent"), against("base", 3.0)
    assert rules(table([ours, ours])) == []
    assert rules(table([ours, ours], [other, other])) == []
    assert rules(table([ours, other])) == [Rule.MIXED]


def test_cells_that_span_columns_are_counted() -> None:
    wide = f'<tr><td colspan="2">{mark(against("base", 3.0))}</td><td>{mark(against("incumbent"))}</td></tr>'
    narrow = f"<tr><td>x</td><td>y</td><td>{mark(against('incumbent'))}</td></tr>"
    assert rules(f"<table>{wide}{narrow}</table>") == []


def test_a_ranking_and_a_sentence_have_one_baseline() -> None:
    ours, other = against("incumbent"), against("base", 3.0)
    listed = f"<li>{mark(ours)}</li><li>{mark(other)}</li>"
    assert rules(f"<ol>{listed}</ol>") == [Rule.MIXED]
    assert rules(f"<ul>{listed}</ul>") == []
    sentence = Markup("<p>It moves by {}, and the other by {}.</p>").format(ours, other)
    assert rules(sentence) == [Rule.MIXED]
    assert rules(Markup("<p>It moves by {}. The other by {}.</p>").format(ours, other)) == []


def test_a_baseline_has_one_value_on_a_page() -> None:
    page = f"<p>{mark(against('base'))}</p><p>{mark(against('base', 4.0))}</p>"
    assert rules(page) == [Rule.MOVED]


def test_words_and_facts_of_a_claim_are_one() -> None:
    page = str(mark(against("incumbent")))
    assert rules(page) == []
    assert rules(page.replace(">−48.9 %", ">−84.9 %")) == [Rule.MARKER, Rule.ARITHMETIC]
    assert rules(page.replace("on challenge, n = 96 (", "(")) == [Rule.MARKER]
    assert set(rules('<p><span data-claim="{}">−48.9 %</span></p>')) == {Rule.MARKER, Rule.UNMARKED}
    assert set(rules('<p><span data-claim="n">−48.9 %</span></p>')) == {Rule.MARKER, Rule.UNMARKED}


def test_a_claim_that_is_not_closed_is_read() -> None:
    page = str(mark(against("incumbent"))).removesuffix("</span>")
    assert rules(page) == []
    assert rules(f"{page}, and so 60 % cheaper") == [Rule.MARKER]


def test_words_and_sign_say_the_same() -> None:
    claim = mark(against("incumbent"))
    assert rules(f"<p>Latency is reduced: it changes by {claim}.</p>") == []
    assert rules(f"<p>Latency is up {claim}.</p>") == [Rule.DIRECTION]


def test_a_users_own_words_pass_as_a_whole() -> None:
    name = "top 10% faster"
    page = f"<head>{quoted([name, 'plain'])}</head><h1>{name}</h1>"
    assert rules(page) == []
    assert rules(page.replace("<h1>", "<h1>30% more, ")) == [Rule.UNMARKED]
    assert rules(f"<h1>{name}</h1>") == [Rule.UNMARKED]
    assert quoted(["plain"]) == ""


# Figures -------------------------------------------------------------------------------------------


def plot(figure: go.Figure) -> str:
    return f"<body>{figure.to_html(full_html=False, include_plotlyjs=False)}</body>"


def test_the_library_and_the_ticks_of_a_figure_are_passed_over() -> None:
    figure = go.Figure(go.Bar(x=[0.4], y=["lr"]))
    figure.update_xaxes(tickformat=".0%", ticktext=["40 %"], tickvals=[0.4])
    assert rules(figure.to_html(include_plotlyjs=True)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"title": "48.9 % faster"},
        {"annotations": [{"text": "−48.9 %", "x": 0, "y": 0}]},
        {"xaxis": {"title": "48.9 % of it"}},
    ],
    ids=str,
)
def test_the_words_of_a_figure_are_read(change: dict[str, object]) -> None:
    figure = go.Figure(go.Bar(x=[0.4], y=["lr"]), change)
    assert rules(plot(figure)) == [Rule.UNMARKED]


def test_percentages_of_a_figure_come_from_its_claims() -> None:
    share = Share(0.4, "the explained variation of quality/score", "the sweep's trials", 20)
    held = {"claims": [facts(share)]}
    bar = {"x": [0.4], "y": ["lr"], "text": [share.short], "hovertext": [str(share)]}
    assert rules(plot(go.Figure(go.Bar(**bar, meta=held)))) == []
    assert rules(plot(go.Figure(go.Bar(**bar)))) == [Rule.UNMARKED, Rule.UNMARKED]
    assert rules(plot(go.Figure(go.Bar(**{**bar, "text": ["60 %"]}, meta=held)))) == [Rule.UNMARKED]
    assert rules(plot(go.Figure(go.Bar(**bar, meta={"claims": [facts(replace(share, n=None))]})))) == [
        Rule.N,
        Rule.UNMARKED,
    ]
    assert rules(plot(go.Figure(go.Bar(**bar, meta={"claims": [{}]})))) == [Rule.MARKER]


def test_a_figure_has_one_baseline_and_it_has_one_value_on_the_page() -> None:
    def bar(claim: Relative) -> go.Bar:
        return go.Bar(x=[claim.percent], y=["x"], meta={"claims": [facts(claim)]})

    ours, other, moved = against("incumbent"), against("base", 3.0), against("base", 4.0)
    assert rules(plot(go.Figure([bar(ours), bar(ours)]))) == []
    assert rules(plot(go.Figure([bar(ours), bar(other)]))) == [Rule.MIXED]
    assert rules(plot(go.Figure(bar(other))) + plot(go.Figure(bar(other)))) == []
    assert rules(plot(go.Figure(bar(other))) + plot(go.Figure(bar(moved)))) == [Rule.MOVED]


def test_a_placeholder_that_prints_a_percentage_is_one() -> None:
    bar = {"x": [0.4], "y": ["lr"]}
    assert rules(plot(go.Figure(go.Bar(**bar, hovertemplate="%{y}: %{x:.3g}")))) == []
    assert rules(plot(go.Figure(go.Bar(**bar, hovertemplate="%{y}: %{x:.1%}")))) == [Rule.UNMARKED]


def test_a_script_that_only_begins_like_the_library_is_read() -> None:
    script = "/**\n* plotly.js v3.0.0\n*/\n"
    assert rules(f"<script>{script}</script>") == []
    assert rules(f"<script>let x = 1; {script} say('48.9 % faster')</script>") == [Rule.UNMARKED]


def test_facts_in_a_page_are_json() -> None:
    page = str(mark(against("incumbent")))
    held = Markup(page.split('data-claim="')[1].split('"')[0]).unescape()
    assert json.loads(held)["baseline"]["value"] == 4.5
