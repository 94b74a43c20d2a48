"""Whether OpenCV, MediaPipe and PyAV load here, with the libraries of the system that they link to.

They are imported by programs of their own: one that crashes or hangs must not take the others' findings with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from smad_features.doctor_packages import HEADLESS, PIP, pip_install
from smad_features.findings import COMMAND, Finding, ask

_LOADS_WITHIN = 120  # seconds: the first import over a slow network file system

# What videos of laboratories are made of; each by one of these decoders of FFmpeg.
CODECS = {
    "H.264": ("h264",),
    "H.265": ("hevc",),
    "MPEG-4 part 2 (DivX, Xvid)": ("mpeg4",),
    "VP8": ("vp8",),
    "VP9": ("vp9",),
    "AV1": ("libdav1d", "libaom-av1", "av1"),
    "Motion JPEG": ("mjpeg",),
    "Windows Media 9": ("wmv3",),
    "VC-1": ("vc1",),
    "ProRes": ("prores",),
    "uncompressed": ("rawvideo",),
}
_LIST_DECODERS = """
import sys, av
def has(name):
    try:
        return not av.codec.Codec(name, "r").is_encoder
    except ValueError:
        return False
print(av.__version__, *(name for name in sys.argv[1:] if has(name)))
"""


def check_opencv(installed: Mapping[str, str], *, locked: Mapping[str, str], python: str = sys.executable) -> Finding:
    """Exactly one OpenCV, and it loads."""
    wheels = sorted(name for name in installed if re.fullmatch(r"opencv(-contrib)?-python(-headless)?", name))
    install = pip_install(HEADLESS, locked=locked, options="--force-reinstall ")
    if len(wheels) != 1:
        # They all bring the same folder `cv2`: what loads is a mixture, and taking one away takes files of the other.
        several = f"{len(wheels)} packages bring OpenCV, and overwrite each other: {', '.join(wheels)}"
        remove = f"{COMMAND}{PIP} uninstall -y {' '.join(wheels)}\n" if wheels else ""
        told = "Remove them all, then install the one:\n" if wheels else "Install it:\n"
        return Finding("opencv", "fault", several if wheels else "OpenCV is not installed", f"{told}{remove}{install}")
    answer = ask([python, "-P", "-c", "import cv2; print(cv2.__version__)"], seconds=_LOADS_WITHIN)
    name = f"{wheels[0]} {installed[wheels[0]]}"
    if answer.status == 0:
        return Finding("opencv", "ok", f"{name}, loads")
    if missing := re.search(r"lib(GL|gthread|glib|SM|Xext|Xrender|X11)[\w.-]*\.so[\w.]*", answer.error):
        return Finding(
            "opencv",
            "fault",
            f"{name} does not load: it needs {missing[0]}, a library for machines with a screen",
            "Take the OpenCV that needs no screen, it is the same otherwise:\n"
            f"{COMMAND}{PIP} uninstall -y {wheels[0]}\n{install}\n"
            f"or install what this one needs:\n{COMMAND}sudo apt-get install -y libgl1 libglib2.0-0",
        )
    return Finding("opencv", "fault", f"{name} does not load: {answer.last}", f"Install it anew:\n{install}")


def check_mediapipe(
    installed: Mapping[str, str], *, locked: Mapping[str, str], python: str = sys.executable
) -> Finding:
    """Mediapipe's generation, and whether it loads with the system libraries that it links to."""
    version = installed.get("mediapipe")
    install = f"Install it:\n{pip_install('mediapipe', locked=locked)}"
    if version is None:
        return Finding("mediapipe", "fault", "mediapipe is not installed: no face can be found", install)
    if int(version.partition(".")[0]) < 1:
        found = f"mediapipe {version} is of the old generation (`mediapipe.solutions`): want 1.2 or newer, below 2"
        return Finding("mediapipe", "fault", found, install)
    # Bindings load their libraries late: only this import comes to them.
    answer = ask([python, "-P", "-c", "from mediapipe.tasks.python import vision"], seconds=_LOADS_WITHIN)
    probe = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    libraries = {"libEGL.so.1": "libegl1", "libGLESv2.so.2": "libgles2"}
    missing = [
        name for name in libraries if name in answer.error or ask([python, "-c", probe, name]).status not in (0, None)
    ]
    if missing:
        return Finding(
            "mediapipe",
            "fault",
            f"mediapipe {version} needs {' and '.join(missing)} of the system, which cannot be loaded",
            "Install them (they need no screen and no GPU):\n"
            f"{COMMAND}sudo apt-get install -y --no-install-recommends {' '.join(libraries[n] for n in missing)}\n"
            "or, without administrator's rights, with conda:\n"
            f"{COMMAND}conda install -c conda-forge libegl libgles",
        )
    if answer.status != 0:
        return Finding("mediapipe", "fault", f"mediapipe {version} does not load: {answer.last}", install)
    return Finding("mediapipe", "ok", f"mediapipe {version}, loads, with libEGL and libGLESv2")


def check_codecs(
    *, locked: Mapping[str, str], python: str = sys.executable, codecs: Mapping[str, tuple[str, ...]] = CODECS
) -> Finding:
    """The decoders of the FFmpeg in PyAV."""
    names = [name for decoders in codecs.values() for name in decoders]
    answer = ask([python, "-P", "-c", _LIST_DECODERS, *names], seconds=_LOADS_WITHIN)
    install = pip_install("av", locked=locked, options="--force-reinstall --only-binary=av ")
    if answer.status != 0:
        mend = f"Without it no video can be read. Install it anew:\n{install}"
        return Finding("video codecs", "fault", f"PyAV does not load: {answer.last}", mend)
    version, *there = answer.output.split()
    absent = [kind for kind, decoders in codecs.items() if not set(decoders) & set(there)]
    if absent:
        return Finding(
            "video codecs",
            "fault" if "H.264" in absent else "warning",
            f"the FFmpeg of PyAV {version} cannot decode {', '.join(absent)}",
            f"Clips of such videos would be quarantined. The wheel of PyAV decodes them all, a build of your own or"
            f" conda's may not:\n{install}",
        )
    return Finding("video codecs", "ok", f"PyAV {version} decodes {', '.join(codecs)}")
