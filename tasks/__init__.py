"""The Celery tasks: what a web application enqueues, and the phases of a migration.

An application does not import these: it enqueues ``vmrelay.v1.migrate`` and the others of
``worker/contract/names.py`` by name on the queue ``scheduler``, with the JSON documents of ``worker/contract/``.
``registry.py`` imports all of them.
"""
