"""Flask: a form that moves a guest, over Celery. ``flask --app app run`` in this folder."""

import uuid
from pathlib import Path
from urllib.parse import urlsplit

from flask import Blueprint, Flask, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from moves import KeyTaken, Move, Moves
from vmrelay_client import Client

pages = Blueprint("pages", __name__, cli_group=None)  # `flask sync`, not `flask pages sync`


def create_app(client: Client | None = None, **settings: str) -> Flask:
    """The application; tests bring a client of their own."""
    app = Flask(__name__)
    app.config.from_mapping(DATABASE=f"{app.instance_path}/moves.sqlite", RELAY_URL="redis://127.0.0.1:6379/0")
    app.config.from_prefixed_env("MOVES")  # MOVES_DATABASE, MOVES_RELAY_URL
    app.config.from_mapping(settings)
    database = Path(app.config["DATABASE"])
    database.parent.mkdir(parents=True, exist_ok=True)
    # One client for the process; it connects when it is used.
    app.extensions["moves"] = Moves(database, client or Client.from_url(app.config["RELAY_URL"]))
    app.register_blueprint(pages)
    return app


def moves() -> Moves:
    """Those of this application."""
    return current_app.extensions["moves"]


def found(number: int) -> Move:
    """One of them, or a 404."""
    return moves().get(number) or abort(404)


@pages.before_request
def only_our_own_forms() -> None:
    """Browsers say where a form comes from; one on another site must not move anything."""
    if request.method == "POST":
        site = request.headers.get("Sec-Fetch-Site")
        if site is None:  # an old browser, or none
            origin = request.headers.get("Origin")
            site = "same-origin" if origin is None or urlsplit(origin).netloc == request.host else "cross-site"
        if site not in ("same-origin", "none"):
            abort(403, "this form belongs to another site")


@pages.get("/")
def form() -> ResponseReturnValue:
    """The form, and what was asked for."""
    # Every form that is shown has a key of its own, and a double click sends the same form twice.
    return render_template("moves.html", key=uuid.uuid4(), moves=moves().last())


@pages.post("/")
def ask() -> ResponseReturnValue:
    """Keep what is asked for, then send it."""
    guest, destination, key = (request.form.get(name, "").strip() for name in ("guest", "destination", "key"))
    if not (0 < len(guest) <= 200 and 0 < len(destination) <= 200 and is_uuid(key)):
        abort(422, "name a guest and where it is to go")
    # Who may ask for what is for you to decide, here: vmrelay trusts whoever reaches its Redis. REMOTE_USER is what
    # your web server's login sets; no client can.
    who = request.remote_user or "somebody"
    try:
        move = moves().ask(key, who, guest, destination)
    except KeyTaken:
        abort(409, "this form was sent already, with something else in it; load the page again")
    moves().send(move)
    return redirect(url_for("pages.show", number=move.id), 303)


@pages.get("/moves/<int:number>")
def show(number: int) -> ResponseReturnValue:
    """One move; its page asks for the progress."""
    return render_template("move.html", move=found(number))


@pages.get("/moves/<int:number>/progress")
def progress(number: int) -> ResponseReturnValue:
    """How far it is, as JSON."""
    look = moves().look(found(number))
    told = {"percent": look.percent, "state": look.move.state, "text": look.text, "over": look.move.over}
    return told, {"Cache-Control": "no-store"}


@pages.cli.command("sync")
def sync() -> None:
    """Send what could not be sent, and note what ended while nobody looked: from cron, once a minute."""
    moves().sync()


def is_uuid(text: str) -> bool:
    """Whether a key is one that a form had."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
