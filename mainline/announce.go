package mainline

import (
	"context"
	"net/netip"
	"time"
)

// AnnounceOptions describe an announce. The zero value announces the port that
// the node's own datagrams come from.
type AnnounceOptions struct {
	// Port is where the peer listens; 0 is the source port of our datagrams, as
	// each node sees it (implied_port).
	Port uint16
	// Seed says that the peer has the whole torrent (BEP 33).
	Seed bool
}

// Announce tells the nodes nearest to an info-hash that this host is a peer of
// the torrent. It looks them up first, unless a lookup, announce or get of the
// same hash within the last five minutes left their tokens. The error is that
// of [Stored] if no node stored it; the result is valid with an error too.
//
// Every socket announces for itself (BEP 45). With Config.Host, the node keeps
// the announce itself as well.
func (n *Node) Announce(ctx context.Context, infoHash ID, opts AnnounceOptions) (Stored, error) {
	st := Stored{Target: infoHash}
	if err := n.checkID(infoHash); err != nil {
		return st, err
	}
	if n.cfg.Host.IsValid() {
		port := opts.Port
		if port == 0 {
			port = n.Addr().Port()
		}
		own := netip.AddrPortFrom(n.cfg.Host, port)
		n.mu.Lock()
		n.announced(time.Now(), infoHash.key, own, opts.Seed, own)
		n.mu.Unlock()
	}
	req := func(h holder) request {
		r := request{
			method:  methodAnnounce,
			target:  infoHash.key,
			token:   h.token,
			port:    opts.Port,
			implied: opts.Port == 0,
			seed:    opts.Seed,
		}
		if r.implied { // libtorrent wants a port all the same
			r.port = n.sockets[h.socket].conn.LocalAddr().Port()
		}
		return r
	}
	if holders, ok := n.remembered(infoHash.key, n.sockets); ok {
		st, err := n.store(ctx, infoHash.key, holders, req)
		if !st.stale() || ctx.Err() != nil {
			return st, err
		}
		n.forgetTokens(infoHash.key)
	}
	w := n.newWalk(request{method: methodGetPeers, target: infoHash.key}, n.sockets)
	if err := w.run(ctx); err != nil {
		return st, err
	}
	n.finished(w)
	return n.store(ctx, infoHash.key, w.nearestHolders(), req)
}

// announced keeps a peer. The caller holds the mutex.
func (n *Node) announced(now time.Time, infoHash key, peer netip.AddrPort, seed bool, from netip.AddrPort) {
	now = n.clock.Now(now)
	n.peers[family(peer.Addr().Is6())].announce(now, infoHash, peer, seed)
	n.journal.peer(now, infoHash[:n.idLen], peer, seed)
	if len(n.subscribers) > 0 {
		n.emit(Event{Kind: EventAnnounce, ID: n.id(infoHash), Addr: peer, From: from})
	}
}
