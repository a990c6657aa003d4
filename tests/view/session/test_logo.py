"""The logo, which a browser may draw with another font than ours."""

from __future__ import annotations

from xml.etree import ElementTree

from sim_core.view.session import shell

SVG = "{http://www.w3.org/2000/svg}"


def test_the_name_ends_within_the_picture() -> None:
    """By hand: whatever the font, the name takes the width that is given to it, which there is."""
    logo = ElementTree.parse(shell._HERE / "logo.svg").getroot()
    _, _, width, height = map(float, logo.attrib["viewBox"].split())
    (name,) = logo.iter(f"{SVG}text")
    assert float(name.attrib["x"]) + float(name.attrib["textLength"]) <= width - 2
    assert name.attrib["lengthAdjust"] == "spacingAndGlyphs"
    assert float(name.attrib["y"]) < height
