"""H.264 numbers the pictures that others refer to: the numbers tell whether one of them is lost between two packets.

A decoder conceals such a loss without a word, and paints all that follows over the wrong picture, up to the next key
frame. Source of the layout: ITU-T H.264 (08/2021), 7.3.2.1.1 (sequence parameter set) and 7.3.3 (slice header).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# profile_idc of the profiles whose parameter set describes the chroma format; ITU-T H.264, 7.3.2.1.1.
_WITH_CHROMA_FORMAT = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_SLICE, _KEY_SLICE, _SEQUENCE_PARAMETERS = 1, 5, 7  # nal_unit_type
_READ = 64  # bytes of a unit that are looked at: what is wanted stands in front


@dataclass(frozen=True)
class Numbering:
    """How a stream numbers its pictures."""

    length_size: int  # bytes of a unit's length in front of it; 0 = units are parted by start codes
    bits: int  # of frame_num
    separate_planes: bool


class _Bits:
    """Bits of a unit in their order."""

    def __init__(self, unit: bytes) -> None:
        plain = unit.replace(b"\0\0\3", b"\0\0")  # 7.4.1: the 3 only keeps start codes out of the content
        self._bits = "".join(f"{byte:08b}" for byte in plain)
        self._at = 0

    def fixed(self, count: int) -> int:
        self._at += count
        if self._at > len(self._bits):
            raise ValueError("the unit ends too soon")
        return int(self._bits[self._at - count : self._at], 2)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code; 9.1."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.fixed(zeros + 1) - 1


def read_numbering(parameters: bytes | None) -> Numbering | None:
    """From a decoder's parameters (`extradata`); None where they do not say, or where numbers may be left out."""
    if not parameters:
        return None
    length_size = (parameters[4] & 3) + 1 if parameters[0] == 1 and len(parameters) > 8 else 0
    if length_size:
        units = [parameters[8 : 8 + int.from_bytes(parameters[6:8], "big")]]
    else:
        units = [unit for unit in re.split(b"\0\0\1", parameters) if unit and unit[0] & 31 == _SEQUENCE_PARAMETERS]
    try:
        return _numbering(_Bits(units[0][1:]), length_size) if units else None
    except ValueError:  # damaged parameters: the decoder will say so
        return None


def _numbering(bits: _Bits, length_size: int) -> Numbering | None:
    profile = bits.fixed(8)
    bits.fixed(16)  # constraints and level
    bits.golomb()
    separate_planes = False
    if profile in _WITH_CHROMA_FORMAT:
        if bits.golomb() == 3:
            separate_planes = bool(bits.fixed(1))
        bits.golomb()
        bits.golomb()
        bits.fixed(1)
        if bits.fixed(1):  # scaling matrices, which hardly anybody writes, would have to be read over
            return None
    count = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.fixed(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    return None if bits.fixed(1) else Numbering(length_size, count, separate_planes)  # the last: gaps are allowed


def loses_a_picture(before: bytes, after: bytes, numbering: Numbering) -> bool:
    """Whether a picture that others refer to is missing between two packets that follow each other in decoding.

    After a picture that others may refer to the number grows by one, else it stays (7.4.3); the two fields of one
    picture share it. A key picture begins anew: nothing can be told.
    """
    try:
        first, second = (_first_slice(packet, numbering) for packet in (before, after))
    except ValueError:
        return False
    if first is None or second is None or second[0]:
        return False
    grown = (second[2] - first[2]) % (1 << numbering.bits)
    return grown not in (0, int(first[1]))


def _first_slice(packet: bytes, numbering: Numbering) -> tuple[bool, bool, int] | None:
    """Of a packet's first slice: whether it is a key picture's, whether others may refer to it, and its number."""
    for unit in _units(packet, numbering.length_size):
        if unit and unit[0] & 31 in (_SLICE, _KEY_SLICE):
            bits = _Bits(unit[1:])
            for _ in range(3):  # first macroblock, type, parameter set
                bits.golomb()
            if numbering.separate_planes:
                bits.fixed(2)
            return unit[0] & 31 == _KEY_SLICE, bool(unit[0] >> 5 & 3), bits.fixed(numbering.bits)
    return None


def _units(packet: bytes, length_size: int) -> list[bytes]:
    """The beginnings of a packet's units."""
    if not length_size:
        return [packet[found.end() : found.end() + _READ] for found in re.finditer(b"\0\0\1", packet)]
    units, at = [], 0
    while at + length_size < len(packet):
        length = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        units.append(packet[at : at + min(length, _READ)])
        at += length
    return units
