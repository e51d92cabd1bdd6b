"""``make bench-web``: lists and the live page with 100 and with 10,000 migrations in the journal."""
