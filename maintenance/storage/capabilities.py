"""The capabilities with which a process works on files of other users.

Which ones a process holds is read from the kernel: under a container engine or systemd neither the
user's id nor the settings of the service tell it.
"""

from pathlib import Path

CHOWN, DAC_OVERRIDE, FOWNER = "CHOWN", "DAC_OVERRIDE", "FOWNER"

NUMBERS = {CHOWN: 0, DAC_OVERRIDE: 1, FOWNER: 3}
"""The bits of the capabilities, in the order in which messages name them."""

STATUS = Path("/proc/thread-self/status")


def held_capabilities() -> frozenset[str]:
    """Return those of the three that this thread holds; none where there are no capabilities."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return frozenset()
    effective = next((line for line in lines if line.startswith("CapEff:")), "CapEff: 0")
    bits = int(effective.split()[1], 16)
    return frozenset(name for name, number in NUMBERS.items() if bits >> number & 1)
