"""The registry's numbers over HTTP: a page, JSON, badges, health, metrics.

There is no list of nodes, names or tags here, for nobody.

@see: protocol notes of the registry, I{HTTP}.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.http import FORBIDDEN, INTERNAL_SERVER_ERROR, NOT_ALLOWED, NOT_FOUND, OK
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from pilot.exposition import CONTENT_TYPE
from pilot.registry import metrics
from pilot.registry.directory import same_text
from pilot.registry.listening import plain_host
from pilot.registry.relaytable import RelayTable
from pilot.registry.server import RegistryFactory
from pilot.registry.site import QuietSite

MAX_VERSIONS = 100
"""Version labels shown; the rest counts as C{other}."""

_NO_VERSION = "<1.7.0"  # what the reference calls a node that reports none
_CACHE_ABOVE, _CACHE_FOR = 1000, 1.0  # nodes; seconds
_PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_ANYWHERE = {"Access-Control-Allow-Origin": "*"}


class Dashboard(Resource):
    """All of it; a leaf, since there are few paths."""

    isLeaf = True

    def __init__(self, factory: RegistryFactory, beacon: RelayTable, token: str) -> None:
        """@param token: shows networks in the statistics; C{""} for nobody."""
        super().__init__()
        self._factory = factory
        self._beacon = beacon
        self._token = token
        self._cached: tuple[float, dict[str, Any]] | None = None
        self._pages: dict[str, Callable[[Request], bytes | int]] = {
            "/": self._page,
            "/api/stats": self._stats,
            "/healthz": self._health,
            "/api/badge/nodes": lambda r: self._badge(r, "online nodes", self._online()),
            "/api/badge/trust": lambda r: self._badge(r, "trust links", self._links()),
            "/api/badge/requests": lambda r: self._badge(r, "requests", self._requests()),
            "/api/snapshot": self._snapshot,
            "/metrics": self._metrics,
        }

    def render(self, request: Request) -> bytes | int:
        """Answer a request, whatever its method."""
        page = self._pages.get(request.path.decode("latin-1"))
        if page is None:
            return _answer(request, "404 page not found\n", _PLAIN, NOT_FOUND)
        return page(request)

    # -- pages -----------------------------------------------------------------------------------

    def _page(self, request: Request) -> bytes:
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
            " script-src 'unsafe-inline'; connect-src 'self'",
            "X-Content-Type-Options": "nosniff",
        }
        return _answer(request, _PAGE, headers)

    def _stats(self, request: Request) -> bytes:
        answer = dict(self._figures())
        given = request.args.get(b"token", [b""])[0].decode("utf-8", "replace")
        if self._token and same_text(given, self._token):
            answer["networks"] = self._networks()
        statistics = self._factory.directory.statistics
        for name, samples in (("hourly", statistics.hourly), ("daily", statistics.daily)):
            if samples:
                answer[name] = [sample._asdict() for sample in samples]
        return _json(request, answer, _ANYWHERE)

    def _health(self, request: Request) -> bytes:
        health = {
            "status": "ok",
            "version": "1.0",
            "nodes_online": self._online(),
            "uptime_seconds": self._uptime(),
        }
        return _json(request, health)

    def _badge(self, request: Request, label: str, count: int) -> bytes:
        headers = {
            "Content-Type": "image/svg+xml",
            "Cache-Control": "no-cache, no-store, must-revalidate",
            **_ANYWHERE,
        }
        return _answer(request, badge(label, short(count)), headers)

    def _metrics(self, request: Request) -> bytes:
        if not _is_local(request):
            return _answer(request, "Forbidden\n", _PLAIN, FORBIDDEN)
        now = self._factory.clock.seconds()
        text = metrics.exposition(self._factory, self._beacon, now)
        return _answer(request, text, {"Content-Type": CONTENT_TYPE})

    def _snapshot(self, request: Request) -> bytes | int:
        """Everything is saved as it happens; this waits for what is under way."""
        if not _is_local(request):
            return _answer(request, "Forbidden\n", _PLAIN, FORBIDDEN)
        if request.method != b"POST":
            return _answer(request, "Method not allowed\n", _PLAIN, NOT_ALLOWED)
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)

        def saved(_: None) -> None:
            if not gone:
                answer = {"message": "snapshot saved successfully", "status": "ok"}
                request.write(_json(request, answer))
                request.finish()

        def failed(_: Any) -> None:
            if not gone:
                text = "the database cannot be written\n"
                request.write(_answer(request, text, _PLAIN, INTERNAL_SERVER_ERROR))
                request.finish()

        self._factory.store.commit([]).addCallbacks(saved, failed)
        return NOT_DONE_YET

    # -- numbers ---------------------------------------------------------------------------------

    def _figures(self) -> dict[str, Any]:
        """Numbers that take a look at every node are not counted for each request anew."""
        now, directory = self._factory.clock.seconds(), self._factory.directory
        many = len(directory.nodes) > _CACHE_ABOVE
        if self._cached is None or not (many and 0 <= now - self._cached[0] < _CACHE_FOR):
            self._cached = (
                now,
                {
                    "total_nodes": len(directory.nodes),
                    "active_nodes": self._online(),
                    "total_trust_links": self._links(),
                    "versions": self._versions(),
                },
            )
        return {
            **self._cached[1],
            "total_requests": self._requests(),
            "uptime_secs": self._uptime(),
        }

    def _versions(self) -> dict[str, int]:
        counts = Counter(node.version for node in self._factory.directory.nodes)
        labels: Counter[str] = Counter()
        for version, count in counts.most_common(MAX_VERSIONS):
            label = version if version.startswith("v") else f"v{version}"
            labels[label if version else _NO_VERSION] += count
        rest = counts.total() - labels.total()
        if rest:
            labels["other"] = rest
        return labels

    def _networks(self) -> list[dict[str, Any]]:
        directory = self._factory.directory
        shown = []
        for network in sorted(directory.networks, key=lambda n: n.id):
            if network.id:
                members: Any = directory.networks.members(network.id)
                online = sum(node_id in directory.nodes.live for node_id in members)
                links = directory.trust.links_within(members)
                requests = directory.statistics.by_network[network.id]
            else:
                members, online = directory.nodes.live, self._online()
                links, requests = self._links(), self._requests()
            shown.append(
                {
                    "id": network.id,
                    "name": network.name,
                    "members": len(members),
                    "online": online,
                    "requests": requests,
                    "trust_links": links,
                }
            )
        return shown

    def _online(self) -> int:
        return self._factory.directory.online(self._factory.clock.seconds())

    def _links(self) -> int:
        return self._factory.directory.trust.pairs

    def _requests(self) -> int:
        return self._factory.directory.statistics.requests.total()

    def _uptime(self) -> int:
        statistics = self._factory.directory.statistics
        return max(0, int(self._factory.clock.seconds() - statistics.started))


def make_site(factory: RegistryFactory, beacon: RelayTable, token: str) -> Site:
    """@return: what listens on the dashboard's port."""
    return QuietSite(Dashboard(factory, beacon, token), timeout=60, reactor=factory.clock)


def short(count: int) -> str:
    """@return: a number as a badge shows it: C{999}, C{1.2K}, C{3.0M}, C{1.0B}."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def badge(label: str, value: str) -> str:
    """@return: an SVG with C{label} left and C{value} right."""
    left, right = 7 * len(label) + 12, 8 * len(value) + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img"'
        f' aria-label="{label}: {value}"><title>{label}: {value}</title>'
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="#2a7"/>'
        '<g fill="#fff" text-anchor="middle" font-family="sans-serif" font-size="12">'
        f'<text x="{left / 2:g}" y="14">{label}</text>'
        f'<text x="{left + right / 2:g}" y="14">{value}</text></g></svg>\n'
    )


def _is_local(request: Request) -> bool:
    """Whether the client is on this machine, behind a proxy on it too."""
    client = request.getClientAddress()
    if not isinstance(client, IPv4Address | IPv6Address):
        return False
    host = plain_host(client.host)
    if host in ("127.0.0.1", "::1"):
        host = request.getHeader("x-real-ip") or host
    return host in ("127.0.0.1", "::1")


def _json(request: Request, value: Any, headers: dict[str, str] | None = None) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return _answer(request, text, {"Content-Type": "application/json", **(headers or {})})


def _answer(request: Request, text: str, headers: dict[str, str], code: int = OK) -> bytes:
    request.setResponseCode(code)
    for name, value in headers.items():
        request.setHeader(name, value)
    return text.encode("utf-8")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Pilot rendezvous</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 3em auto; max-width: 40em; padding: 0 1em;
  color: #222; background: #fafafa }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9em, 1fr)); gap: 1em }
dl div { background: #fff; border: 1px solid #ddd; border-radius: .4em; padding: .8em 1em }
dt { font-size: .8em; color: #666 } dd { margin: 0; font-size: 1.8em }
table { border-collapse: collapse; width: 100% } td { border-top: 1px solid #ddd; padding: .3em }
td + td { text-align: right }
</style></head><body>
<h1>Pilot rendezvous</h1>
<dl id="figures"></dl>
<h2>Versions</h2><table id="versions"></table>
<p id="state" role="status"></p>
<script>
const names = { active_nodes: "nodes online", total_nodes: "nodes",
  total_trust_links: "trust links", total_requests: "requests", uptime_secs: "seconds up" };
function cell(tag, text) { const e = document.createElement(tag); e.textContent = text; return e }
async function show() {
  const state = document.getElementById("state");
  try {
    const stats = await (await fetch("api/stats" + location.search)).json();
    document.getElementById("figures").replaceChildren(...Object.entries(names).map(([k, n]) => {
      const box = document.createElement("div");
      box.append(cell("dt", n), cell("dd", stats[k].toLocaleString())); return box }));
    document.getElementById("versions").replaceChildren(
      ...Object.entries(stats.versions).map(([v, n]) => {
        const row = document.createElement("tr"); row.append(cell("td", v), cell("td", n));
        return row }));
    state.textContent = "";
  } catch (error) { state.textContent = "no answer from the registry" }
}
show(); setInterval(show, 5000);
</script></body></html>
"""
