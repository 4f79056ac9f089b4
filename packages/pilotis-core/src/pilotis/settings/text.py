"""Text that stands for a value: from the environment, or with `${...}` in it."""

from __future__ import annotations

from typing import Self


class LooseText(str):
    """Text that is converted to the type of its field: "60" is a number where a number is expected.

    `variable` is the environment variable it came from, for errors; None where it was expanded.
    """

    __slots__ = ("variable",)

    variable: str | None

    def __new__(cls, text: str, variable: str | None = None) -> Self:
        self = super().__new__(cls, text)
        self.variable = variable
        return self
