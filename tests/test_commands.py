"""The command line, as a person types it."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Register

from hvib import ledger
from hvib.book.commands import main
from hvib.book.plan import plan
from hvib.tasks import TASKS, make_run
from hvib.tasks.mnist import mnist

SMOKE = ["--task", "digits", "--profile", "smoke"]


def test_run_trains_files_and_prints_the_curve(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", *SMOKE, "--method", "vib", "--beta", "1e-3", "--seed", "4", "--epochs", "1"])
    run = make_run("digits", "vib", "smoke", seed=4, betas=(1e-3,), epochs=1)
    assert ledger.find(run)
    out = capsys.readouterr().out
    assert str(ledger.path_of(run)) in out
    assert re.search(r"\n +test +0\.001 ", out)


def test_sweep_does_a_page_s_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sweep", *SMOKE, "--methods", "vib", "--beta-min", "1e-2", "--snr-db", "5"])
    found = sorted((r.epochs, r.config.betas[0]) for r in ledger.records())
    grid = [0.01, 0.0316228, 0.1, 0.316228, 1.0]
    assert found == [*((2, beta) for beta in grid), *((4, beta) for beta in grid[::3])]
    assert {r.config.snr_db for r in ledger.records()} == {5.0}
    assert len(capsys.readouterr().out.splitlines()) == len(found)


def test_verify_compares(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *SMOKE, "--method", "vib", "--beta", "1e-3"])
    main(["verify", "--task", "digits", "--method", "vib"])
    assert "largest difference in the metric" in capsys.readouterr().out
    for option in (["--count", "0"], ["--metric-tolerance", "nan"]):
        with pytest.raises(SystemExit) as stop:
            main(["verify", "--task", "digits", "--method", "vib", *option])
        assert stop.value.code == 2
    (record,) = ledger.records()
    curve = [{**row, "metric": 0.01} for row in record.curve]
    ledger.write(ledger.Record(**{**vars(record), "curve": curve}))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--task", "digits", "--method", "vib"])
    assert stop.value.code == 1
    assert "differs; largest difference" in (out := capsys.readouterr().out)
    assert f"products {record.environment['products']}, here" in out


def test_verify_compares_digests(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *SMOKE, "--method", "vib", "--beta", "1e-3"])
    capsys.readouterr()
    main(["verify", "--digests"])
    assert capsys.readouterr().out == "1 files agree with their digests, 0 do not\n"
    (path,) = results.rglob("*.json")
    text = path.read_text()
    for changed, says in ((text.replace("0.", "1.", 1), "damaged"), (text, "")):
        path.write_text(re.sub(r' "digest": .*\n', "", changed) if not says else changed)
        with pytest.raises(SystemExit) as stop:
            main(["verify", "--digests"])
        assert stop.value.code == 1
        out = capsys.readouterr().out
        assert path.name in out
        assert (says or "--add") in out
    main(["verify", "--digests", "--add"])
    assert f"digest added: {path}" in capsys.readouterr().out
    assert path.read_text() == text


def test_verify_begins_in_the_middle_of_the_range(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for beta in ("1", "1e-3"):
        main(["run", *SMOKE, "--method", "vib", "--beta", beta])
    capsys.readouterr()
    main(["verify", "--task", "digits", "--method", "vib"])
    assert capsys.readouterr().out.startswith("smoke-beta1.0e-03-")


def test_verify_measures_errors_relative_to_the_record(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ["--task", "bluetooth"]
    main(["run", *task, "--profile", "smoke", "--method", "vib", "--beta", "1e-3"])
    (record,) = ledger.records()
    curve = [{**row, "metric": row["metric"] / 0.96} for row in record.curve]
    ledger.write(ledger.Record(**{**vars(record), "curve": curve}))
    main(["verify", *task, "--method", "vib"])
    assert "in the metric 4.00e-02 (tolerance 0.05)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--task", "emnist"], "task = 'emnist': unknown"),
        (["run", *SMOKE, "--method", "ib"], "method = 'ib': unknown"),
        (["run", *SMOKE, "--method", "vib", "--beta", "-1"], "betas = -1.0: give a finite β > 0"),
        (["run", *SMOKE, "--method", "vib"], "method vib trains for one β"),
        (["run", *SMOKE, "--snr-db", "nan"], "snr_db = nan"),
        (["sweep", "--profile", "fast"], "profile = 'fast'"),
        (["sweep", *SMOKE, "--beta-min", "10"], "reversed"),
        (["sweep", *SMOKE, "--methods", "ib"], "methods = 'ib': unknown"),
        (["sweep", *SMOKE, "--methods", "vib", "hyper-vib-tuned"], "it is not on the page of task"),
        (["verify", "--task", "digits"], "no record of it"),
        (["verify", "--add"], "add = True: it goes with --digests"),
        (["bench", "--rounds", "2"], "rounds = 2: give at least 3"),
        (
            ["run", *SMOKE, "--method", "vib", "--beta", "1", "--network", "mnist"],
            "network = 'mnist': unknown; choose one of '', digits-convolutions, digits-power",
        ),
    ],
)
def test_bad_input_is_named_and_ends_in_status_2(
    words: list[str], says: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not list(results.rglob("*.json"))


def test_a_network_that_does_not_fit_is_one_line_and_status_2(
    results: Path, register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register(replace(TASKS.find("digits"), name="mine", networks=TASKS.find("mnist").networks))
    with pytest.raises(SystemExit) as stop:
        main(["run", "--task", "mine", "--method", "vib", "--beta", "1", "--profile", "smoke"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "784" in error
    assert "Traceback" not in error
    assert not list(results.rglob("*.json"))


def test_missing_data_is_one_line_and_status_2(
    results: Path,
    register: Register,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HVIB_DATA", str(results / "none"))
    # Not the loader whose data are cached.
    register(replace(TASKS.find("mnist"), load=lambda: mnist()))
    with pytest.raises(SystemExit) as stop:
        main(["run", "--task", "mnist", "--method", "vib", "--beta", "1e-3", "--profile", "smoke"])
    assert stop.value.code == 2
    assert "use the data set digits" in capsys.readouterr().err


def test_a_task_of_yours_is_known_once_registered(
    results: Path, register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register(replace(TASKS.find("digits"), name="mine"))
    main(["run", "--task", "mine", "--method", "vib", "--beta", "1e-3", "--profile", "smoke"])
    assert capsys.readouterr().out.startswith(str(results / "mine" / "vib"))


def test_a_task_without_the_profile_full_is_verified(
    results: Path, register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = TASKS.find("digits")
    register(replace(digits, name="mine", profiles={"smoke": digits.profiles["smoke"]}))
    main(["run", "--task", "mine", "--method", "vib", "--beta", "1e-3", "--profile", "smoke"])
    main(["verify", "--task", "mine", "--method", "vib"])
    assert "largest difference in the metric" in capsys.readouterr().out


def test_an_interrupted_command_says_that_it_can_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "sweep", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *SMOKE])
    assert stop.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted: finished runs are on record")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_help_is_whole_in_a_terminal_without_utf_8(encoding: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "hvib", "sweep", "--help"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert b"--snr-db" in shown.stdout
    assert b"smallest ?" in shown.stdout


def shell(command: str, results: Path) -> subprocess.CompletedProcess[str]:
    """What a shell gives for a command, in which `$hvib` is ours."""
    smoke = f"{sys.executable} -m hvib run {' '.join(SMOKE)} --method vib --beta 1e-3"
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "hvib": smoke, "HVIB_RESULTS": str(results)},
        capture_output=True,
        text=True,
    )


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    read = shell("$hvib --help 2>&1 | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert (read.stdout.strip(), read.stderr) == ("141", "")
    for closed in (">&-", "2>&-"):
        quiet = shell(f"$hvib {closed}; echo $?", tmp_path)
        assert quiet.stdout.endswith("0\n")
        assert "error" not in quiet.stderr


def test_the_home_of_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVIB_RESULTS", "~nobody-of-that-name/results")
    with pytest.raises(ValueError, match=r"HVIB_RESULTS = '~nobody.*: no such home"):
        ledger.root()


@pytest.mark.parametrize("name", ["file", "read-only"])
def test_a_results_folder_that_cannot_be_used_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    where = tmp_path / "file" if name == "file" else Path("/proc/none")
    monkeypatch.setenv("HVIB_RESULTS", str(where))
    with pytest.raises(SystemExit) as stop:
        main(["run", *SMOKE, "--method", "vib", "--beta", "1e-3"])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: HVIB_RESULTS = '{where}': no run can be filed in")


def test_help_shows_the_profile_s_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", *SMOKE, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--snr-db" in out
    assert "(default: 128)" in out
    assert plan("digits", "smoke")[0].batch_size == 128
