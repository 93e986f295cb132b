"""The step on a GPU."""
