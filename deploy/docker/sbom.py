"""Print the contents of an image as a CycloneDX document; `make images` calls `sbom.py ENGINE IMAGE`.

It lists Debian packages from dpkg and, if the image has our Python, its packages from their metadata. Uses only the
standard library.
"""

import json
import subprocess
import sys
from urllib.parse import quote

DEBIAN = ("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n")
PYTHON = (
    "/opt/irt/bin/python",
    "-c",
    "from importlib.metadata import distributions\nfor d in distributions(): print(d.name, d.version, sep='\\t')",
)
PYTHON_IF_INSTALLED = ("sh", "-c", 'test ! -x /opt/irt/bin/python || exec "$@"', "sh", *PYTHON)


def main(engine: str, image: str) -> None:
    digest = _output(engine, "image", "inspect", "--format", "{{.Id}}", image).strip().removeprefix("sha256:")
    inside = (engine, "run", "--rm", "--network=none", "--read-only", "--entrypoint")
    debian = _output(*inside, DEBIAN[0], image, *DEBIAN[1:])
    python = _output(*inside, PYTHON_IF_INSTALLED[0], image, *PYTHON_IF_INSTALLED[1:])
    json.dump(document(image, digest, debian, python), sys.stdout, indent=1)


def document(image: str, digest: str, debian: str, python: str) -> dict[str, object]:
    """Build the document from tables of name, version and, for Debian, architecture."""
    components = []
    for line in sorted(debian.splitlines()):
        name, version, architecture = line.split("\t")
        components.append(_library(name, version, f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"))
    for line in sorted(python.splitlines()):
        name, version = line.split("\t")
        known_as = name.lower().replace("_", "-")
        components.append(_library(name, version, f"pkg:pypi/{known_as}@{quote(version)}"))
    image_itself = {"type": "container", "name": image, "bom-ref": image, "version": f"sha256:{digest}"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": image_itself},
        "components": components,
    }


def _library(name: str, version: str, url: str) -> dict[str, str]:
    return {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
