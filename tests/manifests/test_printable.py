"""Names of others on our terminal: no file name moves a cursor, sets a title or forges a line."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from hs_data.commands.terminal import console, emit, print_json
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.printable import UNPRINTABLE, PrintableFormatter, printable, printable_name

NASTY = "a\x1b]0;owned\x07\x1b[2J\x9b31m\rINFO all is well\n\u202egpj.\u2066\ud800\t.mp4"


def steers(text: str) -> bool:
    """Tell whether a text, its line feeds and rich's own codes apart, would steer a terminal."""
    return bool(UNPRINTABLE.search(text))


def test_every_character_that_steers_is_spelled_out_and_all_others_stay():
    spelled = [chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0x200E, 0x202E, 0x2066, 0xD800, 0xDFFF)]
    for character in spelled:
        assert steers(printable_name(f"a{character}b")) is False
        assert printable_name(character).startswith("\\")
    for text in ("talk é 日本語 🎬 [red] \\ 'x'", "a\u0301", "שלום", "a b"):
        assert printable_name(text) == text
    assert printable("one\ntwo") == "one\ntwo"
    assert printable_name("one\ntwo") == "one\\ntwo"
    assert printable_name("\x1b[31m") == "\\x1b[31m"


def test_nothing_that_a_console_draws_steers(capsys: pytest.CaptureFixture[str]):
    said = console()
    said.print(NASTY, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column(NASTY)
    table.add_row(NASTY)
    said.print(table)
    with Progress(TextColumn("{task.description}"), console=said) as progress:
        progress.add_task(NASTY.replace("[", "("), total=1)
    said.print("[bold red]error[/] plain")
    told = capsys.readouterr().err
    assert not steers(told)
    assert "owned" in told
    assert "error plain" in told


def test_a_terminal_still_gets_colours_and_nothing_else():
    import io

    from hs_data.pipeline.report.console import PrintableConsole

    drawn = io.StringIO()
    PrintableConsole(file=drawn, force_terminal=True, color_system="standard").print(
        "[red]a[/]\x1b[2J", highlight=False
    )
    assert drawn.getvalue() == "\x1b[31ma\x1b[0m\\x1b[2J\n"


def test_log_lines_do_not_steer():
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "%s: internal error", (NASTY,), None)
    line = PrintableFormatter("%(levelname)s %(message)s").format(record)
    assert line.startswith("WARNING a\\x1b]0;owned\\x07")
    assert not steers(line)


def test_a_worker_warns_without_steering(tmp_path: Path):
    code = "from hs_data.manifests.printable import log_to_stderr\nimport logging\nlog_to_stderr()\n"
    code += r"logging.warning('%s: the worker died', 'x\x1b[2J.mp4')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "WARNING x\\x1b[2J.mp4: the worker died\n"


def test_data_as_lines_and_as_json_do_not_steer(capsys: pytest.CaptureFixture[str]):
    name = NASTY.replace("\ud800", "")
    emit({"path": name}, as_json=False)
    lines = capsys.readouterr().out
    assert not steers(lines)
    print_json({"path": name})
    text = capsys.readouterr().out
    assert not steers(text)
    assert json.loads(text) == {"path": name}, "it reads back as it was"


@pytest.fixture
def nasty_dataset(crowd: Path, tmp_path: Path) -> Path:
    """A dataset whose first file has a name that would clear the screen."""
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "dataset.json").write_bytes((crowd / "dataset.json").read_bytes())
    first = ""
    for table_name in ("videos.parquet", "clips.parquet"):
        table = pq.read_table(crowd / table_name)
        paths = table["path"].to_pylist()
        first = first or paths[0]
        renamed = [NASTY.replace("\ud800", "") if name == first else name for name in paths]
        place = table.schema.get_field_index("path")
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array(renamed)), path / table_name)
    return path


def test_why_tells_of_a_nasty_name_without_steering(nasty_dataset: Path):
    assert any("\x1b" in name for name in open_dataset(nasty_dataset).videos(["path"])["path"].to_pylist())
    command = [sys.executable, "-m", "hs_data.cli", "why", str(nasty_dataset), "owned"]
    done = subprocess.run(command, capture_output=True, check=False)
    out = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert not steers(out)
    assert "file a\\x1b]0;owned\\x07" in out
    wrong = subprocess.run([*command[:-1], "\x1b[2Jnone"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error \\x1b[2Jnone: ")
