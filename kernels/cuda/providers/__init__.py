"""Who can compute an operator: cuDNN or our own kernels; what competes is timed, and what won is remembered."""
