"""Tests of `python -m ress.convert`. With the command `ress` on the PATH or in RESS, its reader is asked as well."""

import contextlib
import datetime
import gzip
import io
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from test_package import needs

from ress import convert

ROWS = [
    {"id": 1, "text": "one\nline", "tags": ["a", "b"], "at": datetime.datetime(2026, 1, 2, 3, 4, 5), "raw": b"\xff\x00", "real": 1.5},
    {"id": 2, "text": 'Grüße "𝄞"', "tags": [], "at": None, "raw": None, "real": float("nan")},
    {"id": 3, "text": None, "tags": None, "at": None, "raw": None, "real": None},
]
EXPECTED = [
    {"id": 1, "text": "one\nline", "tags": ["a", "b"], "at": "2026-01-02T03:04:05", "raw": "/wA=", "real": 1.5},
    {"id": 2, "text": 'Grüße "𝄞"', "tags": [], "at": None, "raw": None, "real": None},
    {"id": 3, "text": None, "tags": None, "at": None, "raw": None, "real": None},
]


@needs("pyarrow")
class ConvertTests(unittest.TestCase):
    def setUp(self):
        import pyarrow
        from pyarrow import feather, parquet

        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        table = pyarrow.Table.from_pylist(ROWS)
        parquet.write_table(table, self.folder / "a.parquet")
        feather.write_feather(table, self.folder / "b.feather")
        with pyarrow.OSFile(str(self.folder / "c.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = convert.main([str(argument) for argument in arguments])
        return code, out.getvalue(), errors.getvalue()

    def test_parquet_feather_and_arrow_streams_give_the_same_rows(self):
        for name in ("a.parquet", "b.feather", "c.arrow"):
            code, out, errors = self.run_main(self.folder / name)
            self.assertEqual((code, [json.loads(line) for line in out.splitlines()]), (0, EXPECTED), name)
            self.assertIn("3 rows", errors)

    def test_a_folder_is_read_in_the_order_of_names_and_columns_are_chosen(self):
        code, out, _ = self.run_main(self.folder, "--columns", "id,text")
        self.assertEqual(code, 0)
        self.assertEqual([json.loads(line) for line in out.splitlines()], [{"id": r["id"], "text": r["text"]} for r in EXPECTED] * 3)

    def test_an_output_named_gz_is_compressed_and_never_replaced_unasked(self):
        out = self.folder / "rows.jsonl.gz"
        self.assertEqual(self.run_main(self.folder / "a.parquet", "--out", out)[0], 0)
        self.assertEqual(len(gzip.open(out, "rt").read().splitlines()), 3)
        with self.assertRaises(SystemExit):
            self.run_main(self.folder / "a.parquet", "--out", out)
        self.assertEqual(self.run_main(self.folder / "a.parquet", "--out", out, "--force")[0], 0)

    def test_errors_name_the_file_and_leave_no_output(self):
        (self.folder / "x.txt").write_text("text")
        data = (self.folder / "a.parquet").read_bytes()
        (self.folder / "cut.parquet").write_bytes(data[: len(data) // 2])
        for arguments, words in [
            (("x.txt",), "neither a Parquet nor an Arrow file"), (("absent",), "does not exist"), (("cut.parquet",), ""),
            (("a.parquet", "--columns", "body"), "has no column body; it has id, text"),
        ]:
            place = self.folder / arguments[0]
            code, _, errors = self.run_main(place, *arguments[1:], "--out", self.folder / "out.jsonl")
            self.assertEqual(code, 1, arguments)
            self.assertIn(words, errors)
            self.assertEqual([p.name for p in self.folder.glob("out.jsonl*")], [])

    def test_ress_prepares_the_converted_rows_and_names_this_command_for_the_others(self):
        ress = os.environ.get("RESS") or shutil.which("ress")
        if not ress:
            self.skipTest("the command ress is not on the PATH; RESS names it")
        refused = subprocess.run(
            [ress, "data", "prepare", self.folder / "a.parquet", "--out", self.folder / "d.h5"], capture_output=True, text=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("python3 -m ress.convert", refused.stderr)
        rows = self.run_main(self.folder / "a.parquet")[1]
        done = subprocess.run(
            [ress, "data", "prepare", "-", "--out", self.folder / "d.h5", "--json"], input=rows, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["documents"], 2)


if __name__ == "__main__":
    unittest.main()
