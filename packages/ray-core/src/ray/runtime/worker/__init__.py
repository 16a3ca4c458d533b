"""The worker: runs tasks and calls of actors, and sends their results back."""
