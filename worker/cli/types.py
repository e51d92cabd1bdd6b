"""Kinds of values on the command line."""

from __future__ import annotations

import math
from typing import Any

import click


class Seconds(click.ParamType):
    """A finite number of seconds, not below zero."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """The number. Raises ``click.BadParameter``."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            self.fail(f"'{value}' is no number of seconds: give 0 or more, or leave it out", param, ctx)
        return number


SECONDS = Seconds()
