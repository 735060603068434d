#!/usr/bin/env python3
# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

"""Move requests between the two colours of this host, through HAProxy's own socket, without starting it anew.

weigh.py share --socket PATH green 25     green gets 25 of 100 requests, the other colour the rest
weigh.py watch --socket PATH --seconds 60 --error-rate 0.01 --sample 200 green
                                          exits 1 where green answers with more errors than that
"""

from __future__ import annotations

import argparse
import csv
import io
import socket
import sys
import time

BACKEND = "processes"
COLOURS = ("blue", "green")
TIMEOUT_S = 5.0
LOOK_S = 1.0


def main() -> int:
    given = _options().parse_args()
    try:
        if given.do == "share":
            return share(given.socket, given.colour, given.share)
        return watch(given.socket, given.colour, given.seconds, given.error_rate, given.sample)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"HAProxy at {given.socket}: {error}\n")
        return 1


def share(path: str, colour: str, percent: int) -> int:
    """The larger share first, and read back, before the other one is lowered: else a refused raise would leave nobody to serve."""
    found = servers(path)
    other = next(name for name in COLOURS if name != colour)
    shares = {colour: percent, other: 100 - percent}
    for name in sorted(COLOURS, key=lambda name: shares[name], reverse=True):
        for server in found[name]:
            set_weight(path, server, shares[name])
    return 0


def set_weight(path: str, server: str, weight: int) -> None:
    """Raises ValueError where HAProxy refuses, or has another weight afterwards."""
    said = ask(path, f"set server {BACKEND}/{server} weight {weight}").strip()
    if said:
        raise ValueError(said)
    told = ask(path, f"get weight {BACKEND}/{server}").split()
    if not told or told[0] != str(weight):
        raise ValueError(f"{server} should weigh {weight}, and weighs {' '.join(told)}")


def watch(path: str, colour: str, seconds: float, error_rate: float, sample: int) -> int:
    """1 where so many answers are errors that it would be too many of `sample` too; few requests alone are no verdict.

    Looks every second, so that what is broken is found before the time is over.
    """
    before, until = answers(path, colour), time.monotonic() + seconds
    while True:
        now = answers(path, colour)
        total, errors = (now[0] - before[0], now[1] - before[1])
        if errors > error_rate * max(total, sample):
            sys.stderr.write(f"{colour}: {errors} of {total} answers were errors; {error_rate:.2%} may be\n")
            return 1
        left = until - time.monotonic()
        if left <= 0:
            sys.stdout.write(f"{colour}: {errors} of {total} answers were errors\n")
            return 0
        time.sleep(min(LOOK_S, left))


def answers(path: str, colour: str) -> tuple[int, int]:
    """How many answers the colour gave since HAProxy began, and how many of them, or of the tries to reach it, were errors."""
    rows = [row for row in statistics(path) if row["svname"].startswith(colour)]
    if not rows:
        raise ValueError(f"it has no server of {colour}")
    errors = sum(_count(row, "hrsp_5xx") + _count(row, "econ") for row in rows)
    return sum(_count(row, "hrsp_total") or _count(row, "stot") for row in rows), errors


def servers(path: str) -> dict[str, list[str]]:
    """The servers of each colour, by name. Raises ValueError where one has none."""
    names = [row["svname"] for row in statistics(path)]
    found = {colour: [name for name in names if name.startswith(colour)] for colour in COLOURS}
    for colour, of_it in found.items():
        if not of_it:
            raise ValueError(f"it has no server of {colour}")
    return found


def statistics(path: str) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(ask(path, "show stat").lstrip("# ")))
    return [row for row in rows if row["pxname"] == BACKEND and row["svname"] not in ("BACKEND", "FRONTEND")]


def ask(path: str, command: str) -> str:
    """What HAProxy answers; nothing where it did what it was told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(path)
        connection.sendall(command.encode() + b"\n")
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def _count(row: dict[str, str], column: str) -> int:
    return int(row.get(column) or 0)


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = options.add_subparsers(dest="do", required=True)
    moving = commands.add_parser("share")
    watching = commands.add_parser("watch")
    for command in (moving, watching):
        command.add_argument("--socket", required=True)
        command.add_argument("colour", choices=COLOURS)
    moving.add_argument("share", type=int, choices=range(101), metavar="0..100")
    watching.add_argument("--seconds", type=float, required=True)
    watching.add_argument("--error-rate", type=float, required=True)
    watching.add_argument("--sample", type=int, required=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
