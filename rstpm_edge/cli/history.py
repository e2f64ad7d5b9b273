"""`rstpm-edge history`: what a station keeps, as tables."""

from pathlib import Path

import click

from rstpm_edge.cli.common import check_no_picture
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.terminal import counted, say
from rstpm_edge.errors import UsageError


@click.command()
@click.argument("folder", type=FILE)
@click.option("--csv", "csv_file", type=FILE, metavar="FILE", help="Write a row of each part to this table.")
@click.option("--parquet", "parquet_file", type=FILE, metavar="FILE", help="The same as a Parquet file; needs pyarrow.")
def history(folder: Path, csv_file: Path | None, parquet_file: Path | None) -> None:
    """Write what `serve --history FOLDER` keeps to a table: verdicts, scores, models, and what people said.

    `serve` may go on writing meanwhile. Without an option it says how much there is.

    \b
    Examples:
      rstpm-edge history /var/lib/rstpm-edge/history --csv parts.csv
      rstpm-edge history /var/lib/rstpm-edge/history --parquet parts.parquet
    """
    from rstpm_edge.sources.frames import utc_time
    from rstpm_edge.station.history.database import database_of
    from rstpm_edge.station.history.export import write_csv, write_parquet
    from rstpm_edge.station.history.parts import PartReader

    check_no_picture("--csv", csv_file)
    check_no_picture("--parquet", parquet_file)
    if csv_file is not None and parquet_file is not None and csv_file == parquet_file:
        raise UsageError("--csv and --parquet name one file: give each a name of its own.")
    for option, file in (("--csv", csv_file), ("--parquet", parquet_file)):
        if file is not None and file.resolve() == database_of(folder).resolve():
            raise UsageError(f"{option} {file} is the history itself: give another name.")
    with PartReader(folder) as reader:
        for file, write in ((csv_file, write_csv), (parquet_file, write_parquet)):
            if file is not None:
                say(f"{file}: {counted(write(reader.all(), file), 'part')}.")
        if csv_file is None and parquet_file is None:
            counts, first, last = reader.summary()
            told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items()) or "no parts"
            since = (
                "" if first is None or last is None else f", from {utc_time(first / 1000)} to {utc_time(last / 1000)}"
            )
            say(f"{folder}: {told}{since}.")
