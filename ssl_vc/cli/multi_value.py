"""Options with several values: `--target a.wav b.wav` is `--target a.wav --target b.wav`."""

from typing import Any

from typer.core import TyperCommand


class MultiValueCommand(TyperCommand):
    """A command whose repeatable options take all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each further value."""
        repeatable = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        words: list[str] = []
        for word in args:
            is_value = bool(words) and words[-1] not in repeatable and not word.startswith("-")
            if is_value and (option := _open_option(words, repeatable)):
                words.append(option)
            words.append(word)
        return super().parse_args(ctx, words)


def _open_option(words: list[str], repeatable: set[str]) -> str | None:
    """Return the option whose values the words end with."""
    if words[-1].partition("=")[0] in repeatable:
        return words[-1].partition("=")[0]
    return words[-2] if len(words) > 1 and words[-2] in repeatable else None
