"""Benchmarks: the relay beside a bare Celery chain, in one run, on the same Redis and workers."""
