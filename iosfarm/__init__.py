"""iosfarm decides which stages are worth measuring; workers measure them; kernels execute them; db remembers them."""
