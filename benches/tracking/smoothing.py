"""Draws the smoothing sweep: python benches/tracking/smoothing.py smoothing.csv smoothing.svg; needs matplotlib.

The table is that of `cargo bench --bench tracking -- sweep SOURCE...` with two clips, demo and demo-fast. A point is a choice of
parameters: the clips' jitter against the mean error on the demo's known motion. The circle is around the defaults; printed are the
choices of least error among those that keep the clips' jitter within a limit.
"""

import collections
import csv
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "facemark"
from matplotlib import pyplot  # noqa: E402

PARAMETERS = ["min_cutoff_hz", "speed_coefficient", "speed_cutoff_hz"]
KNOWN = ["demo", "demo-fast"]
DEFAULTS = ("1.5", "32", "1")
# Jitter over that of the network's own words, at most, as the mean of the clips.
LIMIT = 0.70


def main():
    choices = collections.defaultdict(dict)
    with open(sys.argv[1]) as table:
        for row in csv.DictReader(table):
            choices[tuple(row[name] for name in PARAMETERS)][row["source"]] = row
    raw = choices.pop(("raw", "", ""))
    clips = [name for name in raw if name not in KNOWN]

    def jitter(rows):
        parts = [float(rows[clip]["jitter_percent"]) / float(raw[clip]["jitter_percent"]) for clip in clips]
        return sum(parts) / len(parts)

    def error(rows):
        return sum(float(rows[name]["error_percent"]) for name in KNOWN) / len(KNOWN)

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for cutoff, color in zip(sorted({key[2] for key in choices}), ["#E69F00", "#56B4E9", "#009E73"]):
        rows = [rows for key, rows in choices.items() if key[2] == cutoff]
        axes.scatter([jitter(row) for row in rows], [error(row) for row in rows], s=14, color=color,
                     label=f"speed cutoff {cutoff} Hz")
    axes.scatter([1], [error(raw)], marker="x", color="black", label="not smoothed")
    allowed = {key: rows for key, rows in choices.items() if jitter(rows) <= LIMIT}
    for key in sorted(allowed, key=lambda key: error(allowed[key]))[:8]:
        rows = allowed[key]
        print(dict(zip(PARAMETERS, key)), f"jitter {jitter(rows):.3f} of raw, error {error(rows):.3f} %, lag on the demo "
              f"{float(rows['demo']['lag_frames']):.2f} frames, fast {float(rows['demo-fast']['lag_frames']):.2f}",
              {clip: rows[clip]["jitter_percent"] for clip in clips})
    chosen = choices[DEFAULTS]
    axes.scatter([jitter(chosen)], [error(chosen)], s=90, facecolors="none", edgecolors="black", label="defaults")
    axes.axvline(LIMIT, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="jitter of the clips over the unsmoothed one", ylabel="mean error on known motion, % of eye distance")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
