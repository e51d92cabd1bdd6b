"""The live page: what ``vmrelay web`` shows to people. Views are pure, one reader serves all who look."""

from worker.web.page.routes import mount

__all__ = ["mount"]
