"""Real execution on the CPU, by oneDNN and torch: see `runtime.CpuRuntime`. Importing this package loads no torch."""
