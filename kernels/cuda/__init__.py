"""Real execution on NVIDIA GPUs: the runtime is `runtime.CudaRuntime`, the kernels are the `.cu` files beside this one,
and `catalogue` says how to launch them. Importing this package loads neither CuPy nor cuDNN.
"""
