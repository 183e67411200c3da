"""Figures that tests tell of themselves, added up over the whole run, however many processes it took.

A test's figures travel with its reports, as pytest's user properties. Their names are "section: name"; one that has the form
"section: row/column/place" is shown in a table, the places of a cell in their order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

_MARK = "counted: "
_PLACES = ("before", "after", "mid")

Count = Callable[[str, int], None]


def counter(record_property: Callable[[str, Any], None], section: str = "") -> Count:
    """Return what adds a number to a figure of this section (or of the one that the figure's own name begins with)."""
    prefix = f"{_MARK}{section}: " if section else _MARK
    return lambda name, number: record_property(prefix + name, number)


def tell(terminalreporter: Any) -> None:
    """Print all figures at the end of a run."""
    sections: dict[str, Counter[str]] = defaultdict(Counter)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":  # which has the figures of a test that failed, too
                for name, number in report.user_properties:
                    if name.startswith(_MARK):
                        section, _, figure = name.removeprefix(_MARK).partition(": ")
                        sections[section][figure] += number
    for section, figures in sorted(sections.items()):
        terminalreporter.section(section)
        cells = {name: number for name, number in figures.items() if "/" in name}
        for line in _table(cells) if cells else ():
            terminalreporter.write_line(line)
        for name, number in sorted(figures.items()):
            if name not in cells:
                terminalreporter.write_line(f"{name}: {number}")


def _table(cells: Mapping[str, int]) -> list[str]:
    rows = sorted({name.split("/")[0] for name in cells})
    columns = sorted({name.split("/")[1] for name in cells})
    lines = [f"{'/'.join(_PLACES):22}" + "".join(f"{column:>12}" for column in columns)]
    for row in rows:
        numbers = ["/".join(str(cells.get(f"{row}/{column}/{place}", 0)) for place in _PLACES) for column in columns]
        lines.append(f"{row:22}" + "".join(f"{cell if cell.strip('0/') else '-':>12}" for cell in numbers))
    return [*lines, f"{'':22}{sum(cells.values())} in all"]
