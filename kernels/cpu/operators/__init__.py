"""Operators that are prepared once and told where to write: by oneDNN where it has them, else by torch."""
