"""Programs: values and the steps that compute them, in which order they run, on which streams and where in memory."""
