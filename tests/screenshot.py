"""A picture of a report for the README: `python tests/screenshot.py results/report.html report.png`.

Its first sections in two columns beside each other.
"""

import io
import sys
from pathlib import Path

from browser import start_browser, visit
from PIL import Image

WIDTH, COLUMN, GAP = 1000, 640, 16  # pixels across the page, across a column of the picture, between the two


def main(report: Path, output: Path, *, height: int = 1560) -> None:
    """Write the picture; ``height`` is that of a column."""
    with start_browser() as browser, visit(browser, report, width=WIDTH) as seen:
        # Single clips, and those of real people above all, are no part of a picture that goes round the world.
        seen.page.add_style_tag(content="[aria-labelledby=clips], nav { display: none }")
        columns = []
        for start in ("header", "[aria-labelledby=emotion]"):
            top = seen.page.locator(start).bounding_box()
            assert top is not None
            clip = {"x": 0, "y": top["y"], "width": WIDTH, "height": height * WIDTH / COLUMN}
            shot = Image.open(io.BytesIO(seen.page.screenshot(full_page=True, clip=clip)))  # type: ignore[arg-type]
            columns.append(shot.convert("RGB").resize((COLUMN, height), Image.Resampling.LANCZOS))
    picture = Image.new("RGB", (2 * COLUMN + GAP, height), "#e4e7ea")
    for number, column in enumerate(columns):
        picture.paste(column, (number * (COLUMN + GAP), 0))
    picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
