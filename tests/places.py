"""Where things are. A test that moves to another room changes nothing here."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "tests" / "samples"
SHARED = ROOT.parent / "shared"  # reference tables and traces that are no part of the product
