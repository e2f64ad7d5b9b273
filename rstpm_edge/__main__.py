"""The program `rstpm-edge`, and `python -m rstpm_edge`."""

import sys

from rstpm_edge import unexpected


def run() -> None:
    """Run the command line. A broken installation is told in one sentence, and not with the code for "anomalous"."""
    sys.excepthook, sys.unraisablehook = unexpected.last_resort, unexpected.while_cleaning_up
    try:
        from rstpm_edge.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:  # a library may do anything while it is imported, exit with 1 as well
        unexpected.report(error)
        sys.exit(unexpected.UNEXPECTED)
    main(prog_name="rstpm-edge")


if __name__ == "__main__":
    run()
