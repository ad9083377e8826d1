"""The GPU check: everything that can only be tried on a GPU, by one command, without network and without Ray.

`iosfarm doctor --gpu` runs it. Each section runs in a process of its own with a time of its own, and writes what it has
found as it goes: a crash or a hang loses a section's rest, and no other section.
"""
