"""A machine of a cluster: scheduler, containerd, kube-proxy, and a kubelet that runs pods in containers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.booted import CONTROL_GROUPS
from tests.deploy.cluster import ADDRESS, NODE, PAUSE_S, START_S, Cluster
from tests.deploy.commands import completed
from tests.testbed.patience import patient

NETWORK = "10.244.0.0/24"
PLUGINS = Path("/usr/lib/cni")
DOMAIN = "cluster.local"
CLEAN_S = 60.0
SANDBOX = "localhost/irt-test-sandbox:latest"
"""Image of a pod's sandbox container, which sleeps."""
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Command that gives the kubelet its own processes and mounts, which end with its first process."""
STARTED = """set -e
mkdir -p /run/containerd /var/log
mount -t tmpfs tmpfs /run/containerd
mount -t tmpfs tmpfs /var/log
containerd --config "$1/containerd.toml" >>"$1/containerd.log" 2>&1 &
shift
"$@" &
wait -n
"""
"""Script of process 1, which reaps orphans. It ends as soon as containerd or the kubelet ends."""
INWARDS = f"""set -e
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
iptables -t nat -A PREROUTING -s {NETWORK} -d {ADDRESS} -p tcp -j DNAT --to-destination 127.0.0.1
iptables -t nat -A INPUT -s {NETWORK} -d 127.0.0.1 -j SNAT --to-source 127.0.0.1
"""
"""Forwards requests of pods to this machine's address to servers that listen only on 127.0.0.1."""


@dataclass
class Node:
    cluster: Cluster

    @property
    def folder(self) -> Path:
        return self.cluster.folder / "node"

    @contextmanager
    def running(self) -> Iterator[Node]:
        groups = self._groups()
        try:
            self._start(groups)
            yield self
        finally:
            for name in ("kubelet", "kube-proxy", "kube-scheduler"):
                self.cluster.end(name)
            for group in groups:
                _remove(group)

    def load(self, images: Sequence[str], environment: Mapping[str, str]) -> float:
        """Copy podman's images into containerd. Returns the seconds it took."""
        began = time.monotonic()
        save = f"podman save --quiet --multi-image-archive {' '.join(images)}"
        take = f"ctr --address {self._socket} --namespace k8s.io images import -"
        loaded = completed(["bash", "-c", f"set -o pipefail; {save} | {take}"], environment)
        assert loaded.returncode == 0, loaded.stdout
        return time.monotonic() - began

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def _socket(self) -> Path:
        return self.folder / "containerd.sock"

    def _start(self, groups: Sequence[Path]) -> None:
        (self.folder / "cni").mkdir(parents=True)
        self._write_settings(groups[0].name)
        subprocess.run(["bash", "-c", INWARDS], check=True)
        for name in ("kube-scheduler", "kube-proxy"):
            self.cluster.launch(name, f"--config={self.folder / f'{name}.json'}")
        self.cluster.launch(
            "kubelet",
            f"--config={self.folder / 'kubelet.json'}",
            f"--kubeconfig={self.cluster.kubeconfig_of_node}",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self.folder / 'kubelet'}",
            through=[*ALONE, "bash", "-c", STARTED, "node", str(self.folder)],
        )
        self.cluster.wait(self._ready, START_S, "the node")

    def _ready(self) -> bool:
        nodes = self.cluster.get("/api/v1/nodes")["items"]
        conditions = [each for node in nodes for each in node["status"].get("conditions", ())]
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return ready and not any(node["spec"].get("taints") for node in nodes)

    def _groups(self) -> list[Path]:
        """Create the node's control group in each controller."""
        groups = []
        for controller in sorted(each for each in CONTROL_GROUPS.iterdir() if (each / "cgroup.procs").exists()):
            if controller.is_symlink():
                continue
            group = controller / self.cluster.folder.name
            group.mkdir()
            groups.append(group)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (controller / name).exists():
                    (group / name).write_text((controller / name).read_text())
        return groups

    def _write_settings(self, group: str) -> None:
        kubeconfig = {"kubeconfig": str(self.cluster.kubeconfig)}
        self._write("kube-scheduler.json", {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": kubeconfig,
            "leaderElection": {"leaderElect": False},
        })  # fmt: skip
        self._write("kube-proxy.json", {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": kubeconfig,
            "clusterCIDR": NETWORK,
            "hostnameOverride": NODE,
            "mode": "iptables",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        })  # fmt: skip
        (self.folder / "resolv.conf").write_text("")
        self._write("kubelet.json", {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{group}",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "clusterDomain": DOMAIN,
            "clusterDNS": [ADDRESS],
            "resolvConf": str(self.folder / "resolv.conf"),
            "podLogsDir": str(self.folder / "logs"),
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "200Mi"},
        })  # fmt: skip
        self._write("cni/10-pods.conflist", {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "subnet": NETWORK,
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(self.folder / "addresses"),
                },
            }],
        })  # fmt: skip
        (self.folder / "containerd.toml").write_text(f"""version = 2
root = "{self.folder / "containerd"}"
[grpc]
address = "{self._socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{PLUGINS}"
conf_dir = "{self.folder / "cni"}"
""")

    def _write(self, name: str, content: object) -> None:
        (self.folder / name).write_text(json.dumps(content))


def _remove(group: Path) -> None:
    """Remove a group and the groups below it, once the kernel has ended their last processes."""
    began = time.monotonic()
    while group.exists():
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        assert time.monotonic() - began < patient(CLEAN_S), f"processes are left in {group}"
        time.sleep(PAUSE_S)
