"""Who may ask for what. vmrelay trusts whoever reaches its Redis, so this is for the application to decide."""

from django.contrib.auth.models import AbstractUser


def why_not(user: AbstractUser, guest: str, destination: str) -> str:
    """Why this user may not ask for this move; empty where they may.

    The rule here is an example: a guest belongs to the team (a group of Django) that its name begins with, as
    ``web-1`` does to ``web``. Put your own in settings.MOVES_WHY_NOT.
    """
    if not user.has_perm("moves.add_move"):
        return "you may not move guests: ask for the permission moves.add_move"
    team = guest.partition("-")[0]
    if not user.is_superuser and not user.groups.filter(name=team).exists():
        return f"{guest} belongs to the team '{team}', and you are not in it"
    return ""
