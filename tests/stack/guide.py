"""What docs/installation.md says."""

from tests.stack.stand_ins import ROOT

INSTALLATION = (ROOT / "docs" / "installation.md").read_text()
