"""Schedules at home in the user's own program: a callable, a `torch.compile` backend, files for other runtimes."""
