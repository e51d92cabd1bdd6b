"""The Celery tasks: what a web application enqueues, and the phases of a migration."""
