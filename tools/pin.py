"""Pin every third-party version in the root pyproject.toml, so that all machines resolve alike.

A lock file names the registry of the machine that wrote it, so it stays out of the repository. The versions in it
are kept as uv constraints between two marker comments, and name no host.

    python tools/pin.py             pin what is new, drop what is gone, keep every other version
    python tools/pin.py --upgrade   resolve everything again, to the newest versions
    python tools/pin.py --check     change nothing; exit 1 if the pins no longer match the dependencies
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "# pins: begin (written by tools/pin.py)\n"
END = "# pins: end\n"
EXPORT = (
    *("uv", "export", "--quiet", "--no-header", "--no-annotate", "--no-hashes"),
    *("--all-packages", "--all-groups", "--all-extras", "--no-emit-workspace"),
)


class PinError(Exception):
    """The pins could not be placed or resolved."""


def splice(text: str, pins: Sequence[str]) -> str:
    """Put `pins` between the two markers; everything outside them stays as it is."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise PinError(f"pyproject.toml needs the lines {BEGIN.strip()!r} and {END.strip()!r}, once each, in [tool.uv]")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "".join(f'    "{pin}",\n' for pin in pins)
    return f"{before}{BEGIN}constraint-dependencies = [\n{lines}]\n{END}{after}"


def resolve(root: Path, *options: str) -> list[str]:
    """Ask uv for the version of everything the workspace needs, with a marker where it differs per Python."""
    outcome = subprocess.run([*EXPORT, *options], cwd=root, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise PinError(f"uv could not resolve the workspace:\n{outcome.stderr}")
    return outcome.stdout.splitlines()


def upgrade(root: Path, text: str) -> list[str]:
    """Resolve as if nothing were pinned. A failure leaves the file as it was."""
    pyproject = root / "pyproject.toml"
    pyproject.write_text(splice(text, []))
    try:
        return resolve(root, "--upgrade")
    finally:
        pyproject.write_text(text)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the pins, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    mode.add_argument("--upgrade", action="store_true", help="resolve everything again")
    options = parser.parse_args(arguments)
    pyproject = root / "pyproject.toml"
    text = pyproject.read_text()
    pinned = splice(text, upgrade(root, text) if options.upgrade else resolve(root))
    if options.check and pinned != text:
        print("The pins do not match the dependencies. Mend them with: python tools/pin.py", file=sys.stderr)
        return 1
    if pinned != text:
        pyproject.write_text(pinned)
    return 0


if __name__ == "__main__":
    sys.exit(main())
