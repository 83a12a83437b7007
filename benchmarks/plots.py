"""The plots of the pages, from result files."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import client_matrix
import gateway_open
import matplotlib as mpl
import result_files
import targets
from gateway_servers import GATEWAYS

mpl.use("svg")
# The same bytes for the same figures, and text that stays text.
mpl.rcParams.update({"svg.hashsalt": "velithon-proxy", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402 - after the backend was chosen

_OURS, _OTHERS, _NATIVE = "#1f6f8b", "#c8c8c8", "#8d8d8d"
_LATENCIES = (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"))


def write(folder: Path, into: Path) -> None:
    """Write every plot whose results are there."""
    into.mkdir(parents=True, exist_ok=True)
    for suite, draw in (("clients", _clients), ("gateways", _gateways), ("gateway-open", _open_loop), ("soak", _soak)):
        data = result_files.load(folder, suite)
        if data is not None:
            figure = draw(data)
            figure.savefig(into / f"{suite}.svg", metadata={"Date": None}, bbox_inches="tight")
            plt.close(figure)


def _bars(axes: Any, figures: dict[str, float], colours: dict[str, str]) -> None:
    """Horizontal bars, the smallest on top, each with its number."""
    names = sorted(figures, key=lambda name: figures[name], reverse=True)
    bars = axes.barh(names, [figures[name] for name in names], color=[colours.get(name, _OTHERS) for name in names])
    axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.set_xscale("log")
    axes.spines[["top", "right"]].set_visible(False)


def _clients(data: dict[str, Any]) -> Any:
    wanted = [("get-100b-c1", "one at a time"), ("get-100b-c64", "64 in flight"), ("get-1m-c8", "1 MB, 8 in flight")]
    shown = [(data["scenarios"][name], words) for name, words in wanted if name in data["scenarios"]]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.6 * len(shown), 3.6), squeeze=False)
    for (result, words), panel in zip(shown, axes[0], strict=True):
        rounds = client_matrix.usable_rounds(result)
        found = {name: client_matrix.median(rounds, name, "cpu_us") for name in rounds[0] if name != client_matrix.CORE}
        _bars(panel, found, {targets.OURS: _OURS, client_matrix.FLOOR: _NATIVE})
        panel.set_title(f"client: {words}")
        panel.set_xlabel("CPU per request, us (log)")
    figure.tight_layout()
    return figure


def _gateways(data: dict[str, Any]) -> Any:
    figure, panel = plt.subplots(figsize=(7, 4.6))
    rounds = data["concurrencies"]["64"]["rounds"]
    names = {name for r in rounds for name in r}
    found = {name: statistics.median(r[name]["cpu_us"] for r in rounds if name in r) for name in names}
    colours = {name: _OURS for name in found if name.endswith(", ours")}
    colours |= {name: _NATIVE for name in found if not GATEWAYS[name].in_python or name == "RSGI, empty handler"}
    _bars(panel, found, colours)
    panel.set_title("gateway: GET 100 B, 64 in flight, one worker")
    panel.set_xlabel("CPU of the server per request, us (log)")
    return figure


def _open_loop(data: dict[str, Any]) -> Any:
    figure, panel = plt.subplots(figsize=(7, 4))
    for name in dict.fromkeys(name for r in data["rounds"] for name in r):
        values = [gateway_open.median(data, name, gateway_open.COMMON, key) for key, _ in _LATENCIES]
        if all(value is not None for value in values):
            ours = name.endswith(", ours")
            style = "-" if ours else "--" if GATEWAYS[name].in_python else ":"
            panel.plot([words for _, words in _LATENCIES], values, style, marker="o", markersize=3, label=name)
    panel.set_yscale("log")
    panel.set_ylabel("latency from when a request was due, us (log)")
    panel.set_title(f"gateways: open loop, {gateway_open.COMMON}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=7, ncols=2, frameon=False)
    return figure


def _soak(data: dict[str, Any]) -> Any:
    samples = data["samples"]
    minutes = [sample["seconds"] / 60 for sample in samples]
    kinds = [("rss_mb", "resident memory, MB"), ("descriptors", "descriptors"), ("goroutines", "goroutines")]
    figure, axes = plt.subplots(len(kinds), 1, figsize=(7, 5.4), sharex=True)
    for panel, (kind, words) in zip(axes, kinds, strict=True):
        panel.plot(minutes, [sample[kind] for sample in samples], color=_OURS)
        panel.set_ylabel(words)
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("minutes")
    axes[0].set_title("soak: " + data["load"])
    figure.tight_layout()
    return figure
