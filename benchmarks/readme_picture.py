"""The pictures of README.md: the page of a run, photographed, and the curve of its model.

    yolo-slim sparse --weights yolov5n.pt --data bccd.yaml --img 320 --epochs 24 --name dense
    W=runs/train/dense/weights/best.pt
    yolo-slim slim --weights $W --data bccd.yaml --img 320 --macs 0.45 --epochs 24 --name cells
    yolo-slim curve $W --data bccd.yaml --imgsz 320 --trained runs/slim/cells --name cells
    python benchmarks/readme_picture.py runs/slim/cells runs/curve/cells

`bccd.yaml` names the folders of BCCD (see ../shared/data). Needs Chromium, its driver and selenium.
"""

from __future__ import annotations

import shutil
import sys
from base64 import b64decode
from pathlib import Path

from _common import parser

from yolo_slim.files import write_aside

PAGE, CURVE = "report.html", "curve.png"
WIDTH, SCALE = 1120, 1  # px of the window; dots of the picture for one of them
END = ".compare"  # the last element that is in the picture
MARGIN = 4  # px below it
FLAGS = ("--headless=new", "--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND")


def main() -> None:
    args = parser(__doc__)
    args.add_argument("slim", type=Path, help="folder of a run, with its report.html")
    args.add_argument("curve", type=Path, help="folder of a run of curve, with its curve.png")
    args.add_argument("--out", type=Path, default=Path("docs/img"), help="folder")
    opt = args.parse_args()
    for file in (opt.slim / PAGE, opt.curve / CURVE):
        if not file.is_file():
            sys.exit(f"{file} is not there: make the runs first (see the top of this file)")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        sys.exit("chromium and chromedriver are needed to photograph the page")
    print(write_aside(opt.out / "before-after.png", photograph(opt.slim / PAGE)))
    print(write_aside(opt.out / CURVE, (opt.curve / CURVE).read_bytes()))


def photograph(page: Path) -> bytes:
    """The page from its top to the pictures before and after, as a PNG."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    with Chrome(options, ChromeService(shutil.which("chromedriver"))) as driver:
        view = {"width": WIDTH, "height": 900, "deviceScaleFactor": SCALE, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
        driver.get(page.absolute().as_uri())
        code = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
        bottom = driver.execute_script(code, END)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": bottom + MARGIN, "scale": 1}
        taken = driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )
    return b64decode(taken["data"])


if __name__ == "__main__":
    main()
