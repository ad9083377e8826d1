"""NVIDIA GPUs: kernels (`*.cu`), the catalogue of their launches, and the runtime that executes them."""
