"""A report as lines of text for a terminal."""

from __future__ import annotations

from pathlib import Path

from reports.html.report import Report


def report_lines(report: Report, output: Path) -> list[str]:
    """What was written and where to start."""
    skipped = report.manifest["skipped"]
    lines = [f"skipped {item['id']!r} ({item['stage']}): {item['reason']}" for item in skipped[:5]]
    if len(skipped) > 5:
        lines.append(f"and {len(skipped) - 5} more, listed in {output / 'report.json'}")
    diagnosis = report.manifest["diagnosis"]
    if diagnosis:
        lines.append(f"verdict: {diagnosis['verdict']} ({diagnosis['reason']})")
    pages = len(report.ids)
    lines.append(f"{pages} page{'s' if pages != 1 else ''}; open {output / 'index.html'}")
    return lines
