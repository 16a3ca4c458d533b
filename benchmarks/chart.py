"""Draws how many times better each line is: ``python benchmarks/chart.py FILE.json`` writes FILE.svg.

Bars on a logarithmic axis. Text has the colour of the page around it, so that the chart suits a light and a dark one.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
from html import escape

from report import Comparison, Document
from targets import LINES

#: What the chart shows of the lines of the comparison, first to last.
SHOWN = (
    "init_first_result", "task_sync", "tasks_pipelined", "tasks_nested", "get_small", "put_small", "put_1mib",
    "get_100mib", "task_ref_100mib", "drain_10000", "chain_100", "actor_sync", "actor_pipelined", "async_actor_sync",
    "async_actor_pipelined", "await_gather_1000", "actors_2x2", "actors_born", "pss_after_lines", "shutdown",
)  # fmt: skip
#: Labels that only make sense in their table.
SHORTER = {"pss_after_lines": "memory of all processes"}
WIDTH, LABEL, VALUE, ROW, TOP = 720, 250, 50, 21, 48
_STYLE = """
  .ray-chart text { font: 12px system-ui, sans-serif; fill: var(--color-foreground-primary, currentColor); }
  .ray-chart .head { font-weight: 600; } .ray-chart .muted { opacity: .65; }
  .ray-chart rect { fill: var(--color-brand-primary, #2a6fb0); }
  .ray-chart line { stroke: var(--color-foreground-muted, #888); stroke-width: .5; opacity: .5; }
  @media (prefers-color-scheme: dark) { svg[data-alone] { color: #ddd; } }
"""


def gains(document: Document) -> dict[str, float]:
    """{label: times better than the first rival}, of the lines that both ran."""
    comparison = Comparison(document)
    rows = {row.line: row for row in LINES.rows}
    found = {}
    for name in SHOWN:
        gain = comparison.gain(rows[name], comparison.rivals[0]) if comparison.rivals else None
        if gain is not None:
            found[SHORTER.get(name) or rows[name].label.replace("`", "")] = gain
    return found


def draw(document: Document) -> str:
    """The SVG as text."""
    bars = gains(document)
    rival = Comparison(document).rivals[0]
    highest = 10 ** math.ceil(math.log10(max(bars.values(), default=10)))
    scale = (WIDTH - LABEL - VALUE) / math.log10(highest)
    height = TOP + ROW * len(bars) + 10
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="100%" role="img" class="ray-chart" data-alone=""',
        f'viewBox="0 0 {WIDTH} {height}">',
        f"<title>How many times better than {escape(rival)}, line by line</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="head" x="0" y="14">times better than {escape(rival)}, same machine, same run</text>',
    ]
    for power in range(int(math.log10(highest)) + 1):
        x = LABEL + scale * power
        lines.append(f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{height - 8}"/>')
        lines.append(f'<text class="muted" x="{x:.1f}" y="{TOP - 8}" text-anchor="middle">{10**power:,}</text>')
    for number, (label, gain) in enumerate(bars.items()):
        y = TOP + ROW * number
        width = max(1.0, scale * math.log10(max(gain, 1.0)))
        lines.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        lines.append(f'<rect x="{LABEL}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="2"/>')
        lines.append(f'<text x="{LABEL + width + 5:.1f}" y="{y + 14}">{gain:.3g}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    for argument in sys.argv[1:]:
        path = pathlib.Path(argument)
        path.with_suffix(".svg").write_text(draw(json.loads(path.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
