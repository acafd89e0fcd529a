"""What docs/installation.md gives to be copied."""

import re

from tests.stack.stand_ins import ROOT

INSTALLATION = (ROOT / "docs" / "installation.md").read_text()


def guides_demo() -> dict[str, str]:
    """The settings of the demo."""
    (block,) = re.findall(r"with this `\.env`:\n\n```\n(.*?)```", INSTALLATION, re.DOTALL)
    return dict(line.split("=", maxsplit=1) for line in block.splitlines())
