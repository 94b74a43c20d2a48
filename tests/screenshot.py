"""A picture of a report for the README: `python tests/screenshot.py results/report.html report.png`.

The page from its title to the end of its figures of scores, and what else it shows, in two columns beside each other.
"""

import io
import sys
from pathlib import Path

from browser import start_browser, visit
from PIL import Image

WIDTH, GAP = 640, 16  # pixels across a column, and between the two


def main(report: Path, output: Path, *, height: int = 1500) -> None:
    """Write the picture; ``height`` is that of a column."""
    with start_browser() as browser, visit(browser, report, width=WIDTH) as seen:
        # Single clips, and those of real people above all, are no part of a picture that goes round the world.
        seen.page.add_style_tag(content="[aria-labelledby=clips], nav { display: none }")
        columns = []
        for start in ("header", "[aria-labelledby=values]"):
            top = seen.page.locator(start).bounding_box()
            assert top is not None
            clip = {"x": 0, "y": top["y"], "width": WIDTH, "height": height}
            columns.append(Image.open(io.BytesIO(seen.page.screenshot(full_page=True, clip=clip))))  # type: ignore[arg-type]
    picture = Image.new("RGB", (2 * WIDTH + GAP, height), "#e4e7ea")
    for number, column in enumerate(columns):
        picture.paste(column, (number * (WIDTH + GAP), 0))
    picture.quantize(128).save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
