"""The form that asks for a move."""

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.utils.module_loading import import_string

from .models import Move


class MoveForm(forms.ModelForm):
    """A guest and its destination. vmrelay knows which exist; it refuses the others and says so."""

    # Every form that is shown has a key of its own, and a double click sends the same form twice.
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    class Meta:
        model = Move
        fields = ("guest", "destination", "reason")

    def __init__(self, *args: object, user: AbstractUser, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean(self) -> dict[str, Any]:
        """Ask the application's own rules."""
        data = super().clean()
        if {"guest", "destination"} <= data.keys():
            why_not = import_string(settings.MOVES_WHY_NOT)
            if refusal := why_not(self.user, data["guest"], data["destination"]):
                raise forms.ValidationError(refusal)
        return data
