"""Checks that docs/gpu_kernels.md ends with what gpu_roofline prints. usage: page_check.py PROGRAM PAGE"""

import pathlib
import subprocess
import sys

printed = subprocess.run(sys.argv[1], capture_output=True, text=True, check=True).stdout
if not pathlib.Path(sys.argv[2]).read_text().endswith(printed):
    print(f"{sys.argv[2]} must end with:\n{printed}")
    sys.exit(1)
