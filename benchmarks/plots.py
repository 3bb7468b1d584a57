"""Plots as SVG beside the text."""

from __future__ import annotations

from pathlib import Path

from benchmarks.finding import Finding, figure

INK, OURS, THEIRS = "#1f2430", "#1b6e5a", "#9aa3af"


def draw(findings: list[Finding], folder: Path) -> list[Path]:
    """One plot a part that has something to show."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams |= {
        "svg.hashsalt": "valetkey",  # the same figures give the same file
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
    }
    made = []
    for finding in findings:
        if not finding.bars and not finding.curves:
            continue
        drawing, axes = pyplot.subplots(
            figsize=(7, 1.2 + 0.5 * max(2, len(finding.bars))) if finding.bars else (7, 3.2)
        )
        if finding.bars:
            _bars(axes, finding)
        else:
            _curves(axes, finding)
        axes.set_title(finding.title, loc="left", fontsize=10)
        path = folder / f"speed-{finding.name}.svg"
        drawing.tight_layout()
        drawing.savefig(path, metadata={"Date": None})
        pyplot.close(drawing)
        made.append(path)
    return made


def _bars(axes: object, finding: Finding) -> None:
    names = list(finding.bars)[::-1]
    values = [finding.bars[name] for name in names]
    colours = [OURS if "valetkey" in name or "keys" in name else THEIRS for name in names]
    bars = axes.barh(names, values, color=colours, height=0.6)  # type: ignore[attr-defined]
    axes.bar_label(bars, labels=[figure(value) for value in values], padding=4)  # type: ignore[attr-defined]
    axes.set_xlabel(finding.bars_unit)  # type: ignore[attr-defined]
    axes.margins(x=0.15)  # type: ignore[attr-defined]


def _curves(axes: object, finding: Finding) -> None:
    for name, values in finding.curves.items():
        # From the median on: the tail is what is asked about.
        shares = [1 - (number + 0.5) / len(values) for number in range(len(values))]
        colour = OURS if "valetkey" in name or name == "revoke" else None
        axes.plot(values, shares, label=name, color=colour)  # type: ignore[attr-defined]
    axes.set_yscale("log")  # type: ignore[attr-defined]
    axes.set_xscale("log")  # type: ignore[attr-defined]
    axes.set_xlabel("milliseconds")  # type: ignore[attr-defined]
    axes.set_ylabel("share that took longer")  # type: ignore[attr-defined]
    axes.grid(alpha=0.3)  # type: ignore[attr-defined]
    axes.legend(frameon=False)  # type: ignore[attr-defined]
