"""What a CUDA error means for who gets it: try again, give up on the stage, or give up on the process."""

from __future__ import annotations

from iosfarm.ir.errors import DeviceLost

INVALID_DEVICE = 101
OUT_OF_MEMORY = 2

FATAL = {
    39: "the device hit a memory error that cannot be corrected",
    46: "the device is used by another process exclusively, or was lost",
    214: "the device hit a memory error that cannot be corrected",
    226: "an error was contained by ending this process",
    700: "a kernel used memory that is not its own",
    702: "a kernel ran longer than the system allows",
    710: "a kernel's assertion failed",
    714: "a hardware stack error",
    715: "a kernel met an illegal instruction",
    716: "a kernel used a misaligned address",
    717: "a kernel used an invalid address space",
    718: "a kernel jumped to an invalid address",
    719: "a kernel failed",
    721: "a cooperating device failed",
    999: "the driver reports an unknown error; the device may be gone",
}
"""CUDA's error codes (runtime and driver share them) after which every call of the same process fails."""


def translated(error: Exception) -> Exception:
    """A CUDA library's exception as what the contract of `Runtime` raises; others as they are.

    The code counts, not the words: both CuPy's runtime and driver errors carry it as `status`.
    """
    code = getattr(error, "status", None)
    if not isinstance(code, int):
        return error
    if code in FATAL:
        return DeviceLost(f"{FATAL[code]} (CUDA error {code})", hint="this process cannot use the GPU any more")
    if code == OUT_OF_MEMORY:
        return MemoryError(f"the GPU is out of memory (CUDA error {code})")
    return RuntimeError(f"CUDA error {code}: {' '.join(str(error).split())}")
