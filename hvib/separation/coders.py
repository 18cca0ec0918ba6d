"""Source coders of images: how many bits each image takes, and what is decoded from them.

Three families. `jpeg` and `webp` are the standards; of their files only the entropy-coded part is
counted, since all else can be agreed on beforehand. `pixels` is what an engineer would build for
tiny images: fewer pixels, fewer levels of grey, and an arithmetic coder whose probabilities are
counted on training images, given the neighbours already sent. With 256 levels and all pixels it is
lossless. Its bits are the ideal code length, which an arithmetic coder exceeds by up to two bits:
that favours it a little.
"""

import io
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, features
from torch import Tensor

from hvib.check import require, require_known
from hvib.checks.numbers import count

Images = UInt8[Tensor, "N C H W"]

KINDS = ("JPEG", "WebP", "pixels")


@dataclass(frozen=True)
class Setting:
    """One way to code an image.

    Args:
        coder: of `KINDS`.
        size: rows and columns that the image is shrunk to before.
        level: the quality of JPEG, 1 to 95, and of WebP, 0 to 100; the number of levels of grey
            of `pixels`, 2 to 256.

    Raises:
        ValueError: a coder is unknown, a size is below 1, or a level is out of its range.
    """

    coder: str
    size: int
    level: int

    def __post_init__(self) -> None:
        require_known("coder", self.coder, KINDS)
        count("size", self.size)
        low, high = {"JPEG": (1, 95), "WebP": (0, 100), "pixels": (2, 256)}[self.coder]
        require(low <= self.level <= high, "level", self.level, f"give {low} to {high}")

    @property
    def name(self) -> str:
        """As a record has it: `14x14 q5`, `14x14 2 levels`."""
        of = f"{self.level} levels" if self.coder == "pixels" else f"q{self.level}"
        return f"{self.size}x{self.size} {of}"


def shrink(images: Images, size: int) -> Images:
    """Images with fewer pixels, smoothed before."""
    if images.shape[-1] == size:
        return images
    small = F.interpolate(
        images.float(), (size, size), mode="bicubic", antialias=True, align_corners=False
    )
    return small.round_().clamp_(0, 255).byte()


def grow(images: Images, size: int) -> Images:
    """Decoded images at the size that the classifier takes."""
    if images.shape[-1] == size:
        return images
    large = F.interpolate(images.float(), (size, size), mode="bicubic", align_corners=False)
    return large.round_().clamp_(0, 255).byte()


def jpeg_payload(file: bytes) -> int:
    """Bytes of a JPEG file's entropy-coded scan: what follows its one header SOS, without EOI.

    Source: ITU-T Recommendation T.81, annex B.

    Raises:
        ValueError: there is no scan.
    """
    start = file.find(b"\xff\xda")
    require(start >= 0, "file", file[:8], "give the bytes of a JPEG file")
    return len(file) - start - 2 - int.from_bytes(file[start + 2 : start + 4]) - 2


WEBP_HEADERS = 30
"""Bytes of a lossy WebP file that say nothing of the image but its size: 12 of RIFF, 8 of the
chunk, 10 of the key frame (RFC 6386, section 9.1)."""


def standard_coded(
    images: Images, coder: str, quality: int
) -> tuple[Float[np.ndarray, " N"], Images]:
    """Each image by a standard: its bits, in whole bytes and without headers, and its decoding.

    JPEG has the standard's own tables, which both ends know: tables of an image's own would tell
    of the image and not be counted.

    Raises:
        ValueError: Pillow here was built without the coder.
    """
    able = bool(features.check("webp" if coder == "WebP" else "jpg"))
    require(able, "coder", coder, "this Pillow has none; install the wheel of its project")
    settings = {"method": 6} if coder == "WebP" else {}
    gray = images.shape[1] == 1
    bits, decoded = np.empty(len(images)), torch.empty_like(images)
    for k, image in enumerate(images.permute(0, 2, 3, 1).numpy()):  # (H, W, C)
        buffer = io.BytesIO()
        one = Image.fromarray(image[..., 0] if gray else image)
        # WebP has no grey: its colour planes are flat then, and cost next to nothing.
        (one.convert("RGB") if coder == "WebP" else one).save(
            buffer, coder, quality=quality, **settings
        )
        size = len(buffer.getvalue())
        bits[k] = 8 * (size - WEBP_HEADERS if coder == "WebP" else jpeg_payload(buffer.getvalue()))
        back = np.array(Image.open(buffer).convert("L" if gray else "RGB"))
        decoded[k] = torch.from_numpy(back[None] if gray else back.transpose(2, 0, 1))
    return bits, decoded


def _levels_of(images: Images, levels: int) -> Int[np.ndarray, "N C H W"]:
    return (images.numpy().astype(np.int32) * levels) // 256


def _contexts(symbols: Int[np.ndarray, "N C H W"], levels: int) -> Int[np.ndarray, "N C H W"]:
    """The number of each pixel's context: what was sent before it around it, and where it lies.

    Two levels take the ten neighbours of JBIG's template, more levels fewer and coarser ones.
    Outside the image all is dark.
    """
    kept = 10 if levels == 2 else 5 if levels <= 4 else 3
    coarse = min(levels, 8 if kept == 3 else 4)
    offsets = [(0, 1), (1, 0), (1, -1), (1, 1), (0, 2), (2, 0), (1, 2), (1, -2), (2, 1), (2, -1)]
    seen = symbols * coarse // levels
    padded = np.pad(seen, ((0, 0), (0, 0), (2, 0), (2, 2)))
    height, width = symbols.shape[-2:]
    # Centred digits differ in their rows and columns: a third of the image each.
    thirds = [3 * np.arange(n) // n for n in (height, width)]
    found = np.zeros_like(symbols) + thirds[0][:, None] * 3 + thirds[1]
    channels = symbols.shape[1]
    found = found * channels + np.arange(channels)[:, None, None]
    for down, left in offsets[:kept]:
        rows = slice(2 - down, 2 - down + height)
        found = found * coarse + padded[:, :, rows, 2 - left : 2 - left + width]
    return found


@dataclass
class PixelCoder:
    """An ideal arithmetic coder of images of few levels, with probabilities of training images.

    Args:
        levels: of grey, evenly spaced.
        images: (N, C, H, W), training images at the size that is sent.

    Raises:
        ValueError: the number of levels is not 2 to 256.
    """

    levels: int
    images: Images = field(repr=False)

    def __post_init__(self) -> None:
        require(2 <= self.levels <= 256, "levels", self.levels, "give 2 to 256")
        symbols = _levels_of(self.images, self.levels)
        numbers = _contexts(symbols, self.levels) * self.levels + symbols
        length = int(numbers.max()) // self.levels + 1
        seen = np.bincount(numbers.ravel(), minlength=length * self.levels)
        counts = seen.reshape(length, self.levels).astype(float)
        # The last row is for contexts that no training image has.
        counts = np.concatenate([counts, counts.sum(0, keepdims=True)])
        # Half a count for each level of what was never seen, less where there are many levels.
        counts += min(0.5, 4 / self.levels)
        counts[:-1][counts[:-1].sum(1) < 1 + counts.min() * self.levels] = counts[-1]
        self.bits = -np.log2(counts / counts.sum(1, keepdims=True))

    def __call__(self, images: Images) -> tuple[Float[np.ndarray, " N"], Images]:
        """The bits of each image, and its decoding, in which the end levels are black and white."""
        symbols = _levels_of(images, self.levels)
        index = _contexts(symbols, self.levels).clip(max=len(self.bits) - 1)
        bits = self.bits[index, symbols].sum((1, 2, 3))
        decoded = torch.from_numpy((symbols * 255 // (self.levels - 1)).astype(np.uint8))
        return bits, decoded


@dataclass
class Coder:
    """A setting, ready to code: one of `pixels` has counted its probabilities on training images.

    Args:
        train: (N, C, H, W), training images at their full size.
    """

    setting: Setting
    train: Images = field(repr=False)

    def __post_init__(self) -> None:
        self.own = None
        if self.setting.coder == "pixels":
            self.own = PixelCoder(self.setting.level, shrink(self.train, self.setting.size))
        self.full = self.train.shape[-1]

    def __call__(self, images: Images) -> tuple[Float[np.ndarray, " N"], Images]:
        """The bits of each image, and its decoding at full size."""
        small, setting = shrink(images, self.setting.size), self.setting
        coded = self.own(small) if self.own else standard_coded(small, setting.coder, setting.level)
        return coded[0], grow(coded[1], self.full)


def lossless(train: Images, images: Images) -> dict[str, Float[np.ndarray, " N"]]:
    """The bits of each image without loss: raw, by PNG's data alone, and by an ideal coder.

    Args:
        train: (N, C, H, W), on which the ideal coder counts its probabilities.
    """
    raw = 8.0 * images[0].numel()
    png = np.array([_png_payload(image) for image in images.permute(0, 2, 3, 1).numpy()])
    ideal = PixelCoder(256, train)(images)[0]
    return {"raw": np.full(len(images), raw), "PNG": 8.0 * png, "arithmetic coder": ideal}


def _png_payload(image: UInt8[np.ndarray, "H W C"]) -> int:
    """Bytes of the data of an image's PNG file, all chunks IDAT, with the best of its filters."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "PNG", optimize=True
    )
    file, at, found = buffer.getvalue(), 8, 0
    while at < len(file):
        length = int.from_bytes(file[at : at + 4])
        found += length if file[at + 4 : at + 8] == b"IDAT" else 0
        at += 12 + length
    return found
