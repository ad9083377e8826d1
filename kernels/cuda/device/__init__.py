"""The GPU as it is: what this machine has of CUDA, and the few calls of it that all else is written against."""
