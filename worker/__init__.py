"""What a worker process is made of; it knows nothing of the tasks that run in it."""
