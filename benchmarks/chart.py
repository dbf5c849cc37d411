"""Draws the suite's chart: bars of CPU for each message, as an SVG without scripts or styles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 760
LABELS: Final = 210
BAR: Final = 18
ROW: Final = 24
COLORS: Final = {"gcrypt.v2": "#1f883d", "gcrypt.v1": "#8250df"}
OTHERS: Final = "#8c959f"


def chart(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """The SVG for ``groups`` of named values in µs; the shorter a bar, the better."""
    longest = max(max(values.values()) for values in groups.values())
    scale = (WIDTH - LABELS - 80) / longest
    shapes, y = [_text(0, 20, title, bold=True)], 40
    for group, values in groups.items():
        shapes.append(_text(0, y + 14, group, bold=True))
        y += ROW
        for name, value in values.items():
            color = COLORS.get(name, OTHERS)
            width = max(value * scale, 1)
            shapes.append(_text(0, y + 14, name))
            shapes.append(
                f'<rect x="{LABELS}" y="{y}" width="{width:.0f}" height="{BAR}" fill="{color}"/>'
            )
            shapes.append(_text(LABELS + width + 6, y + 14, f"{value:.0f} µs"))
            y += ROW
        y += ROW // 2
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" '
        f'font-family="sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y}" fill="#1f2328"{weight}>{escape(text)}</text>'
