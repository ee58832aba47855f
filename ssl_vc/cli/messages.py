"""Messages on stderr, and the progress of trainings and of many files."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import typer
from tqdm import tqdm

LONGEST = 2000  # characters of a message


def notify(kind: str, message: object) -> None:
    """Print `kind: message` to stderr as one line, above a progress bar if there is one."""
    tqdm.write(f"{kind}: {one_line(message)}", file=typer.get_text_stream("stderr"))


def one_line(message: object) -> str:
    """Return a message as one line of some length that commands no terminal, whatever names and files it quotes."""
    text = " ".join(str(message).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def log_to_stderr(name: str) -> logging.Logger:
    """Print a package's log to stderr, and return its logger."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [StderrHandler()], False
    return logger


def progress(step: int, losses: Mapping[str, float], rate: float, as_json: bool) -> str:
    """Format the progress of a training: its losses and steps per second."""
    values = {name: round(value, 4) for name, value in losses.items()}
    if as_json:
        return json.dumps({"step": step, **values, "steps_per_second": round(rate, 2)})
    return f"step {step}: {', '.join(f'{name} {value:g}' for name, value in values.items())}; {rate:.1f} steps/s"


def for_each_file(outputs: Mapping[Path, Path], process: Callable[[Path, Path], str]) -> None:
    """Process (input, output) files one by one and print the line that each returns.

    Errors of one of several files are printed, and do not stop the others; at the end they raise a ValueError.
    """
    failed = 0
    for source, output in tqdm(outputs.items(), unit="file", disable=None if len(outputs) > 1 else True):
        try:
            tqdm.write(process(source, output))
        except (ValueError, OSError) as error:
            if len(outputs) == 1:
                raise
            failed += 1
            notify("error", error)
    if failed:
        raise ValueError(f"{failed} of {len(outputs)} files failed.")


class StderrHandler(logging.Handler):
    """Print log records to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, such as `info: step 1000: ...`."""
        notify(record.levelname.lower(), record.getMessage())
