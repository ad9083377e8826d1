"""Real execution with torch's CPU operators: see `runtime.CpuRuntime`. Importing this package loads no torch."""
