"""Which guest goes where, and in what order. Pure: documents in, a checked plan out; no Redis, no Celery.

``plan.py`` is the door. Nothing is imported here: whoever only checks an old plan does without numpy.
"""
