"""One job, a model on a device at a batch size in a dtype: what it wants measured, and what came of it."""
