"""Checks that liblorikeet_cuda.so defines no function that liblorikeet_ops.so defines too.

usage: cuda_symbols_check.py NM OPS CUDA

The program has opened the first one before, so that of two functions of one name the dynamic linker takes that
one for both libraries: the other is never called.
"""

import subprocess
import sys


def functions(nm, library):
    """Those of which a program has one: templates and inline functions may be in both."""
    command = [nm, "--dynamic", "--defined-only", "--demangle", library]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split(" T ", 1)[1] for line in lines if " T " in line}


nm, ops, cuda = sys.argv[1:]
both = functions(nm, ops) & functions(nm, cuda) - {"_init", "_fini"}
if not functions(nm, ops) or not functions(nm, cuda):
    sys.exit("a library without functions")
if both:
    sys.exit("\n".join(f"{name}: defined in {ops} and in {cuda}" for name in sorted(both)))
print("no function is defined twice")
