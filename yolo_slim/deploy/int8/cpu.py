"""What a CPU has for 8-bit arithmetic, as far as it says so."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

X86 = {"amx_int8": "AMX", "avx512_vnni": "VNNI", "avx_vnni": "VNNI"}
ARM = {"i8mm": "i8mm", "asimddp": "dot products"}
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Cpu:
    """A CPU.

    Attributes:
        known: it says what it has.
        units: names of what multiplies and adds 8-bit numbers in one step.
        x86: the kind of CPU.
        bfloat16: it multiplies bfloat16 numbers, which OpenVINO then takes for a float file.
    """

    known: bool
    units: tuple[str, ...]
    x86: bool
    bfloat16: bool = False

    @property
    def overflows(self) -> bool:
        """Two products are added in 16 bits, which may overflow: weights want 7 bits then."""
        return self.known and self.x86 and not self.units

    def __str__(self) -> str:
        if not self.known:
            return "It is not known whether this CPU has 8-bit arithmetic"
        if self.units:
            return f"This CPU has 8-bit arithmetic ({', '.join(self.units)})"
        missing = "VNNI" if self.x86 else "dot products"
        return f"This CPU has no 8-bit arithmetic of its own (no {missing})"


def this_cpu(text: str | None = None) -> Cpu:
    """The CPU of this machine, by Linux's /proc/cpuinfo; elsewhere it is not known.

    Args:
        text: what stands there; None: it is read.

    Example:
        >>> this_cpu("flags : fpu avx2 avx512_vnni amx_int8").units
        ('AMX', 'VNNI')
        >>> print(this_cpu("flags : fpu avx2"))
        This CPU has no 8-bit arithmetic of its own (no VNNI)
    """
    if text is None:
        try:
            text = CPUINFO.read_text(errors="replace")
        except OSError:
            text = ""
    for line in text.splitlines():
        kind, _, flags = line.partition(":")
        if kind.strip() in ("flags", "Features"):
            x86 = kind.strip() == "flags"
            has = set(flags.split())
            names = (name for flag, name in (X86 if x86 else ARM).items() if flag in has)
            bfloat16 = bool(has & {"amx_bf16", "avx512_bf16", "bf16"})
            return Cpu(True, tuple(dict.fromkeys(names)), x86, bfloat16)
    return Cpu(False, (), platform.machine().lower() in ("x86_64", "amd64"))


def verdict(ratio: float, size: float, runtime: str, cpu: Cpu, rough: bool = False) -> str:
    """In words: whether 8 bits pay on this CPU, and why.

    Args:
        ratio: time of the file in 8 bits over that of the float file.
        size: the same of their bytes.
        runtime: what both ran in.
        cpu: of this machine.
        rough: the times are noisy, so that nothing is said for certain.
    """
    if rough:
        pays = f"Whether 8 bits pay here in {runtime} these times do not show: "
        return f"{pays}{ratio:.2f} of the time, {size:.2f} of the size. {cpu}."
    if ratio <= 0.95:
        pays = f"8 bits pay here in {runtime}: {ratio:.2f} of the time, {size:.2f} of the size."
    else:
        pays = f"8 bits do not pay here in {runtime}: {ratio:.2f} of the time of the float file; "
        pays += f"the file is {size:.2f} of its size."
    why = f"{cpu}."
    if runtime == "OpenVINO" and cpu.bfloat16:
        why += " It has bfloat16 as well, which OpenVINO runs the float file in."
    if ratio > 0.95 and cpu.units:
        why += " Narrow layers, as those of a small model, gain little: they are converted to and "
        why += "from 8 bits for few multiplications."
    elif not cpu.units and cpu.known:
        why += " There an 8-bit product takes as many steps as a float one, or more; another CPU, "
        why += "or a device made for 8 bits, may gain."
    return f"{pays} {why}"
