"""Real execution on NVIDIA GPUs: the runtime is `runtime.CudaRuntime`, what a user writes for one is in `options`.

From stage to GPU: `lowering` makes a `program`, whose convolutions come from `providers` and whose other operators are
kernels of the `catalogue`, compiled from `sources`; `execution` runs it on the `device`. Importing this package loads
neither CuPy nor cuDNN.
"""
