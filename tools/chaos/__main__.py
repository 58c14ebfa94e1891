"""A storm of requests against a real server, and whether it comes through.

    python -m tools.chaos --requests 3000 --seed 1

Starts `sam3-prelabel serve` with the demo checkpoint and a stand-in for Label Studio, sends mixed requests, a third
of them bad, lets clients hang up and Label Studio fall silent, kills the worker, tells the server to stop, and prints
what became of it all. Exit code 0: all is well, 1: something is not, 2: nothing could be tried. docs/benchmarks.md
explains the tables. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tools.chaos.ends import check_store, kill_worker, terminate
from tools.chaos.good import Good
from tools.chaos.server import SECRETS, THREADS, ChaosFailed, Footprint, Serving
from tools.chaos.stand_in import LabelStudio
from tools.chaos.storm import Plan, Tally, fill_threads, settle, storm
from tools.chaos.verdicts import Outcome

_MAIN, _KILL, _TERM = 10**6, 2 * 10**6, 3 * 10**6  # numbers of the first requests of each part
_MORE_MEMORY, _MEBIBYTES = 1.15, 48
"""After the storm the process may hold so much more than after the round that warms it up: times, and MiB."""
_MORE = 6  # threads, sockets
_DEFECT = re.compile(r"Traceback|(ERROR|CRITICAL) (backend|sam3_core)|defect of this")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole of it; what is to be told. Raises ChaosFailed."""
    checks: dict[str, list[str]] = {}
    with LabelStudio() as site:
        good = Good(site)
        plan = Plan(options.seed, good)
        with Serving(site.url, folder) as serving:
            good.learn(serving.port)
            fill_threads(serving, THREADS)
            warm = storm(serving, plan, range(options.warm_up or max(200, options.requests // 3)), good,
                         clients=options.clients, seconds=options.seconds)  # fmt: skip
            settle(serving)
            before = serving.footprint()
            numbers = range(_MAIN, _MAIN + options.requests)
            tally = storm(serving, plan, numbers, good, clients=options.clients, seconds=options.seconds)
            settle(serving)
            after = serving.footprint()
            checks["answers"] = [*warm.problems, *tally.problems, *_enough(tally)]
            checks["ready afterwards"] = [] if serving.ready() else ["/ready does not say yes"]
            checks["answers as before"] = _differences(good, serving)
            checks["memory, threads, sockets"] = _grown(before, after)
            checks["predictions pushed"] = [wrong] if (wrong := good.pushed()) else []
            pushed = len(site.stored)
            checks["store"] = check_store(serving, good)
            checks["kill -9"] = kill_worker(serving, good, _KILL)
            checks["answers as before the kill"] = _differences(good, serving)
            checks["SIGTERM"] = terminate(serving, good, _TERM)
        checks["log"] = _log(serving.log)
        checks["no files left"] = [f"{one.name} is left" for one in serving.temporary.iterdir()]
    return {"tally": tally, "before": before, "after": after, "pushed": pushed, "checks": checks}


def _enough(tally: Tally) -> list[str]:
    """A server that refuses everything is no good either."""
    good = [outcomes for (bad, _), outcomes in tally.kinds.items() if not bad]
    stayed = sum(outcomes.total() - outcomes[Outcome.LEFT] for outcomes in good)
    right = sum(outcomes[Outcome.RIGHT] for outcomes in good)
    return [] if 4 * right >= stayed else [f"only {right} of {stayed} good requests got their answer"]


def _differences(good: Good, serving: Serving) -> list[str]:
    try:
        differ = good.answers_now(serving.port)
    except ChaosFailed as error:
        return [str(error)]
    return [f"other answers than before: {differ}"] if differ else []


def _grown(before: Footprint, after: Footprint) -> list[str]:
    problems = []
    if after.memory > before.memory * _MORE_MEMORY + _MEBIBYTES:
        problems.append(f"memory grew from {before.memory:.0f} to {after.memory:.0f} MiB")
    for what in ("threads", "sockets"):
        if getattr(after, what) > getattr(before, what) + _MORE:
            problems.append(f"{what} grew from {getattr(before, what)} to {getattr(after, what)}")
    return problems


def _log(log: Path) -> list[str]:
    text = log.read_text(errors="replace")
    defects = sorted({line[:200] for line in text.splitlines() if _DEFECT.search(line)})
    return [f"the log says: {line}" for line in defects[:10]] + [
        f"a secret is in the log: {secret[:6]}..." for secret in SECRETS if secret in text
    ]


def report(told: dict[str, Any]) -> str:
    """Two tables in Markdown: what became of the requests, and what was looked at."""
    tally: Tally = told["tally"]
    lines = [f"| request | sent | {' | '.join(Outcome)} |", f"| --- | ---: |{' ---: |' * len(Outcome)}"]
    rows = sorted(tally.kinds.items())
    total: Counter[Outcome] = Counter()
    for (bad, kind), outcomes in rows:
        total += outcomes
        lines.append(_row(f"{'bad: ' if bad else ''}{kind}", outcomes))
    lines += [_row("all", total), "", "| looked at | |", "| --- | --- |"]
    lines += [f"| {name} | {'; '.join(found[:5]) or 'as it should be'} |" for name, found in told["checks"].items()]
    before, after = told["before"], told["after"]
    lines += [
        "",
        f"{tally.requests} requests in {tally.seconds:.0f} s. Before and after: {before.memory:.0f} and "
        f"{after.memory:.0f} MiB, {before.threads} and {after.threads} threads, {before.sockets} and "
        f"{after.sockets} sockets. {told['pushed']} predictions were pushed for clients that had left.",
    ]
    return "\n".join(lines)


def _row(name: str, outcomes: Counter[Outcome]) -> str:
    cells = [str(outcomes[one] or "") for one in Outcome]
    return f"| {name} | {sum(outcomes.values())} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000, help="of the storm")
    parser.add_argument("--warm-up", type=int, help="requests before; default a third as many, at least 200")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more of each after so long")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other requests")
    parser.add_argument("--clients", type=int, default=24, help="at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers and all problems there as well")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the server's log and store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sam3-chaos-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            told = run(options, folder)
        except ChaosFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(report(told))
    if options.json:
        counts = {f"{'bad: ' * bad}{kind}": outcomes for (bad, kind), outcomes in told["tally"].kinds.items()}
        options.json.write_text(json.dumps({"requests": counts, "checks": told["checks"]}, indent=1) + "\n")
    return 1 if any(told["checks"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
