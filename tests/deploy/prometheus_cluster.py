"""A Kubernetes API that knows pods and nodes: enough of it for a real Prometheus to discover its targets through."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LISTS = {
    "pods": ("v1", "PodList"),
    "nodes": ("v1", "NodeList"),
    "services": ("v1", "ServiceList"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSliceList"),
}


def pod(namespace, name, labels, ports, node="node-a", phase="Running"):
    """A pod on this machine; `ports` are names with numbers."""
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "main",
                    "ports": [
                        {"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()
                    ],
                }
            ],
        },
        "status": {"phase": phase, "podIP": "127.0.0.1", "hostIP": "127.0.0.1"},
    }


def node(name, kubelet_port):
    return {
        "metadata": {"name": name, "uid": name},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        },
    }


class Cluster:
    """Serves `pods` and `nodes` as they were when it started, with the selectors that it is asked with."""

    def __init__(self, pods, nodes):
        self.objects = {"pods": pods, "nodes": nodes}
        self.asked = set()
        self.stopped = threading.Event()
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                cluster.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        address = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        parts = address.path.strip("/").split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else None
        resource = parts[-1]
        self.asked.add((resource, namespace))
        if resource not in LISTS:
            self.send(request, 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})
        elif query.get("sendInitialEvents") == "true":
            # as servers say that cannot stream lists; the client then asks for a list
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}
            self.send(request, 422, status)
        elif query.get("watch") in ("1", "true"):
            request.send_response(200)
            request.send_header("Content-Type", "application/json")
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.flush()
            self.stopped.wait()
        else:
            version, kind = LISTS[resource]
            items = [item for item in self.objects.get(resource, []) if matches(item, namespace, query)]
            body = {"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}
            self.send(request, 200, body)

    @staticmethod
    def send(request, status, body):
        data = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


def matches(item, namespace, query):
    meta = item["metadata"]
    wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
    labels = meta.get("labels", {})
    return meta.get("namespace") == namespace and all(labels.get(name) == value for name, value in wanted.items())
