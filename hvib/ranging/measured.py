"""Read a reader's own ranging measurements from a file."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from hvib.check import require
from hvib.ranging.simulate import Link, Measurements


def load_measurements(path: str | Path, link: Link) -> Measurements:
    """Read measured responses and their true delays from an `.npz` or a `.csv` file.

    An `.npz` file has two arrays: `response`, complex, (N, tones) or (N, antennas, tones), and
    `delay_ns`, (N,), in nanoseconds. A `.csv` file has a header, one row for each response and
    the columns, in any order, `delay_ns` and `h_re_k` and `h_im_k` for the tones k = 0, 1, …; on
    a link of several antennas these are `h_re_a_k` and `h_im_a_k` for antenna a. Both kinds may
    also state `first_hz` and `spacing_hz`, which must then equal the link's.

    A two-way response is the product of both directions' responses. Its delay is nevertheless the
    time that the signal takes one way.

    Args:
        path: the file.
        link: the tones, antennas and directions that were measured.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the content differs from the above; the message names the part and the mend.
    """
    path = Path(path)
    kind = path.suffix.lower()
    require(kind in (".npz", ".csv"), "path", str(path), "give an .npz or a .csv file")
    found = _read_npz(path) if kind == ".npz" else _read_csv(path, link)
    known = ("response", "delay_ns", "first_hz", "spacing_hz")
    for name in found:
        # A name without its unit, such as `delay`, is a likely slip, so the message gives the unit.
        unit = next((full for full in known if full.startswith(f"{name}_")), None)
        mend = f"say the unit, as {unit}" if unit else f"unknown; {path.name} can have {known}"
        require(name in known, "name", name, mend)
    for name in known[:2]:
        require(name in found, name, None, f"missing in {path.name}")
    for name in known[2:]:
        ours = getattr(link, name)
        value = found.get(name, np.array(ours))
        require(bool(np.all(value == ours)), name, value, f"the link has {ours!r}")
    h, delay = found["response"], found["delay_ns"]
    right = h.ndim > 0 and len(h) > 0 and h.shape[1:] == link.shape and np.iscomplexobj(h)
    shape = ", ".join(map(str, ("N", *link.shape)))
    require(right, "response", f"{h.dtype} {h.shape}", f"give complex numbers, ({shape})")
    require(delay.shape == h.shape[:1], "delay_ns", delay.shape, f"give {len(h)}, one a response")
    require(delay.dtype.kind in "iuf", "delay_ns", str(delay.dtype), "give real numbers")
    # The loops below stop at the first bad value, so that the message can give its place.
    with np.errstate(over="ignore", under="ignore"):
        single = h.astype(np.complex64)
    for at in np.argwhere(~np.isfinite(single)):
        mend = "give finite numbers, in a unit in which they are not beyond 1e38"
        require(False, f"response{at.tolist()}", complex(h[tuple(at)]), mend)
    # A response of zeros has no phase, so it says nothing about a delay.
    for i in np.flatnonzero(~single.reshape(len(h), -1).any(1)):
        mend = "nothing but 0 was measured, or below 1e-45; leave it out"
        require(False, f"response[{i}]", 0, mend)
    for i in np.flatnonzero(~((delay >= 0) & (delay < link.unambiguous_ns))):
        mend = f"give nanoseconds from 0 to {link.unambiguous_ns:g}, what the tones tell apart"
        require(False, f"delay_ns[{i}]", float(delay[i]), mend)
    return Measurements(link, single, delay.astype(float))


def _read_npz(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read all arrays of an `.npz` file by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no `.npz` of plain arrays.
    """
    try:
        # Without allow_pickle: a reader's file must not run code.
        with path.open("rb") as stream, np.load(stream) as file:
            return dict(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"path = {str(path)!r}: no npz file of plain arrays ({error})") from error


def _read_csv(path: Path, link: Link) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read the columns of a `.csv` file by name, with those of the response joined into one array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no comma-separated UTF-8, a column is missing or named twice, or a cell
            holds no number.
    """
    header, *cells = _cells(path)
    for name in header:
        require(header.count(name) == 1, "name", name, f"given twice in {path.name}")
    try:
        for number, row in enumerate(cells, 1):
            mend = f"the header has {len(header)}"
            require(len(row) == len(header), f"cells of row {number}", len(row), mend)
            comma = next((cell for cell in row if "," in cell), "")
            require(not comma, f"row {number}", comma, "write its numbers with a point")
        # comments=None, because loadtxt would otherwise cut a cell at `#` silently.
        rows = np.loadtxt(map(",".join, cells), delimiter=",", ndmin=2, comments=None)
        columns = dict(zip(header, rows.T, strict=True))
    except ValueError as error:
        message = f"path = {str(path)!r}: give a number in each cell, as many as names ({error})"
        raise ValueError(message) from error

    def part(name: str) -> Float[np.ndarray, "N *shape"]:
        wanted = ["_".join(map(str, (name, *at))) for at in np.ndindex(link.shape)]
        for column in wanted:
            require(column in columns, column, None, f"missing; the link has {link.shape}")
        # `pop`, so that `load_measurements` can refuse what is left as unknown.
        return np.stack([columns.pop(column) for column in wanted], 1).reshape(-1, *link.shape)

    h = part("h_re").astype(complex)
    h.imag = part("h_im")
    return {"response": h, **columns}


def _cells(path: Path) -> list[list[str]]:
    """The rows of a `.csv` file, the header first, without the quotes around cells.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no UTF-8, has no header and row, or its cells are not parted by commas.
    """
    try:
        # utf-8-sig drops the mark that spreadsheets put at the start of a file.
        text = path.read_bytes().decode("utf-8-sig")
        # UTF-16 without a mark is UTF-8 by its letter: each second byte is a zero.
        utf8 = "\0" not in text
    except UnicodeDecodeError:
        utf8 = False
    require(utf8, "path", str(path), "it is no UTF-8 text: save it as `CSV UTF-8`")
    first = next((line for line in text.splitlines() if line.strip()), "")
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        mend = f"{name} part its cells: save it with commas, and points in its numbers"
        require(mark not in first, "path", str(path), mend)
    try:
        parsed = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
        rows = [[cell.strip() for cell in row] for row in parsed if any(map(str.strip, row))]
    except csv.Error as error:  # a cell without an end
        raise ValueError(f"path = {str(path)!r}: its quotes do not pair up ({error})") from error
    require(len(rows) > 1, "path", str(path), "give a header and a row for each response")
    # R and pandas write the rows' own names into a first column without a name.
    return [row[1:] for row in rows] if rows[0][0] == "" else rows
