"""What the commands say on stderr, and of how a training is going."""

import json
import logging
from collections.abc import Mapping

import typer
from tqdm import tqdm


def say(kind: str, message: object) -> None:
    """Write `kind: message` to stderr as one line, above a progress bar if there is one."""
    tqdm.write(f"{kind}: " + " ".join(str(message).split()), file=typer.get_text_stream("stderr"))


def say_what_is_logged(name: str) -> logging.Logger:
    """Say on stderr what a package logs, and give its logger."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [Says()], False
    return logger


def progress(step: int, losses: Mapping[str, float], rate: float, as_json: bool) -> str:
    """Write how a training is going: its losses, and how many steps a second."""
    facts = {name: round(value, 4) for name, value in losses.items()}
    if as_json:
        return json.dumps({"step": step, **facts, "steps_per_second": round(rate, 2)})
    return f"step {step}: {', '.join(f'{name} {value:g}' for name, value in facts.items())}; {rate:.1f} steps/s"


class Says(logging.Handler):
    """Says what a library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record, such as `info: step 1000: ...`."""
        say(record.levelname.lower(), record.getMessage())
