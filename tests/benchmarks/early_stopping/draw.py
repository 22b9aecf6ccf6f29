"""Draws ``docs/images/early_stopping.svg`` from the measured curves and the tables of ``simulate``.

    python -m tests.benchmarks.early_stopping.draw

Left: one grid in one shuffled order, with what the default rule trained of each trial. Right: what rules spend and
keep.
"""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

from launchers.halving import make_rule
from sweeps.schema import StopEarly
from tests.benchmarks.early_stopping.replay import Grid, load, replay
from tests.benchmarks.report import RESULTS, ROOT

IMAGE = ROOT / "docs" / "images" / "early_stopping.svg"
WIDTH, HEIGHT, TOP, PLOT_HEIGHT = 920, 400, 46, 296
LEFT, RIGHT = (62, 360), (540, 340)  # of the two plots: where they begin, how wide they are
LOSS = (0.12, 5.5)
SHARE, KEPT = (0.15, 0.8), (0.8, 1.005)
COLOURS = {"asha": "#b45309", "continuous": "#1d4ed8"}
INK, PALE, RULE_LINE = "#1f2937", "#cbd5e1", "#e5e7eb"


def text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{words}</text>'


def dot(x: float, y: float, colour: str, radius: float = 4.5, title: str = "") -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{title}</title></circle>'


def line(points: Sequence[tuple[float, float]], colour: str, width: float = 1.2) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def along(value: float, ends: tuple[float, float], place: tuple[float, float], *, log: bool = False) -> float:
    """Where a value stands on an axis that begins at ``place[0]`` and is ``place[1]`` long."""
    low, high = (math.log(end) for end in ends) if log else ends
    return place[0] + place[1] * ((math.log(value) if log else value) - low) / (high - low)


def curves(grid: Grid) -> list[str]:
    """The left plot."""
    early = StopEarly()
    order = list(grid.curves)
    random.Random(1).shuffle(order)
    outcome = replay(grid, order, make_rule(early, grid.num_steps), 4, 6, random.Random(1))

    def at(step: float, loss: float) -> tuple[float, float]:
        x = along(step, (0, grid.num_steps), LEFT)
        return x, along(max(loss, LOSS[0]), LOSS, (TOP + PLOT_HEIGHT, -PLOT_HEIGHT), log=True)

    share = f"{outcome.share:.0%} of the steps"
    out = [text(LEFT[0], 24, f"One grid of 20 trials, one order: {share} trained", size=14)]
    for loss in (0.15, 0.3, 1.0, 3.0):
        out.append(line([at(0, loss), at(grid.num_steps, loss)], RULE_LINE))
        out.append(text(LEFT[0] - 8, at(0, loss)[1] + 4, f"{loss:g}", anchor="end"))
    under = TOP + PLOT_HEIGHT + 18
    out += [text(at(step, 1)[0], under, str(step), anchor="middle") for step in range(0, grid.num_steps + 1, 12)]
    out.append(text(LEFT[0] + LEFT[1] / 2, HEIGHT - 18, "step; dots: stopped there", anchor="middle"))
    out.append(text(LEFT[0] - 8, TOP - 6, "val/loss", anchor="end"))
    for curve in grid.curves.values():
        out += [line([at(step, min(loss, LOSS[1])) for step, loss in curve.items()], PALE, 0.8)]
    for trial, curve in grid.curves.items():
        done = [at(step, min(loss, LOSS[1])) for step, loss in curve.items() if step <= outcome.trained[trial]]
        best = trial == grid.ranking[0]
        out.append(line(done, "#b91c1c" if best else COLOURS["continuous"], 2 if best else 1.3))
        if outcome.trained[trial] < grid.num_steps:
            out.append(dot(*done[-1], COLOURS["continuous"], 2.8))
    out.append(text(LEFT[0] + LEFT[1] - 4, TOP + 14, "red: the best at the end", anchor="end", colour="#b91c1c"))
    return out


def figures(folder: Path) -> list[str]:
    """The right plot."""
    rows = json.loads((folder / "early_stopping.json").read_text(encoding="utf-8"))["rows"]

    def at(share: float, kept: float) -> tuple[float, float]:
        return along(share, SHARE, RIGHT), along(max(kept, KEPT[0]), KEPT, (TOP + PLOT_HEIGHT, -PLOT_HEIGHT))

    out = [text(RIGHT[0], 24, "What rules spend, and how often they keep the best", size=14)]
    for kept in (0.8, 0.85, 0.9, 0.95, 1.0):
        out.append(line([at(SHARE[0], kept), at(SHARE[1], kept)], RULE_LINE))
        out.append(text(RIGHT[0] - 8, at(0, kept)[1] + 4, f"{kept:.0%}", anchor="end"))
    under = TOP + PLOT_HEIGHT + 18
    out += [text(at(share, 1)[0], under, f"{share:.0%}", anchor="middle") for share in (0.2, 0.4, 0.6, 0.8)]
    out.append(text(RIGHT[0] + RIGHT[1] / 2, HEIGHT - 18, "share of the grid's steps", anchor="middle"))
    for place, (name, colour) in enumerate(COLOURS.items()):
        x, y = RIGHT[0] + RIGHT[1] - 130, TOP + PLOT_HEIGHT - 46 + 20 * place
        out.append(dot(x, y, colour))
        out.append(text(x + 10, y + 4, "ASHA" if name == "asha" else "continuous", colour=colour))
    for row in rows:
        if row["at a time"] != 4:
            continue
        colour = COLOURS[row["rule"].split(",")[0]]
        (low_s, share, high_s), (low_k, kept, high_k) = row["steps"], row["kept"]
        out.append(line([at(low_s, kept), at(high_s, kept)], colour, 1))
        out.append(line([at(share, low_k), at(share, high_k)], colour, 1))
        out.append(dot(*at(share, kept), colour, title=row["rule"]))
    return out


def main() -> None:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    parts = [head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *curves(load()[0]), *figures(RESULTS)]
    IMAGE.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    print(IMAGE)


if __name__ == "__main__":
    main()
