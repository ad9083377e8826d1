"""How a database is reached: where it is, its dialect, its schema, and what its failures mean."""
