"""Checks that every room includes only the rooms it is declared to use.

usage: check_includes.py SOURCE ROOMS
  SOURCE  a checkout: include/lorikeet/<room>/ and src/<room>/ are read
  ROOMS   lines `room: allowed...`, as CMake writes them from lorikeet_room(); the word `torch` among the
          allowed ones permits LibTorch's own headers

Prints `file:line: what is wrong` for each offence and exits with 1 if there is one.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s*["<]([^">]+)[">]')
TORCH_FOLDERS = {"torch", "ATen", "c10", "caffe2"}
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def read_rooms(path):
    rooms = {}
    for line in path.read_text().splitlines():
        name, allowed = line.split(":")
        rooms[name] = set(allowed.split())
    return rooms


def offence(room, allowed, rooms, included):
    """Why `room` may not include the path `included`, or None."""
    parts = included.split("/")
    if ".." in parts:
        return f"{included}: an include names its file from the checkout's root, without .."
    if parts[0] == "lorikeet" and len(parts) > 2:
        if parts[1] not in rooms:
            return f"<{included}> is in no room that CMakeLists.txt declares"
        if parts[1] not in allowed:
            return f"room {room} may not use room {parts[1]}"
    if parts[0] == "src" and (len(parts) < 3 or parts[1] != room):
        return f"room {room} may not include {included}, which is private"
    if parts[0] in TORCH_FOLDERS and "torch" not in allowed:
        return f"room {room} does not see LibTorch, and {included} is LibTorch's"
    return None


def check(source, rooms):
    offences = []
    for base in (source / "include" / "lorikeet", source / "src"):
        for file in sorted(p for p in base.rglob("*") if p.suffix in SUFFIXES):
            room = file.relative_to(base).parts[0]
            where = file.relative_to(source)
            if room not in rooms:
                offences.append(f"{where}: CMakeLists.txt declares no room {room}")
                continue
            for number, line in enumerate(file.read_text().splitlines(), start=1):
                match = INCLUDE.match(line)
                why = match and offence(room, rooms[room], rooms, match.group(1))
                if why:
                    offences.append(f"{where}:{number}: {why}")
    return offences


if __name__ == "__main__":
    found = check(pathlib.Path(sys.argv[1]), read_rooms(pathlib.Path(sys.argv[2])))
    print("\n".join(found) or "every room includes only what it may use")
    sys.exit(1 if found else 0)
