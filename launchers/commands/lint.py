"""``podium lint``."""

from pathlib import Path
from typing import Annotated

import typer

from sweeps.errors import InvalidInput, Problem

_PAGES = (".html", ".htm")


def lint(
    file: Annotated[Path, typer.Argument(help="An HTML page, a Markdown file, or any other text.")],
) -> None:
    """Check what a text claims: each percentage with its baseline, data and n, each limit with the figure.

    A page is held to the facts that its claims carry; a percentage that comes from no claim is refused. Markdown and
    other text is read by its words.

    [dim]podium lint .podium/runs/quickstart/report.html
    podium lint docs/benchmarks.md[/]
    """
    from analysis.claims import check_markdown, check_page

    text = _read(file)
    found = check_page(text) if file.suffix.lower() in _PAGES else check_markdown(text)
    if found:
        raise InvalidInput([violation.problem() for violation in found], str(file))
    print(f"{file}: no claim without what it rests on")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = Problem(str(file), f"not UTF-8 at byte {error.start}", "give a text file in UTF-8")
    except OSError as error:
        problem = Problem(str(file), f"cannot be read: {error.strerror}", "give an HTML or a Markdown file")
    raise InvalidInput(problem)
