"""Converts files that `ress data prepare` does not read (Parquet, Arrow, a data set of the hub) to rows: one JSON object a line.

    python -m ress.convert wiki.parquet --out wiki.jsonl.gz
    python -m ress.convert wiki/*.parquet --columns text | ress data prepare - --out data/wiki.h5
    python -m ress.convert squad --dataset --split train --out squad.train.jsonl.gz

Parquet and Arrow (IPC files and streams, Feather) need pyarrow: pip install './python[arrow]'. A data set of the hub, or a folder that
`datasets` saved, needs datasets: pip install './python[datasets]'. A file is read in batches, so memory does not grow with its size.
"""

import argparse
import base64
import contextlib
import datetime
import gzip
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Rows in memory at a time.
BATCH = 1024


class ConversionError(Exception):
    """A file that cannot be converted; the message names it."""


def rows(source: str, columns: list[str] | None = None) -> Iterator[dict]:
    """The rows of a Parquet or Arrow file, or of all of a folder's in the order of their names."""
    for path in _files(Path(source)):
        with open(path, "rb") as file:
            magic = file.read(8)
        if magic[:4] == b"PAR1":
            batches = _parquet(path, columns)
        elif magic[:6] == b"ARROW1" or magic[:4] == b"\xff\xff\xff\xff":
            batches = _arrow(path, columns, isFile=magic[:6] == b"ARROW1")
        else:
            raise ConversionError(f"{path} is neither a Parquet nor an Arrow file; `ress data prepare` reads text, rows and tables itself")
        for batch in batches:
            yield from batch.to_pylist()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (".parquet", ".arrow", ".feather", ".ipc") and p.is_file())
        if not found:
            raise ConversionError(f"{path} contains no file named .parquet, .arrow, .feather or .ipc")
        return found
    if not path.exists():
        raise ConversionError(f"{path} does not exist")
    return [path]


def _parquet(path: Path, columns: list[str] | None):
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _check(path, columns, file.schema_arrow.names)
        yield from file.iter_batches(batch_size=BATCH, columns=columns)


def _arrow(path: Path, columns: list[str] | None, isFile: bool):
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        reader = pyarrow.ipc.open_file(file) if isFile else pyarrow.ipc.open_stream(file)
        _check(path, columns, reader.schema.names)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches)) if isFile else reader
        for batch in batches:
            batch = batch if columns is None else batch.select(columns)
            for start in range(0, batch.num_rows, BATCH):
                yield batch.slice(start, BATCH)


def _check(path: Path, columns: list[str] | None, names: list[str]) -> None:
    missing = [name for name in columns or [] if name not in names]
    if missing:
        raise ConversionError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")


def data_set_rows(name: str, split: str, configuration: str | None, columns: list[str] | None) -> Iterator[dict]:
    """The rows of a data set, from a folder that `datasets` saved or from the hub (streamed)."""
    import datasets

    if Path(name).is_dir() and (Path(name) / "dataset_info.json").exists():
        found = datasets.load_from_disk(name)
    elif Path(name).is_dir() and (Path(name) / "dataset_dict.json").exists():
        found = datasets.load_from_disk(name)[split]
    else:
        found = datasets.load_dataset(name, configuration, split=split, streaming=True)
    for row in found:
        yield row if columns is None else {key: row[key] for key in columns}


def line(row: dict) -> str:
    """A row as JSON in one line. Times become ISO 8601, bytes base64, and numbers that are not finite null."""
    return json.dumps(_plain(row), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


@contextlib.contextmanager
def _output(path: str):
    """A text file that appears when it is complete, compressed if its name ends in .gz; `-` is standard output."""
    if path == "-":
        yield sys.stdout
        return
    aside = path + ".tmp"
    try:
        with gzip.open(aside, "wt", encoding="utf-8", compresslevel=6) if path.endswith(".gz") else open(aside, "w", encoding="utf-8") as file:
            yield file
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(aside)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ress.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="FILE", help="Parquet or Arrow files, or folders of them; with --dataset a data set")
    parser.add_argument("--out", default="-", help="the file to write, compressed if it ends in .gz; default: standard output")
    parser.add_argument("--columns", type=lambda text: text.split(","), help="only these columns, separated by commas")
    parser.add_argument("--dataset", action="store_true", help="the sources are data sets of Hugging Face's hub, or folders that `datasets` saved")
    parser.add_argument("--split", default="train", help="the split of a data set; default: train")
    parser.add_argument("--config", help="the configuration of a data set")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    options = parser.parse_args(arguments)
    if options.out != "-" and os.path.exists(options.out) and not options.force:
        parser.error(f"{options.out} exists; --force replaces it")
    count = 0
    try:
        with _output(options.out) as out:
            for source in options.sources:
                found = (
                    data_set_rows(source, options.split, options.config, options.columns)
                    if options.dataset else rows(source, options.columns))
                for row in found:
                    out.write(line(row) + "\n")
                    count += 1
            out.flush()
    except ImportError as error:
        extra = "datasets" if options.dataset else "arrow"
        print(f"{error}; install it: pip install './python[{extra}]'", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has ended; it reports why.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ConversionError, OSError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {count:,} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
