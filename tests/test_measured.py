"""Measurements of one's own, read from files."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_simulate import LINKS

from hvib.ranging.measured import load_measurements
from hvib.ranging.simulate import (
    BLUETOOTH,
    WIFI,
    Link,
    Measurements,
    examples,
    simulate,
)


def write_npz(path: Path, measured: Measurements, **changes: object) -> Path:
    content = {"response": measured.response, "delay_ns": measured.delay_ns, **changes}
    arrays = {name: np.asarray(value) for name, value in content.items() if value is not None}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def write_csv(path: Path, measured: Measurements, edit: Callable[[str], str] = str) -> Path:
    names = ["_".join(map(str, at)) for at in np.ndindex(measured.link.shape)]
    header = [f"h_{part}_{name}" for name in names for part in ("re", "im")]
    flat = measured.response.reshape(len(measured), -1)
    parts = np.stack([flat.real, flat.imag], 2).reshape(len(flat), -1)
    rows = [
        [repr(float(v)) for v in (*part, delay)]
        for part, delay in zip(parts, measured.delay_ns, strict=True)
    ]
    path.write_text(edit("\n".join(map(",".join, [[*header, "delay_ns"], *rows]))) + "\n")
    return path


def quoted(text: str) -> str:
    """Each cell in quotes."""
    cells = [[f'"{cell}"' for cell in line.split(",")] for line in text.splitlines()]
    return "\n".join(map(",".join, cells))


def named_rows(text: str) -> str:
    """A first column of row names, without a name of its own, as R's `write.csv` makes it."""
    header, *rows = text.splitlines()
    names = [f'"{name}"' for name in header.split(",")]
    return "\n".join([",".join(['""', *names]), *(f'"{i}",{row}' for i, row in enumerate(rows))])


@LINKS
def test_measurements_come_back_from_either_file(link: Link, tmp_path: Path) -> None:
    ours = simulate(link, 4, 0)
    more = {"first_hz": link.first_hz, "spacing_hz": link.spacing_hz}
    files = [
        write_npz(tmp_path / "a.npz", ours),
        write_npz(tmp_path / "b.npz", ours, **more),
        write_csv(tmp_path / "a.csv", ours),
        write_csv(tmp_path / "b.csv", ours, lambda text: "\ufeff" + text.replace(",", " , ")),
        write_csv(tmp_path / "c.csv", ours, quoted),
        write_csv(tmp_path / "d.csv", ours, lambda text: quoted(text).replace(",", " , ")),
        write_csv(tmp_path / "e.csv", ours, named_rows),
        write_csv(tmp_path / "f.csv", ours, lambda text: text.replace("\n", "\r\n") + "\r\n,,\r\n"),
    ]
    for path in files:
        found = load_measurements(str(path), link)
        assert found.link is link
        assert found.response.dtype == np.complex64
        assert np.array_equal(found.response, ours.response)
        assert np.array_equal(found.delay_ns, ours.delay_ns)
        assert found.paths is None
        assert torch.equal(examples(found).x, examples(ours).x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"response": None}, "response = None: missing in a.npz"),
        ({"delay_ns": None}, "delay_ns = None: missing in a.npz"),
        ({"delay_ns": None, "delay": [1, 2, 3]}, "name = 'delay': say the unit, as delay_ns"),
        ({"spacing": 1e6}, "name = 'spacing': say the unit, as spacing_hz"),
        ({"room": 3}, "name = 'room': unknown; a.npz can have .*delay_ns"),
        ({"spacing_hz": 2e6}, r"spacing_hz = .*2000000.*the link has 1000000.0"),
        ({"first_hz": 2.402}, r"first_hz = .*2.402.*the link has 2402000000.0"),
        ({"response": np.ones((3, 80))}, r"response = 'float64 \(3, 80\)': give complex numbers"),
        ({"response": np.ones((3, 79), complex)}, r"\(3, 79\)': give complex numbers, \(N, 80\)"),
        ({"response": np.ones((80,), complex)}, r"\(80,\)': give complex"),
        ({"response": np.ones((0, 80), complex)}, r"\(0, 80\)': give complex"),
        ({"delay_ns": [1.0, 2.0]}, r"delay_ns = \(2,\): give 3, one a response"),
        ({"delay_ns": [1.0, math.nan, 2]}, r"delay_ns\[1\] = nan: give nanoseconds from 0 to 500"),
        ({"delay_ns": [1.0, 2, 501]}, r"delay_ns\[2\] = 501.0: give nanoseconds"),
        ({"delay_ns": [-1.0, 2, 3]}, r"delay_ns\[0\] = -1.0: give nanoseconds"),
        ({"delay_ns": ["1", "2", "3"]}, "delay_ns = '<U1': give real numbers"),
        ({"delay_ns": [1j, 2, 3]}, "delay_ns = 'complex128': give real numbers"),
        ({"delay_ns": np.arange(3).astype("timedelta64[ns]")}, "delay_ns = 'timedelta64"),
        ({"response": np.full((3, 80), 1e60 + 0j)}, "give finite numbers, in a unit"),
        ({"response": np.full((3, 80), 1e-60 + 0j)}, "nothing but 0 was measured, or below"),
    ],
)
def test_a_wrong_npz_is_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", simulate(BLUETOOTH, 3, 0), **changes)
    with pytest.raises(ValueError, match=message):
        load_measurements(path, BLUETOOTH)


@pytest.mark.parametrize("value", [math.nan, math.inf, complex(1, math.nan)])
def test_responses_without_a_value_are_named(value: complex, tmp_path: Path) -> None:
    measured = simulate(WIFI, 3, 0)
    measured.response[1, 2, 5] = value
    path = write_npz(tmp_path / "a.npz", measured)
    with pytest.raises(ValueError, match=r"response\[1, 2, 5\] = .*(nan|inf).*give finite numbers"):
        load_measurements(path, WIFI)
    with pytest.raises(ValueError, match=r"response\[1, 2, 5\] = .*give finite numbers"):
        load_measurements(write_csv(tmp_path / "a.csv", measured), WIFI)
    measured.response[1] = 0
    with pytest.raises(ValueError, match=r"response\[1\] = 0: nothing but 0 was measured"):
        load_measurements(write_npz(path, measured), WIFI)


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    measured = simulate(WIFI, 3, 0)
    for name, write in (("a.NPZ", write_npz), ("a.CSV", write_csv)):
        path = write(tmp_path / name.lower(), measured).rename(tmp_path / name)
        np.testing.assert_allclose(load_measurements(path, WIFI).response, measured.response, 1e-6)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for name in ("no.npz", "no.csv"):
        with pytest.raises(FileNotFoundError, match=name):
            load_measurements(tmp_path / name, WIFI)
    with pytest.raises(ValueError, match=r"path = .*a.mat': give an .npz or a .csv file"):
        load_measurements(tmp_path / "a.mat", WIFI)
    path = tmp_path / "a.npz"
    np.savez(path, response=np.array([{}], object))
    for content in (path.read_bytes(), path.read_bytes()[:60], b"no zip at all", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"path = .*a.npz': no npz file of plain arrays"):
            load_measurements(path, WIFI)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: "", "path = .*a.csv': give a header and a row"),
        (lambda text: text.splitlines()[0], "path = .*a.csv': give a header and a row"),
        (
            lambda text: text.replace("delay_ns", "delay"),
            "name = 'delay': say the unit, as delay_n",
        ),
        (lambda text: text.replace("delay_ns", "distance_m"), "name = 'distance_m': unknown"),
        (lambda text: text.replace("h_im_2_29", "h_im_2_30"), "h_im_2_29 = None: missing; the"),
        (lambda text: text.replace("h_im_2_29", "h_re_2_29"), "name = 'h_re_2_29': given twice"),
        (lambda text: text[: text.rindex(",")] + ",inf", r"delay_ns\[2\] = inf: give nanosec"),
        (lambda text: text.replace("0.", "x.", 1), "path = .*give a number in each cell"),
        (lambda text: text + ",3", "path = .*give a number in each cell, as many as names"),
        (lambda text: text.replace("delay_ns", "delay_ns,first_hz"), "give a number in each cell"),
        (lambda text: text.replace(",", ";"), "path = .*a.csv': semicolons part its cells: save"),
        (lambda text: quoted(text).replace(",", "\t"), "path = .*a.csv': tabs part its cells"),
        (
            lambda text: quoted(text).replace("0.", "0,", 1),
            "row 1 = '.*,.*': write its numbers with",
        ),
        (lambda text: text.replace("\n", '\n"', 1), r"cells of row 1 = \d+: the header has"),
        (lambda text: '"' + 200_000 * "3" + text, "path = .*a.csv': its quotes do not pair up"),
    ],
)
def test_a_wrong_csv_is_named(edit: Callable[[str], str], message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", simulate(WIFI, 3, 0), edit)
    with pytest.raises(ValueError, match=message):
        load_measurements(path, WIFI)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_csv_in_another_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", simulate(WIFI, 3, 0))
    path.write_bytes((path.read_text() + "µ").encode(encoding))
    with pytest.raises(ValueError, match=r"path = .*a.csv': it is no UTF-8 text: save it as"):
        load_measurements(path, WIFI)
