"""What a process and the machine use: CPU time, memory, descriptors, threads, and what the machine is."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """User and system time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def max_rss_kb() -> int:
    """Largest resident memory of this process so far, in kB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak  # macOS counts bytes


def rss_kb() -> int:
    """Resident memory of this process now, in kB. Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def thread_count() -> int:
    """Threads of this process, of whatever language. Linux only."""
    return len(list(Path("/proc/self/task").iterdir()))


def descriptor_count() -> int:
    """Open file descriptors of this process. Linux only."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # less the one that lists the folder


def cpu_seconds_of(pid: int) -> float:
    """User and system time of another process so far, its children not included. 0.0 where /proc is missing."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks
    return (int(fields[11]) + int(fields[12])) / _TICK


def processes_of_session(leader: int) -> list[int]:
    """Process ids of a session: a server and the workers that it has started. Empty where /proc is missing."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(folder.name))
    return found


def rss_kb_of(pid: int) -> int:
    """Resident memory of another process now, in kB. 0 where /proc is missing."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() // 1024
    except OSError:
        return 0


def descriptor_count_of(pid: int) -> int:
    """Open file descriptors of another process. 0 where /proc is missing."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def machine_busy_seconds() -> float:
    """CPU time that the whole machine has spent on anything so far. 0.0 where /proc is missing."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICK


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, kernel and Python, for the head of a result file."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
