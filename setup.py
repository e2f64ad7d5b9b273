"""Builds the C++ extension; everything else about the package is in pyproject.toml.

No instruction-set flags here: kernels for wider vectors carry their own target attributes and are chosen at
run time, so that one wheel runs on every processor.
"""

import os
from glob import glob

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

flags = ["-O3", "-Wall", "-Wextra"]
if os.environ.get("RSTPM_EDGE_WERROR") == "1":
    flags.append("-Werror")
link_flags = ["-pthread"]
if sanitizers := os.environ.get("RSTPM_EDGE_SANITIZE"):  # such as address,undefined: for `make sanitize-python`
    flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1"]
    link_flags.append(f"-fsanitize={sanitizers}")

native = Pybind11Extension(
    "rstpm_edge._native",
    sorted(glob("csrc/*.cpp") + glob("csrc/python/*.cpp")),
    depends=sorted(path for kind in ("h", "hpp", "inl") for path in glob(f"csrc/**/*.{kind}", recursive=True)),
    include_dirs=["csrc"],
    cxx_std=17,  # setup_helpers adds hidden visibility
    define_macros=[("RSTPM_STATIC", None)],  # a librstpm_edge.so in the same process is none of the extension's concern
    extra_compile_args=flags,
    extra_link_args=link_flags,
)

ParallelCompile("RSTPM_EDGE_JOBS", default=1).install()

setup(ext_modules=[native], cmdclass={"build_ext": build_ext})
