"""The environment of a container: its variables, volumes, read-only root, user and service account token."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.deploy.cluster import NODE, Cluster

PAUSE_S = 0.3
Pod = dict[str, Any]

BIND = """set -e
mount --make-rprivate /
mkdir -p "$POD/over"
mount -t tmpfs tmpfs "$POD/over"
bind() {  # a folder or a file; where the place does not exist, the nearest folder above it gets a layer of its own
  if [ ! -e "$2" ]; then
    above=$(dirname "$2")
    while [ ! -d "$above" ]; do above=$(dirname "$above"); done
    layer=$(mktemp -d "$POD/over/XXXXXX")
    chmod 755 "$layer"
    mkdir "$layer/upper" "$layer/work"
    mount -t overlay -o "lowerdir=$above,upperdir=$layer/upper,workdir=$layer/work" overlay "$above"
    mkdir -p "$2"
  fi
  mount --bind "$1" "$2"
}
"""
READ_ONLY = "mount -o remount,bind,ro /\n"
AS_USER = """exec setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs \
--securebits +no_setuid_fixup --bounding-set -all,+{reads} --inh-caps -all,+{reads} --ambient-caps -all,+{reads} \
-- "$@"
"""
"""access(2) respects a capability of a user other than root only if `no_setuid_fixup` is set."""
READS = "dac_read_search"
"""A checkout and its Python may be in a home folder that only its owner may enter. Images have no such folder."""


class WaitingError(Exception):
    """An object that the pod names does not exist yet."""


@dataclass
class Surroundings:
    """The environment of `pod`'s containers, with files in `folder`. `image`: environment variables of every image."""

    cluster: Cluster
    image: Mapping[str, str]
    pod: Pod
    folder: Path

    @property
    def space(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    def environment(self, container: Pod) -> dict[str, str]:
        found = dict(self.image) | {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.cluster.port),
            "HOSTNAME": self.pod["metadata"]["name"],
        }
        for each in container.get("envFrom", ()):
            kind, source = (
                ("secrets", each["secretRef"]) if "secretRef" in each else ("configmaps", each["configMapRef"])
            )
            values = self._values(kind, source["name"], optional=source.get("optional", False))
            found |= {each.get("prefix", "") + key: value.decode() for key, value in values.items()}
        for each in container.get("env", ()):
            value = self._value(each, container)
            if value is not None:
                found[each["name"]] = expanded(value, found)
        return found

    def _value(self, each: Pod, container: Pod) -> str | None:
        source = each.get("valueFrom")
        if source is None:
            return each.get("value", "")
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            kind, _, resource = source["resourceFieldRef"]["resource"].partition(".")
            return container["resources"][kind][resource]
        kind, reference = next(iter(source.items()))
        values = self._values(
            {"secretKeyRef": "secrets", "configMapKeyRef": "configmaps"}[kind],
            reference["name"],
            optional=reference.get("optional", False),
        )
        if reference["key"] in values:
            return values[reference["key"]].decode()
        if reference.get("optional", False):
            return None
        raise WaitingError(f"couldn't find key {reference['key']} in {kind} {self.space}/{reference['name']}")

    def _field(self, path: str) -> str:
        if path == "status.podIP":
            return "127.0.0.1"
        labelled = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if labelled:
            return self.pod["metadata"].get(labelled[1], {}).get(labelled[2], "")
        group, _, name = path.partition(".")
        return NODE if path == "spec.nodeName" else str(self.pod[group].get(name, ""))

    def _values(self, kind: str, name: str, *, optional: bool) -> dict[str, bytes]:
        answer = self._ask("GET", f"/api/v1/namespaces/{self.space}/{kind}/{name}")
        if answer.status_code == requests.codes.not_found:
            if optional:
                return {}
            raise WaitingError(f'{kind[:-1]} "{name}" not found')
        answer.raise_for_status()
        found = answer.json()
        decoded = {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}
        for key, value in found.get("data", {}).items():
            decoded[key] = base64.b64decode(value) if kind == "secrets" else value.encode()
        return decoded

    def _ask(self, *args: Any) -> requests.Response:
        while True:
            try:
                return self.cluster.ask(*args)
            except requests.RequestException:
                time.sleep(PAUSE_S)

    def script(self, container: Pod) -> str:
        """Shell script that runs in the container's namespaces before its command."""
        spec = self.pod["spec"]
        security = spec.get("securityContext", {}) | container.get("securityContext", {})
        user, group = security.get("runAsUser", 0), security.get("runAsGroup", security.get("runAsUser", 0))
        volumes = {each["name"]: each for each in spec.get("volumes", ())}
        folders = {
            each["name"]: self._volume(volumes[each["name"]], user) for each in container.get("volumeMounts", ())
        }
        lines = [BIND]
        for mount in container.get("volumeMounts", ()):
            source = folders[mount["name"]] / mount.get("subPath", "")
            lines.append(f"bind '{source}' '{mount['mountPath']}'\n")
        services = self._ask("GET", f"/api/v1/namespaces/{self.space}/services").json()["items"]
        names = [each["metadata"]["name"] for each in services]
        hosts = [f"{name} {name}.{self.space}.svc {name}.{self.space}.svc.cluster.local" for name in names]
        file = self.folder / "hosts"
        file.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.0.1 {each}\n" for each in hosts))
        lines.append(f"mount --bind '{file}' /etc/hosts\n")
        if shared := self.image.get("NUMBA_CACHE_DIR"):
            lines.append(f"mount --bind '{shared}' '{shared}'\n")
        if security.get("readOnlyRootFilesystem"):
            lines.append(READ_ONLY)
        lines.append(AS_USER.format(user=user, group=group, reads=READS) if user else 'exec "$@"\n')
        return "".join(lines)

    def _volume(self, volume: Pod, user: int) -> Path:
        folder = self.folder / "volumes" / volume["name"]
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            folder = self.cluster.folder / "claims" / self.space / volume["persistentVolumeClaim"]["claimName"]
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user, self.pod["spec"].get("securityContext", {}).get("fsGroup", -1))
        for source in volume.get("projected", {}).get("sources", [volume]):
            for path, content in self._files(source).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
                os.chown(folder / path, user, -1)
        return folder

    def _files(self, source: Pod) -> dict[str, bytes]:
        if "serviceAccountToken" in source:
            account = self.pod["spec"]["serviceAccountName"]
            path = f"/api/v1/namespaces/{self.space}/serviceaccounts/{account}/token"
            spec = {"expirationSeconds": 86400, "audiences": []}
            request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            answer = self._ask("POST", path, request)
            answer.raise_for_status()
            return {source["serviceAccountToken"]["path"]: answer.json()["status"]["token"].encode()}
        if "downwardAPI" in source:
            items = source["downwardAPI"]["items"]
            return {each["path"]: self._field(each["fieldRef"]["fieldPath"]).encode() for each in items}
        for kind, folder in (("secret", "secrets"), ("configMap", "configmaps")):
            if kind in source:
                named = source[kind]
                name = named.get("name") or named["secretName"]
                values = self._values(folder, name, optional=named.get("optional", False))
                expected = {each["key"]: each["path"] for each in named.get("items", ())} or {
                    key: key for key in values
                }
                return {path: values[key] for key, path in expected.items() if key in values}
        return {}


def expanded(text: str, environment: Mapping[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], found[0]), text)
