"""Kinds of values on the command line."""

from __future__ import annotations

import math

import click


def seconds(value: str | float) -> float:
    """A finite number of seconds, not below zero. Raises ``click.BadParameter``."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and number >= 0:
        return number
    raise click.BadParameter(f"'{value}' is no number of seconds: give 0 or more, or leave it out")
