"""A simulated Virtuozzo dispatcher: one process for each host, reached over a Unix socket."""
