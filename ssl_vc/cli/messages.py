"""What the commands say on stderr."""

import logging

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


class Says(logging.Handler):
    """Says what a library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record, such as `info: step 1000: ...`."""
        say(record.levelname.lower(), record.getMessage())
