# libtorrent's DHT: sessions, torrents to announce, BEP 44 items. It reads a JSON
# command a line and answers each with a line, as the scripts beside it do.
# Commands: the table at the end of this file.
import faulthandler
import hashlib
import json
import socket
import sys
import threading
import time

import libtorrent as lt

faulthandler.enable()
out = threading.Lock()


def say(message):
    with out:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def free_port():
    """A fixed port: with port 0 libtorrent may change it later."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def content(alert):
    """The byte string in an item; None where nothing was found."""
    try:
        item = alert.item
    except RuntimeError:
        return None
    if isinstance(item, dict):  # how this binding wraps a mutable item
        item = item.get("value")
    if isinstance(item, str):
        item = item.encode("latin-1")
    return item if isinstance(item, bytes) else None


class Session:
    """One session, which is one node of the DHT. Its alerts wake who waits."""

    def __init__(self, bootstrap):
        self.ses = lt.session({
            "listen_interfaces": "127.0.0.1:%d" % free_port(), "enable_ip_notifier": False,
            "enable_dht": True, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
            "dht_bootstrap_nodes": ",".join(bootstrap),
            "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False, "dht_prefer_verified_node_ids": False,
            "dht_block_ratelimit": 100000, "dht_upload_rate_limit": 10000000,
            "dht_announce_interval": 5,
            "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.dht_operation_notification | lt.alert.category_t.stats_notification,
        })
        self.lock = threading.Condition()
        self.alerts = []
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self):
        while True:
            time.sleep(0.02)  # wait_for_alert of this binding crashes now and then
            got = [self.plain(a) for a in self.ses.pop_alerts()]
            with self.lock:
                self.alerts += [a for a in got if a]
                self.lock.notify_all()

    # An alert lives only until the next pop: take out of it what is needed.
    def plain(self, a):
        kind = type(a).__name__
        if kind == "dht_get_peers_reply_alert":
            return kind, str(a.info_hash), [list(p) for p in a.peers()]
        if kind == "dht_immutable_item_alert":
            return kind, str(a.target), content(a)
        if kind == "dht_mutable_item_alert":
            return kind, bytes(a.key), (content(a), a.seq, a.authoritative)
        if kind == "session_stats_alert":
            return kind, None, a.values["dht.dht_nodes"]
        if kind == "dht_put_alert":
            return kind, None, a.num_success
        return None

    def wait(self, match, seconds=40):
        end = time.time() + seconds
        with self.lock:
            while True:
                for i, a in enumerate(self.alerts):
                    if match(a):
                        return self.alerts.pop(i)
                if not self.lock.wait(max(0, end - time.time())):
                    raise TimeoutError("no such alert")

    def clear(self):
        with self.lock:
            self.alerts = []


sessions = {}


def node(bootstrap=()):
    s = Session(bootstrap)
    name = "session%d" % len(sessions)
    sessions[name] = s
    while not (s.ses.listen_port() and s.ses.is_dht_running()):
        time.sleep(0.05)
    return {"node": name, "host": "127.0.0.1", "port": s.ses.listen_port()}


def add_node(node, host, port):
    sessions[node].ses.add_dht_node((host, port))


def nodes(node):
    """How many nodes its table has."""
    s = sessions[node]
    s.ses.post_session_stats()
    return s.wait(lambda a: a[0] == "session_stats_alert")[2]


def announce(node, infoHash, port=None):
    """Adds a torrent, which libtorrent then announces under its listen port,
    whatever port the caller has in mind."""
    s = sessions[node]
    p = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + infoHash)
    p.save_path = "/tmp"
    h = s.ses.add_torrent(p)
    h.force_dht_announce()
    return {"port": s.ses.listen_port()}


def lookup(node, infoHash):
    s = sessions[node]
    s.clear()
    s.ses.dht_get_peers(lt.sha1_hash(bytes.fromhex(infoHash)))
    peers = set()
    end = time.time() + 3
    while time.time() < end:
        try:
            a = s.wait(lambda a: a[0] == "dht_get_peers_reply_alert" and a[1] == infoHash, 1)
        except TimeoutError:
            if peers:
                break
            continue
        peers |= {tuple(p) for p in a[2]}
    return {"peers": [{"host": h, "port": p} for h, p in peers]}


def keys(seed):
    h = bytearray(hashlib.sha512(bytes.fromhex(seed)).digest())
    h[0] &= 248
    h[31] &= 63
    h[31] |= 64
    return bytes(h)


def put(node, value, seed=None, publicKey=None, salt=""):
    s = sessions[node]
    s.clear()
    data = bytes.fromhex(value).decode("latin-1")
    target = None
    if seed:
        s.ses.dht_put_mutable_item(keys(seed), bytes.fromhex(publicKey), data, bytes.fromhex(salt).decode("latin-1"))
    else:
        target = str(s.ses.dht_put_immutable_item(data))
    return {"target": target, "stored": s.wait(lambda a: a[0] == "dht_put_alert")[2]}


def get(node, target=None, publicKey=None, salt=""):
    s = sessions[node]
    s.clear()
    if publicKey:
        key = bytes.fromhex(publicKey)
        s.ses.dht_get_mutable_item(key, bytes.fromhex(salt).decode("latin-1"))
        item, seq, _ = s.wait(lambda a: a[0] == "dht_mutable_item_alert" and a[1] == key and a[2][2])[2]
    else:
        s.ses.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(target)))
        item, seq = s.wait(lambda a: a[0] == "dht_immutable_item_alert" and a[1] == target)[2], 0
    if item is None:
        raise LookupError("not found")
    return {"value": item.hex(), "seq": seq}


commands = {
    "node": node, "addNode": add_node, "nodes": nodes, "announce": announce, "lookup": lookup, "put": put, "get": get,
}


def run(call):
    try:
        say({"id": call["id"], "result": commands[call["method"]](**(call.get("params") or {}))})
    except Exception as e:  # the test reads what went wrong
        say({"id": call["id"], "error": {"message": "%s: %s" % (type(e).__name__, e)}})


say({"event": "ready", "data": {"version": lt.__version__}})
for line in sys.stdin:
    threading.Thread(target=run, args=(json.loads(line),), daemon=True).start()
