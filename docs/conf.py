"""How Sphinx builds the documentation: `nox -s docs`."""

import tomllib
from pathlib import Path

CORE = Path(__file__).parent.parent / "packages" / "pilotis-core" / "pyproject.toml"

project = "Pilotis"
author = "The Pilotis developers"
release = tomllib.loads(CORE.read_text())["project"]["version"]
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"Pilotis {release}"
