"""Which guest goes where, and in what order. Pure: documents in, a checked plan out; no Redis, no Celery."""

from tasks.planner.plan import BadProblem, plan

__all__ = ["BadProblem", "plan"]
