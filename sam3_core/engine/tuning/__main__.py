"""``python -m sam3_core.engine.tuning FOLDER``: work on the job in a folder, see ``sam3_core.tuning``."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from sam3_core.engine.tuning.process import end_with, give_way
from sam3_core.engine.tuning.report import Cancelled, Report
from sam3_core.errors import Sam3Error
from sam3_core.tuning import TuningState, read_job

logger = logging.getLogger("sam3_core.engine.tuning")

_EXTRA = "fine-tuning needs packages that are not here ({name}): pip install 'sam3-prelabel[local,train]'"


def main() -> int:
    """0 where there is an adapter now, 1 where not; the folder's progress tells why."""
    parser = argparse.ArgumentParser(prog="python -m sam3_core.engine.tuning", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--parent", type=int, default=os.getppid(), help="end when this process is no longer the parent"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    report = Report(options.folder)
    try:
        _work(options.folder, options.parent, report)
    except Cancelled:
        report.tell(TuningState.CANCELLED, sentence="cancelled")
    except Sam3Error as error:
        report.tell(TuningState.FAILED, sentence=str(error))
    except ModuleNotFoundError as error:
        report.tell(TuningState.FAILED, sentence=_EXTRA.format(name=error.name))
    except Exception as error:  # whoever waits for the result reads the folder, not this process
        logger.exception("fine-tuning broke")
        line = next(iter(str(error).splitlines()), "")
        report.tell(TuningState.FAILED, sentence=f"fine-tuning broke ({type(error).__name__}: {line}); see its log")
    else:
        return 0
    return 1


def _work(folder: Path, parent: int, report: Report) -> None:
    give_way()
    end_with(parent)
    job = read_job(folder)
    # Here and not above: what is missing is told to whoever waits for the result.
    from sam3_core.engine.tuning.work import work

    work(folder, job, report)


if __name__ == "__main__":
    raise SystemExit(main())
