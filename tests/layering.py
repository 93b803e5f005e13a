# SPDX-License-Identifier: Apache-2.0
# layering.py ROOT: every #include of a folder goes along an arrow of the
# architecture (docs/architecture.md), or this says which one does not.
import pathlib
import re
import sys

LAYERS = ["devices", "smcd", "transport", "socket_shim", "tools"]
ALLOWED = {  # folder: folders of ours, prefixes of boost
    "devices": (["devices"], ["boost/system"]),
    "smcd": (["smcd", "devices"], ["boost/system"]),
    "transport": (["transport", "smcd", "devices"], ["boost/"]),
    "socket_shim": (["socket_shim", "smcd", "devices"], ["boost/system"]),
    "tools": (["tools", "transport", "smcd", "devices"], ["boost/"]),
}
# No streams and no threads inside programs that we do not know.
BARRED = {folder: {"iostream", "thread", "future", "condition_variable"}
          for folder in ("devices", "smcd", "socket_shim")}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def complaint(folder, quote, name):
    folders, boost = ALLOWED[folder]
    top = name.split("/")[0]
    if quote == '"':
        return "our headers are named <folder/file.hpp>"
    if top in LAYERS or top in ("tests", "bench", "examples", "support"):
        return None if top in folders else f"{folder} must not know {top}"
    if top == "boost":
        return None if name.startswith(tuple(boost)) else f"{folder} must not use {name}"
    if name in BARRED.get(folder, ()):
        return f"{folder} must not use <{name}>"
    return None


def main(root):
    files = 0
    wrong = []
    for folder in LAYERS:
        for path in sorted((root / folder).rglob("*.[ch]pp")):
            files += 1
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = INCLUDE.match(line)
                reason = complaint(folder, *found.groups()) if found else None
                if reason:
                    wrong.append(f"{path.relative_to(root)}:{number}: {reason}")
    print("\n".join(wrong) or f"{files} files, all includes go along the arrows")
    return 1 if wrong or files == 0 else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
