"""Say what a file is that is not an image: from its status, an error number or its first bytes."""

import errno
import os
import re
import stat
from typing import BinaryIO

HEAD_BYTES = 512

_SPECIAL_FILES = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a pipe, not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)
_ERRNO_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "a link that leads back to itself",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ENXIO: "a socket or a device, not a file",
}

# (what it is, a pattern of its first bytes): the first that matches counts.
_NOT_IMAGES = (
    ("a PDF, not an image; make images of its pages first (pdftoppm -png)", rb"\s*%PDF-"),
    ("PostScript, not an image; convert it to PNG first", rb"%!|\xc5\xd0\xd3\xc6"),
    ("a Git LFS pointer, not the image itself", rb"version https://git-lfs\.github\.com/spec/"),
    ("a ZIP archive, not an image", rb"PK(\x03\x04|\x05\x06)"),
    ("a gzip archive, not an image", rb"\x1f\x8b"),
    ("a bzip2 archive, not an image", rb"BZh[1-9]1AY&SY"),
    ("an xz archive, not an image", rb"\xfd7zXZ\0"),
    ("a Zstandard archive, not an image", rb"\x28\xb5\x2f\xfd"),
    ("a 7-Zip archive, not an image", rb"7z\xbc\xaf\x27\x1c"),
    ("a RAR archive, not an image", rb"Rar!\x1a\x07"),
    ("a tar archive, not an image", rb"(?s).{257}ustar"),
    (
        "a video (QuickTime), not an image",
        rb"(?s).{4}(ftypqt  |moov|mdat|wide|free|skip)",
    ),
    (
        "a video (MP4), not an image",
        rb"(?s).{4}ftyp(iso|mp4|avc|M4V|dash|3g|f4v|MSNV)",
    ),
    ("sound (MP4), not an image", rb"(?s).{4}ftypM4[AB]"),
    ("a video (AVI), not an image", rb"(?s)RIFF.{4}AVI "),
    ("sound (WAV), not an image", rb"(?s)RIFF.{4}WAVE"),
    (
        "a video (Matroska or WebM), not an image",
        rb"\x1a\x45\xdf\xa3",
    ),
    (
        "a video (MPEG), not an image",
        rb"\0\0\x01[\xb3\xba]|G(?s:.{187}G){2}",
    ),
    ("a video (Flash), not an image", rb"FLV\x01"),
    ("sound or video (Ogg), not an image", rb"OggS"),
    ("sound (MP3), not an image", rb"ID3[\x02-\x04]"),
    ("sound (FLAC), not an image", rb"fLaC"),
    ("a large Photoshop file (PSB); convert it to PNG first", rb"8BPS\0\x02"),
    ("a GIMP file (XCF); convert it to PNG first", rb"gimp xcf "),
    ("a JPEG XR image; convert it to PNG first", rb"II\xbc[\0\x01]"),
    ("a PAM image; convert it to PNG first", rb"P7\s"),
    ("a Photoshop file of 16 or 32 bits; convert it to PNG first", rb"(?s)8BPS\0\x01.{16}\0[\x10\x20]"),
    ("an OpenEXR image; convert it to PNG first", rb"\x76\x2f\x31\x01"),
    ("a Radiance image; convert it to PNG first", rb"#\?(RADIANCE|RGBE)"),
    ("a DICOM image; convert it to PNG first", rb"(?s).{128}DICM"),
    ("a DjVu document, not an image; convert its pages to PNG first", rb"AT&TFORM"),
    ("an Office document or a thumbnail database, not an image", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("a side file of macOS (AppleDouble), not the image itself", rb"\0\x05\x16\x07"),
    ("a NumPy array, not an image", rb"\x93NUMPY"),
    ("a program, not an image", rb"\x7fELF|MZ\x90\0"),
    ("an image in base64; decode it first", rb"data:image/|/9j/[0-9A-Za-z+/]|iVBORw0KGgo"),
    ("an image damaged by a copy as text", rb"\xef\xbf\xbd(\xef\xbf\xbd|PNG)|\x89PNG(\n\x1a\n|\r\r\n|\r\n\x1a\r)"),
    ("nothing but zero bytes", rb"\0+\Z"),
)
_RAWS = (
    ("Canon CR3", rb"(?s).{4}ftypcrx "),
    ("Canon CR2", rb"(?s)II\*\0.{4}CR"),
    ("Fujifilm", rb"FUJIFILMCCD-RAW"),
    ("Olympus", rb"IIR[OS]|MMOR"),
    ("Panasonic", rb"IIU\0"),
    ("Minolta", rb"\0MRM"),
    ("Sigma", rb"FOVb"),
)
# Each with one lazy step at most: a file must not be able to make the search slow.
_TEXTS = (
    ("a web page (HTML), not an image", rb"(?i)<(!doctype html|html|head|body|script|title|meta)\b"),
    ("an SVG drawing; convert it to PNG first", rb"(?si)<(svg|(\?xml|!--|!doctype svg).*?<svg)[\s>]"),
    ("a web page (HTML), not an image", rb"(?si)<(\?xml|!--).*?<(!doctype html|html|head|body)\b"),
    ("XML, not an image", rb"<\?xml\b"),
    ("JSON, not an image", rb"[\[{]\s*([\"\[{\]}]|-?\d)"),
)
_IMAGES = (
    ("JPEG", rb"\xff\xd8"),
    ("PNG", rb"\x89PNG"),
    ("GIF", rb"GIF8"),
    ("WebP", rb"(?s)RIFF(\Z|.{4}WEBP)"),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    ("AVIF", rb"(?s).{4}ftyp.*avi[fs]"),
    ("HEIC", rb"(?s).{4}ftyp(he|mif1|msf1)"),
    ("JPEG 2000", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    ("BMP", rb"BM(\Z|(?s:.{4})\0\0)"),
    ("icon", rb"\0\0[\x01\x02]\0|icns"),
    ("PPM", rb"P[1-7fFy]\s[\s\d#]"),
    ("Photoshop", rb"8BPS"),
    ("DDS", rb"DDS "),
    ("QOI", rb"qoif"),
)
_OF_ONE_KIND = ("JPEG", "PNG", "GIF", "WebP", "TIFF")  # those whose kinds are all read, or told by their headers
_LEAST_BYTES = 12
_MAX_BOXES = 100  # a file may hold millions of empty ones
_TEXT = re.compile(rb"[\t\n\f\r\x1b -~\x80-\xff]+")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_SHARED_BRANDS = (b"mif1", b"msf1")  # of HEIC and AVIF alike; the compatible brands after them decide


def reason_of(problem: OSError) -> str:
    """Return why the system refused a path, as a short clause."""
    number = problem.errno or 0
    return _ERRNO_REASONS.get(number) or os.strerror(number).lower()


def special_file(mode: int) -> str | None:
    """Return what a file of this `st_mode` is; None for a regular file."""
    return next((reason for is_special, reason in _SPECIAL_FILES if is_special(mode)), None)


def not_an_image(head: bytes) -> str | None:
    """Return what a file with these first bytes is, where Pillow cannot read it for sure; else None."""
    for reason, pattern in _NOT_IMAGES:
        if re.match(pattern, head):
            return f"{reason}; make images of it first (ffmpeg -i VIDEO %04d.png)" if "video" in reason else reason
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for reason, pattern in _TEXTS:
        if re.match(pattern, text):
            return reason
    return None


def image_format(head: bytes) -> str | None:
    """Return the name of the image format whose files begin like this."""
    return next((name for name, pattern in _IMAGES if re.match(pattern, head)), None)


def why_unidentified(head: bytes) -> str:
    """Return why Pillow finds no image in a file that begins like this."""
    if reason := not_an_image(head):
        return reason
    if len(head) < _LEAST_BYTES:
        return f"too short for an image ({len(head)} byte{'s' * (len(head) > 1)})"
    if name := image_format(head):
        article = "an" if name[0] in "Ai" else "a"
        if name in _OF_ONE_KIND:
            return f"{article} {name} file whose header is damaged or cut off"
        return f"{article} {name} file, damaged or of a kind that cannot be read; convert it to PNG first"
    return "text, not an image" if _TEXT.fullmatch(head) else "not an image that Pillow can read"


def raw_kind(head: bytes) -> str | None:
    """Return the kind of RAW photograph that begins like this; those that begin as any TIFF are not told here."""
    return next((name for name, pattern in _RAWS if re.match(pattern, head)), None)


def is_jxl(head: bytes) -> bool:
    """Return whether a file that begins like this is JPEG XL, as a codestream or in boxes."""
    return head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"))


def is_heic(head: bytes) -> bool:
    """Return whether a file that begins like this is HEIF that Pillow alone does not read."""
    length, brand = int.from_bytes(head[:4]), head[8:12]
    if head[4:8] != b"ftyp":
        return False
    compatible = [head[i : i + 4] for i in range(16, min(length, len(head)), 4)]
    return brand in _HEIC_BRANDS or (brand in _SHARED_BRANDS and not {b"avif", b"avis"} & set(compatible))


def is_cut_short(file: BinaryIO) -> bool:
    """Return whether a RIFF file (WebP) or one of boxes (AVIF, HEIC, JPEG 2000) is shorter than its headers say."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF":
        return size < 8 + int.from_bytes(head[4:8], "little")
    if head[4:8] not in (b"ftyp", b"jP  "):
        return False
    start = 0
    for _ in range(_MAX_BOXES):
        if start >= size:
            break
        file.seek(start)
        box = file.read(16)
        length = int.from_bytes(box[:4])
        if length == 1:  # a 64-bit length follows the name
            length = int.from_bytes(box[8:16])
        if length == 0:  # to the end of the file
            return False
        start += max(length, 8)
    return start > size
