"""Write the parts that pods share into deploy/k8s: `python -m deploy.write_pods`, from the repository's root.

Each manifest is complete, so that `kubectl apply -f` accepts each file alone. This module defines the settings of a pod
and the container that waits for the schema; the daemon's manifest defines the pod of a run.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent, indent

ROOT = Path(__file__).parents[1]
K8S = Path("deploy/k8s")
DAEMON = K8S / "base/dagster-daemon.yaml"
LAUNCHER = K8S / "base/irt-settings.yaml"
SETTINGS = """\
- configMapRef: {name: irt-settings, optional: true}
- configMapRef: {name: irt-config, optional: true}
- configMapRef: {name: report-config, optional: true}
- secretRef: {name: aws-s3-credentials, optional: true}
- secretRef: {name: irt-alert-credentials, optional: true}
"""
"""Sources of the installation's settings; the last source that defines a setting wins."""
DATABASE = """\
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: seedtest-db-credentials, key: DATABASE_URL}}
"""
CONFINED = """\
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: home, mountPath: /var/lib/irt}
  - {name: cache, mountPath: /var/cache/irt}
  - {name: tmp, mountPath: /tmp}
"""
"""Rights of a container, and the only folders to which it writes."""
SCHEMA = f"""\
- name: schema # waits until irt-migrate has migrated the schema to this release
  image: irt-assets
  imagePullPolicy: IfNotPresent
  args: [sh, -c, "until irt health --schema; do sleep 5; done"]
  envFrom:
{indent(SETTINGS, "    ")}\
  env:
{indent(DATABASE, "    ")}\
  resources:
    requests: {{cpu: 50m, memory: 128Mi}}
    limits: {{memory: 512Mi}}
{indent(CONFINED, "  ")}"""
CONTAINER_OF_A_RUN = ("envFrom", "env", "securityContext", "volumeMounts")
POD_OF_A_RUN = ("securityContext", "volumes")


def files() -> Iterator[tuple[Path, str]]:
    """Yield the manifests whose pods use the database: path, relative to the repository, and text."""
    texts = {path.relative_to(ROOT): path.read_text("utf-8") for path in sorted((ROOT / K8S).rglob("*.yaml"))}
    written = {
        path: _with_shared_parts(text) for path, text in texts.items() if "{name: seedtest-db-credentials" in text
    }
    daemon, launcher = written[DAEMON], written[LAUNCHER]
    container = daemon.split("      containers:\n")[1]
    config, settings = launcher.split("    run_k8s_config:\n")
    own, of_the_pod = settings.split("      pod_spec_config:\n")
    for key in CONTAINER_OF_A_RUN:
        own = _replace(own, key, _block(container, key))
    for key in POD_OF_A_RUN:
        of_the_pod = _replace(of_the_pod, key, _block(daemon, key))
    written[LAUNCHER] = f"{config}    run_k8s_config:\n{own}      pod_spec_config:\n{of_the_pod}"
    yield from written.items()


def _with_shared_parts(text: str) -> str:
    """Return a manifest with the shared settings and init container; settings that only this pod has follow."""
    text = _replace(text, "initContainers", SCHEMA)

    def settings(found: re.Match[str]) -> str:
        own = [line for line in dedent(found[2]).splitlines(keepends=True) if line not in SETTINGS]
        return f"{found[1]}envFrom:\n" + indent(SETTINGS + "".join(own), found[1] + "  ")

    return re.sub(r"^( *)envFrom:\n((?:\1 .*\n)+)", settings, text, flags=re.M)


def _block(text: str, key: str) -> str:
    """Return the block under the first `key` of a manifest, without indentation."""
    found = re.search(rf"^( *){key}:\n((?:\1 .*\n)+)", text, re.M)
    if found is None:
        raise ValueError(f"the manifest must contain {key}:, got {text!r}")
    return dedent(found[2])


def _replace(text: str, key: str, block: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}{key}:\n" + indent(block, found[1] + "  ")

    return re.sub(rf"^( *){key}:\n(?:\1 .*\n)+", replaced, text, flags=re.M)


if __name__ == "__main__":
    for path, text in files():
        (ROOT / path).write_text(text, "utf-8")
