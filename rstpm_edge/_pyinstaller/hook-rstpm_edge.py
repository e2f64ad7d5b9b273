"""PyInstaller's hook: what rstpm_edge imports only when it is needed, and its files that are no modules."""

from importlib.util import find_spec
from pathlib import Path

import rstpm_edge

# OpenVINO is taken along where it is installed.
hiddenimports = [*rstpm_edge._LAZY.values(), "rstpm_edge._native", "onnxruntime"]
hiddenimports += [name for name in ("openvino", "paho.mqtt.client") if find_spec(name.partition(".")[0])]
FOLDER = Path(rstpm_edge.__file__).parent
PAGES = {"msa": ("*.html",), "outputs": ("*.html",), "station/page": ("*.html", "*.css", "*.js", "*.svg", "*.txt")}
datas = [(str(FOLDER / room / kind), f"rstpm_edge/{room}") for room, kinds in PAGES.items() for kind in kinds]
# Training needs torch and more; a program that judges does not.
excludedimports = ["rstpm_edge.training"]
