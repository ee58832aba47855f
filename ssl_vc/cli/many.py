"""Options that take several values: `--target a.wav b.wav` is `--target a.wav --target b.wav`."""

from typing import Any

from typer.core import TyperCommand


class TakesMany(TyperCommand):
    """A command whose repeatable options take every word up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each further value."""
        many = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        words: list[str] = []
        for word in args:
            if words and words[-1] not in many and not word.startswith("-") and (option := _open(words, many)):
                words.append(option)
            words.append(word)
        return super().parse_args(ctx, words)


def _open(words: list[str], many: set[str]) -> str | None:
    """Give the option whose values the words end with."""
    if words[-1].partition("=")[0] in many:
        return words[-1].partition("=")[0]
    return words[-2] if len(words) > 1 and words[-2] in many else None
